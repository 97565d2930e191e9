// Payloads that are damaged, or forged under right checksums: refused where docs/format.md refuses them, on every
// instruction set alike.
#include "checks.h"
#include "reference.h"
#include "renew.h"

namespace regrain::testing {
namespace {

// Every bit of a payload counts: a reader that lets a flip pass must give the same words.
void check_flips() {
  Random random{4};
  for (unsigned round = 0; round < 24; ++round) {
    const unsigned tables = round % 3 == 2 ? 3 : round % 3;
    Layout layout = kFloats[round % 5];
    if (round % 4 == 3) layout = {Family::integer, static_cast<std::uint8_t>(1u << (round / 4 % 4)), 3};
    Head head = random_head(layout, tables, random);
    random_shape(head, round < 6 ? 8 : 130, random);
    const Forged forged = forge(head, kSeed, random);
    bool found = true, agreed = true;
    Buffer payload = forged.payload, out, others;
    for (std::size_t bit = 0; bit < 8 * payload.size(); ++bit) {
      payload[bit / 8] ^= static_cast<std::uint8_t>(1u << bit % 8);
      const Outcome outcome = read(payload, kSeed, head.word_bytes, 0, forged.count(), true, out);
      found &= outcome || out == forged.words;
      payload[bit / 8] ^= static_cast<std::uint8_t>(1u << bit % 8);
    }
    check(found, name(head) + ", every bit flipped");
    // with checksums renewed a flip may pass, but the reference passes it too
    for (std::size_t bit = random.below(5); bit < 8 * payload.size(); bit += 5) {
      Buffer forgery = forged.payload;
      forgery[bit / 8] ^= static_cast<std::uint8_t>(1u << bit % 8);
      renew_blocks(forgery, kSeed);
      renew_head(forgery, kSeed);
      const Outcome outcome = read(forgery, kSeed, head.word_bytes, 0, forged.count(), true, out);
      const Reference reference(forgery, kSeed);
      // another size of words, or number of them, is not what this caller asked for
      const bool expected =
          std::memcmp(&forgery[5], &forged.payload[5], 1) == 0 && std::memcmp(&forgery[8], &forged.payload[8], 8) == 0;
      agreed &= !outcome == (reference.refused == 0 && expected) && (outcome || out == reference.words);
    }
    check(agreed, name(head) + ", every fifth bit flipped under new checksums");
  }
}

// Whether the first `steps` steps of a block take a byte of its stream.
bool takes_bytes(const std::uint8_t* block, const Table& table, std::size_t steps) {
  AliasTable alias;
  build_alias(table.freq, alias);
  for (std::size_t lane = 0; lane < kStep; ++lane) {
    unsigned x = read_le<std::uint16_t>(block + 2 * lane);
    for (std::size_t step = 0; step < steps; ++step) {
      const std::uint32_t slot = alias.slot[x & 255];
      x = (slot >> 8 & 255) * (x >> 8) + (slot >> 16);
      if (x < 256) return true;
    }
  }
  return false;
}

// A block without its stream, read as far as a step: refused if that step or one before needs a byte, however many
// other blocks are decoded beside it, and however near these are to their ends.
void check_missing_streams() {
  Random random{6};
  for (unsigned round = 0; round < 40; ++round) {
    Head head = random_head(kFloats[round % 5], 1, random);
    head.block_words = 64u * static_cast<std::uint32_t>(random.between(1, 4));
    head.count = 4 * head.block_words;
    Buffer forgery = forge(head, kSeed, random, true).payload, out;
    const Parts parts = find_parts(forgery);
    const std::uint64_t block = random.below(4);
    std::size_t from = parts.first;
    for (std::uint64_t b = 0; b < block; ++b) from += parts.length(forgery, b);
    const Buffer states(forgery.begin() + static_cast<std::ptrdiff_t>(from),
                        forgery.begin() + static_cast<std::ptrdiff_t>(from + 2 * kStep));
    const std::size_t entry = parts.index + kIndexBytes * block, w = head.tables[0].raw_bits;
    const std::size_t planes = w * head.block_words / 8 - (w >= 8 ? kStep : 0);
    const std::size_t kept = 2 * kStep + planes + read_le<std::uint16_t>(&forgery[entry + 8]);
    const auto stream = forgery.begin() + static_cast<std::ptrdiff_t>(from + 2 * kStep);
    forgery.erase(stream, stream + static_cast<std::ptrdiff_t>(parts.length(forgery, block) - kept));
    write_le(&forgery[entry], static_cast<std::uint32_t>(kept));
    mend_lengths(forgery);
    renew_blocks(forgery, kSeed);
    renew_head(forgery, kSeed);
    for (std::uint64_t words = kStep; words < head.block_words; words += kStep) {
      const std::uint64_t start = block * head.block_words;
      const Outcome alone = read(forgery, kSeed, head.word_bytes, start, words, false, out);
      const Outcome among = read(forgery, kSeed, head.word_bytes, 0, start + words, false, out);
      const Fault wanted = takes_bytes(states.data(), head.tables[0], words / kStep) ? Fault::stream : Fault::none;
      check(alone.fault == wanted && among.fault == wanted,
            name(head) + ", no stream: " + describe(alone.fault) + ", among others: " + describe(among.fault));
    }
  }
}

void check_truncation() {
  Random random{5};
  for (unsigned round = 0; round < 8; ++round) {
    const Forged forged = forge(random_head(random.between(1, 400), random), kSeed, random);
    Buffer out;
    bool found = true;
    for (std::size_t size = 0; size < forged.payload.size(); ++size) {
      const Buffer cut(forged.payload.begin(), forged.payload.begin() + static_cast<std::ptrdiff_t>(size));
      found &= static_cast<bool>(read(cut, kSeed, forged.word_bytes, 0, forged.count(), true, out));
    }
    check(found, "every truncation");
  }
}

}  // namespace
}  // namespace regrain::testing

int main() {
  using namespace regrain::testing;
  return on_every_instruction_set([] {
    check_flips();
    check_missing_streams();
    check_truncation();
  });
}
