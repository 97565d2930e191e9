// Fuzzes the encoder: any words must come back, from at most bound() bytes, the same bytes from every instruction set
// and any number of threads. An input is eight bytes of control and some words, which are repeated to the size that
// the control asks for.
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "../tests/forge.h"

using namespace regrain;
using namespace regrain::testing;

namespace {

constexpr std::uint32_t kSeed = 7;
constexpr std::uint64_t kMostWords = 150'000;  // three blocks

struct Control {
  std::uint8_t layout;            // floats, then integers
  std::uint8_t noise;             // bits of each word that differ from repetition to repetition
  std::uint8_t zeros;             // rows (one in so many) of zeros
  std::uint8_t shift;             // from row to row, of the field
  std::uint16_t rows, row_words;  // rows 0: one row of all
};
static_assert(sizeof(Control) == 8);

void require(bool good, const char* what) {
  if (good) return;
  std::fprintf(stderr, "%s, on %s\n", what, instruction_set());
  std::abort();
}

Buffer make_words(const Control& control, const Layout& layout, const Buffer& seed_words, std::uint64_t rows,
                  std::uint64_t row_words) {
  const unsigned bytes = layout.word_bytes;
  const std::uint64_t pattern = seed_words.size() / bytes;
  Random random{control.noise};
  Buffer words(rows * row_words * bytes);
  for (std::uint64_t i = 0; i < rows * row_words; ++i) {
    const std::uint64_t row = i / row_words;
    std::uint64_t word = 0;
    std::memcpy(&word, seed_words.data() + i % pattern * bytes, bytes);
    if (i >= pattern && control.noise % 65 != 0) word ^= random.next() >> (64 - control.noise % 65);
    word += row * (control.shift % 8) << layout.mantissa_bits;
    if (control.zeros != 0 && row % control.zeros == 1) word = 0;
    std::memcpy(words.data() + i * bytes, &word, bytes);
  }
  return words;
}

void check_decoded(const Buffer& payload, const Buffer& words, const Layout& layout, std::uint64_t first,
                   std::uint64_t count, bool whole) {
  const unsigned bytes = layout.word_bytes;
  const auto exact = std::make_unique<std::uint8_t[]>(payload.size()),
             out = std::make_unique<std::uint8_t[]>(count * bytes);
  std::copy(payload.begin(), payload.end(), exact.get());
  const DecodeJob job{{exact.get(), -1, 0, payload.size()}, kSeed, layout.word_bytes, out.get(), first, count, whole};
  const Outcome outcome = decode({&job, 1}, 1);
  require(!outcome, describe(outcome.fault));
  require(std::equal(out.get(), out.get() + count * bytes, words.data() + first * bytes),
          "decoded words must be the encoded ones");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Control control{};
  if (size < sizeof control) return 0;
  std::memcpy(&control, data, sizeof control);
  Layout layout = kFloats[control.layout % 9 % 5];
  if (control.layout % 9 >= 5) layout = {Family::integer, static_cast<std::uint8_t>(1u << (control.layout % 9 - 5)), 0};
  Buffer seed_words(data + sizeof control, data + size);
  seed_words.resize((seed_words.size() / layout.word_bytes + 1) * layout.word_bytes, 0);
  const std::uint64_t rows = std::max<std::uint64_t>(control.rows, 1);
  const std::uint64_t row_words = control.rows == 0 ? seed_words.size() / layout.word_bytes + control.row_words
                                                    : std::max<std::uint64_t>(control.row_words, 1);
  if (rows * row_words > kMostWords) return 0;
  const Buffer words = make_words(control, layout, seed_words, rows, row_words);
  const std::uint64_t count = rows * row_words;

  Buffer first;
  unsigned threads = 1;
  for (const char* set : instruction_sets()) {
    use_instruction_set(set);
    const auto exact = std::make_unique<std::uint8_t[]>(words.size());  // the encoder must not read past the words
    std::copy(words.begin(), words.end(), exact.get());
    const std::size_t room = bound(count, layout.word_bytes);
    const auto out = std::make_unique<std::uint8_t[]>(room);
    const std::size_t bytes = encode({exact.get(), count, layout.word_bytes, layout.family, layout.mantissa_bits,
                                      control.rows == 0 ? 0 : row_words, kSeed},
                                     out.get(), threads);
    require(bytes <= room && bytes % 8 == 0, "a payload must fit its bound, and have a multiple of 8 bytes");
    const Buffer payload(out.get(), out.get() + bytes);
    if (threads == 1) first = payload;
    require(payload == first, "every instruction set must write the same bytes");
    if (bytes == 0) {
      require(layout.family == Family::integer && layout.word_bytes > 4, "only wide integers may be refused");
    } else {
      check_decoded(payload, words, layout, 0, count, true);
      check_decoded(payload, words, layout, count / 3, (count + 1) / 2, false);
    }
    threads = 2;
  }
  return 0;
}
