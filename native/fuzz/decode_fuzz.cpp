// Fuzzes the decoder with forged payloads. An input is eight bytes of control and a payload; where the control says so,
// lengths, tables and checksums are mended first, as a forger would, so that the inner checks are reached. Every
// instruction set of the machine must then do the same, and so must a file: refuse at the same place, or give the same
// words. What is refused, and the words, must be those of a reader that follows the format's document to the letter.
// Payload and words stand in heap blocks of exactly their size, for the address sanitizer to guard.
#include <cstdio>
#include <cstdlib>
#include <memory>

#include <unistd.h>

#include "../tests/reference.h"
#include "../tests/renew.h"
#include "mutations.h"

using namespace regrain;
using namespace regrain::testing;

namespace {

constexpr std::uint32_t kSeed = 7;
constexpr std::uint64_t kMostBytes = 1 << 18;  // of words, for the fuzzer's speed

enum Flag : std::uint8_t {
  kRenewHead = 1,
  kRenewBlocks = 2,
  kMendLengths = 4,
  kMendTables = 8,
  kThreads = 16,      // two of them
  kLiteral = 32,      // ranges as they are, which may lie outside the tensor
  kOtherSize = 64,    // another word size than the head's
  kOtherCount = 128,  // one word more than the head's
};

constexpr std::uint8_t kCutFile = 4;  // of `jobs`

struct Control {
  std::uint8_t flags, jobs;
  std::uint16_t first[2], words;
};
static_assert(sizeof(Control) == 8);

[[noreturn]] void complain(const char* what, const Outcome& got, const Outcome& wanted) {
  std::fprintf(stderr, "%s: %s (job %zu, block %lld) on %s, %s (job %zu, block %lld) before\n", what,
               describe(got.fault), got.job, static_cast<long long>(got.block), instruction_set(),
               describe(wanted.fault), wanted.job, static_cast<long long>(wanted.block));
  std::abort();
}

struct Range {
  std::uint64_t first, count;
  bool whole;
};

// A payload in a file, behind some other bytes and cut short by `missing` bytes.
Bytes in_file(const Buffer& payload, std::size_t missing) {
  constexpr std::uint64_t kBefore = 13;
  static const int file = fileno(std::tmpfile());
  const ssize_t kept = static_cast<ssize_t>(payload.size() - missing);
  if (ftruncate(file, 0) != 0 || pwrite(file, payload.data(), payload.size() - missing, kBefore) != kept) std::abort();
  return {nullptr, file, kBefore, payload.size()};
}

struct Result {
  Outcome outcome;
  std::vector<Buffer> words;  // none after a fault
};

// Decodes one job for each range. Before, their words are `filler`: whoever leaves one out is found.
Result decode_ranges(const Bytes& payload, unsigned word_bytes, const std::vector<Range>& ranges, unsigned threads,
                     int filler) {
  std::vector<std::unique_ptr<std::uint8_t[]>> outs;
  std::vector<DecodeJob> jobs;
  for (const Range& range : ranges) {
    outs.push_back(std::make_unique<std::uint8_t[]>(range.count * word_bytes));
    std::fill_n(outs.back().get(), range.count * word_bytes, static_cast<std::uint8_t>(filler));
    jobs.push_back({payload, kSeed, static_cast<std::uint8_t>(word_bytes), outs.back().get(), range.first, range.count,
                    range.whole});
  }
  Result result{decode(jobs, threads), {}};
  for (std::size_t j = 0; !result.outcome && j < jobs.size(); ++j)
    result.words.emplace_back(outs[j].get(), outs[j].get() + ranges[j].count * word_bytes);
  return result;
}

// Does so on every instruction set, and from a file; gives the words of all ranges, or nothing.
std::vector<Buffer> decode_everywhere(const Control& control, const Buffer& payload, unsigned word_bytes,
                                      const std::vector<Range>& ranges) {
  const unsigned threads = (control.flags & kThreads) != 0 ? 2 : 1;
  const auto exact = std::make_unique<std::uint8_t[]>(payload.size());
  std::copy(payload.begin(), payload.end(), exact.get());
  const Bytes memory{exact.get(), -1, 0, payload.size()};
  use_instruction_set("portable");
  const Result wanted = decode_ranges(memory, word_bytes, ranges, threads, 0xA5);
  const auto compare = [&](const Result& got, const char* what) {
    // only which of a block's faults comes first may depend on how many blocks are decoded together
    const bool same_place = got.outcome.job == wanted.outcome.job && got.outcome.block == wanted.outcome.block;
    if (static_cast<bool>(got.outcome) != static_cast<bool>(wanted.outcome) || !same_place || got.words != wanted.words)
      complain(what, got.outcome, wanted.outcome);
  };
  for (const char* set : instruction_sets()) {
    use_instruction_set(set);
    compare(decode_ranges(memory, word_bytes, ranges, threads, 0x5A), "instruction sets disagree");
  }
  compare(decode_ranges(in_file(payload, 0), word_bytes, ranges, threads, 0x3C), "file and memory disagree");
  if ((control.jobs & kCutFile) != 0 && !payload.empty()) {
    const Result cut =
        decode_ranges(in_file(payload, 1 + control.first[1] % payload.size()), word_bytes, ranges, threads, 0x3C);
    if (cut.outcome.fault != Fault::unreadable) compare(cut, "a file cut short disagrees");
  }
  return wanted.words;
}

// A payload of indices becomes weights on every instruction set, or is refused where its words are; `words` are all of
// them, none if it is refused. The weights are those of a grid of odd cells, from their exact share of the heap.
void try_weights(const Control& control, const Buffer& payload, unsigned word_bytes, std::uint64_t count,
                 const Buffer& words) {
  const std::uint64_t columns = 1 + control.first[0] % count, across = 1 + control.first[1] % columns;
  const std::uint64_t rows = (count - 1) / columns + 1, down = 1 + control.words % rows;
  std::vector<float> scales(((rows - 1) / down + 1) * ((columns - 1) / across + 1));
  for (std::size_t i = 0; i < scales.size(); ++i) scales[i] = 0.001f * static_cast<float>(1 + i % 100);
  const Grid grid{scales.data(), columns, down, across, static_cast<Weight>(control.jobs % 3)};
  const std::size_t size = count * weight_bytes(grid.type);
  Buffer wanted(size);
  use_instruction_set("portable");
  if (!words.empty()) dequantize(grid, words.data(), word_bytes, 0, count, wanted.data());
  for (const char* set : instruction_sets()) {
    use_instruction_set(set);
    const auto out = std::make_unique<std::uint8_t[]>(size);
    const auto bytes = static_cast<std::uint8_t>(word_bytes);
    const DecodeJob job{in_memory(payload), kSeed, bytes, out.get(), 0, count, true, &grid};
    const Outcome outcome = decode({&job, 1}, 1);
    if (static_cast<bool>(outcome) != words.empty()) complain("words and weights disagree", outcome, {});
    if (!outcome && !std::equal(wanted.begin(), wanted.end(), out.get())) complain("weights differ", outcome, {});
  }
}

void try_payload(const Control& control, const Buffer& payload) {
  unsigned word_bytes = payload.size() > 5 ? payload[5] : 1;
  if (word_bytes != 1 && word_bytes != 2 && word_bytes != 4 && word_bytes != 8) word_bytes = 2;
  std::uint64_t count = payload.size() < 16 ? 1 : read_le<std::uint64_t>(payload.data() + 8);
  if ((control.flags & kOtherSize) != 0) word_bytes = word_bytes == 8 ? 1 : 2 * word_bytes;
  const std::uint64_t most = kMostBytes / word_bytes;

  std::vector<Buffer> whole;
  if (count <= most) {
    const bool other = (control.flags & kOtherCount) != 0;
    const std::uint64_t asked = count + (other ? 1 : 0), first = other ? control.first[0] % 2 : 0;
    whole =
        decode_everywhere(control, payload, word_bytes, std::vector<Range>(1 + control.jobs % 4, {first, asked, true}));
  }
  std::vector<Range> ranges;
  for (const std::uint16_t first : control.first) {
    Range range{first, control.words, false};
    if ((control.flags & kLiteral) == 0) {  // 16-bit fractions of the tensor
      range.first = count / 65536 * first + (count % 65536 * first >> 16);
      const std::uint64_t rest = std::min(count - range.first, most);
      range.count = (rest * control.words + 65535) >> 16;
    }
    if (range.count <= most) ranges.push_back(range);
  }
  if (count <= most && (control.flags & (kOtherSize | kOtherCount)) == 0) {
    const Reference reference(payload, kSeed);
    if ((reference.refused == 0) != !whole.empty() || (!whole.empty() && reference.words != whole[0])) {
      std::fprintf(stderr, "the reference obeys rule %d\n", reference.refused);
      complain("the reference disagrees", {}, {});
    }
  }
  const bool indices = word_bytes <= 2 && payload.size() > 4 && payload[4] == 1;
  if (indices && count != 0 && count <= most && (control.flags & (kOtherSize | kOtherCount)) == 0)
    try_weights(control, payload, word_bytes, count, whole.empty() ? Buffer{} : whole[0]);
  const std::vector<Buffer> parts = decode_everywhere(control, payload, word_bytes, ranges);
  if (whole.empty()) return;
  for (std::size_t j = 1; j < whole.size(); ++j)
    if (whole[j] != whole[0]) complain("jobs differ", {}, {});
  for (std::size_t j = 0; j < parts.size(); ++j)
    if (!std::equal(parts[j].begin(), parts[j].end(),
                    whole[0].begin() + static_cast<std::ptrdiff_t>(ranges[j].first * word_bytes)))
      complain("a range differs from the whole", {}, {});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Control control{};
  if (size < sizeof control) return 0;
  std::memcpy(&control, data, sizeof control);
  Buffer payload(data + sizeof control, data + size);
  if ((control.flags & kMendLengths) != 0) mend_lengths(payload);
  if ((control.flags & kMendTables) != 0) mend_tables(payload);
  if ((control.flags & kRenewBlocks) != 0) renew_blocks(payload, kSeed);
  if ((control.flags & kRenewHead) != 0) renew_head(payload, kSeed);
  try_payload(control, payload);
  return 0;
}

#ifdef REGRAIN_FUZZ
extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t most);

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most, unsigned seed) {
  Random random{seed};
  if (most < sizeof(Control) + kHeadBytes) return LLVMFuzzerMutate(data, size, most);
  Control control{kRenewHead | kRenewBlocks, 0, {0, 0}, 0xFFFF};
  Buffer payload;
  if (size >= sizeof control) {
    std::memcpy(&control, data, sizeof control);
    payload.assign(data + sizeof control, data + size);
  }
  const std::uint64_t way = random.below(32);
  if (way == 0 || payload.empty()) {
    payload = fresh_payload(kSeed, most - sizeof control, random);
  } else if (way < 3) {
    LLVMFuzzerMutate(reinterpret_cast<std::uint8_t*>(&control), sizeof control, sizeof control);
  } else if (way < 5) {
    payload.resize(most - sizeof control);
    payload.resize(LLVMFuzzerMutate(payload.data(), size - sizeof control, payload.size()));
  } else if (way < 10) {
    resize_block(payload, random);
  } else if (way < 11) {
    move_boundary(payload, random);
  } else if (way < 15) {
    set_number(payload, random);
  } else if (const Region region = pick_region(payload, random); region.from < region.to) {
    LLVMFuzzerMutate(payload.data() + region.from, region.to - region.from, region.to - region.from);
  }
  if (random.one_in(2)) control.flags |= kRenewHead | kRenewBlocks;  // else most inputs die of a checksum
  if (random.one_in(4)) control.flags |= kMendLengths;
  if (random.one_in(4)) control.flags |= kMendTables;
  if (random.one_in(4)) control.flags &= kRenewHead | kRenewBlocks | kMendLengths | kMendTables;
  payload.resize(std::min(payload.size(), most - sizeof control));
  std::memcpy(data, &control, sizeof control);
  if (!payload.empty()) std::memcpy(data + sizeof control, payload.data(), payload.size());
  return sizeof control + payload.size();
}
#endif
