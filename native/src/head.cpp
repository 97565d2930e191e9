// Reading a payload's head. Everything is checked before anything is allocated for it; docs/format.md lists the rules.
#include "head.h"

#include <algorithm>

#include "bytes.h"
#include "isa/kernels.h"
#include "regrain/codec.h"
#include "source.h"

namespace regrain {

std::uint32_t crc32c(std::uint32_t crc, const void* data, std::size_t size) {
  return ~kernels().crc32c(~crc, static_cast<const std::uint8_t*>(data), size);
}

std::uint32_t seeded_crc(std::uint32_t seed, std::uint32_t block, const void* data, std::size_t size) {
  std::uint8_t prefix[8];
  write_le(prefix, seed);
  write_le(prefix + 4, block);
  return crc32c(crc32c(0, prefix, 8), data, size);
}

Fault check_table(const Head& head, const Table& table) {
  unsigned sum = 0;
  for (std::size_t s = 0; s < kSymbols; ++s) {
    sum += table.freq[s];
    if (s >= head.alphabet && table.freq[s] != 0) return Fault::table;
  }
  if (sum != 256) return Fault::table;
  if (head.family == Family::integer ? table.raw_bits != head.mantissa_bits : table.raw_bits > head.mantissa_bits + 1)
    return Fault::width;
  return Fault::none;
}

unsigned field_limit(const Head& head) {
  const unsigned word_bits = 8u * head.word_bytes;
  const unsigned bits = head.family == Family::floating ? word_bits - 1 - head.mantissa_bits : word_bits - head.mantissa_bits;
  return bits >= 8 ? 256 : 1u << bits;
}

Table read_table(const std::uint8_t* from) {
  Table table;
  table.raw_bits = from[0];
  std::memcpy(table.freq, from + 1, kSymbols);
  return table;
}

namespace {

constexpr std::size_t kUsualHead = 4096;  // bytes
constexpr std::size_t kMostFront = 1024;  // a coded block's table or classes, and its states, rounded up

bool known_layout(const Head& head) {
  const unsigned bytes = head.word_bytes, bits = head.mantissa_bits;
  if (head.family == Family::integer)
    return (bytes == 1 || bytes == 2 || bytes == 4 || bytes == 8) && bits <= 24 && bits <= 8 * bytes;
  return (bytes == 1 && (bits == 2 || bits == 3)) || (bytes == 2 && (bits == 7 || bits == 10)) ||
         (bytes == 4 && bits == 23);
}

Fault check_values(const Head& head) {
  const unsigned limit = field_limit(head);
  const unsigned named = head.alphabet - (head.escape ? 1u : 0u);
  for (unsigned s = 0; s < kSymbols; ++s) {
    if (s >= named) {
      if (head.values[s] != 0) return Fault::values;
      continue;
    }
    if (head.values[s] >= limit) return Fault::values;
    for (unsigned other = 0; other < s; ++other)
      if (head.values[other] == head.values[s]) return Fault::values;
  }
  return Fault::none;
}

Fault read_fixed(const std::uint8_t* at, Head& head) {
  if (std::memcmp(at, "rgP1", 4) != 0) return Fault::magic;
  if (at[4] > 1) return Fault::family;
  head.family = static_cast<Family>(at[4]);
  head.word_bytes = at[5];
  head.mantissa_bits = at[6];
  if (!known_layout(head)) return Fault::word_bytes;
  head.escape = (at[7] & 0x80) != 0;
  head.alphabet = at[7] & 0x7F;
  if (head.alphabet < 1 || head.alphabet > kSymbols || (head.escape && head.alphabet != kSymbols)) return Fault::alphabet;
  head.count = read_le<std::uint64_t>(at + 8);
  if (head.count == 0 || head.count > ~std::uint64_t{0} / head.word_bytes) return Fault::count;
  head.base = read_le<std::uint64_t>(at + 16);
  if (head.family == Family::floating ? head.base != 0 : head.word_bytes < 8 && head.base >> (8 * head.word_bytes) != 0)
    return Fault::base;
  head.block_words = read_le<std::uint32_t>(at + 24);
  if (head.block_words == 0 || head.block_words > kMaxBlockWords) return Fault::block_words;
  head.row_words = read_le<std::uint32_t>(at + 28);
  std::memcpy(head.values, at + 32, kSymbols);
  if (const Fault fault = check_values(head); fault != Fault::none) return fault;
  head.tables_count = at[48];
  if (head.tables_count > kSymbols) return Fault::table;
  if ((at[49] | at[50] | at[51]) != 0) return Fault::reserved;
  if (head.tables_count < 2 ? head.row_words != 0
                            : head.row_words < kStep || head.block_words % head.row_words != 0 ||
                                  head.count % head.row_words != 0)
    return Fault::row_words;
  return Fault::none;
}

Fault read_tables(const std::uint8_t* at, Head& head) {
  for (unsigned t = 0; t < head.tables_count; ++t) {
    head.tables[t] = read_table(at + kTableBytes * t);
    if (const Fault fault = check_table(head, head.tables[t]); fault != Fault::none) return fault;
    // runs of different width must start on a step
    if (head.row_words % kStep != 0 && head.tables[t].raw_bits != head.tables[0].raw_bits) return Fault::width;
  }
  return Fault::none;
}

Fault read_index(const std::uint8_t* at, std::uint64_t blocks, std::uint64_t offset, std::size_t size, Head& head) {
  head.blocks.resize(blocks);
  for (std::uint64_t i = 0; i < blocks; ++i, at += kIndexBytes) {
    BlockEntry& entry = head.blocks[i];
    entry.offset = offset;
    entry.length = read_le<std::uint32_t>(at);
    entry.checksum = read_le<std::uint32_t>(at + 4);
    entry.escapes = read_le<std::uint16_t>(at + 8);
    if (at[10] > 2) return Fault::index;
    entry.kind = static_cast<BlockKind>(at[10]);
    if (at[11] != 0) return Fault::reserved;
    if (entry.kind == BlockKind::coded) {
      const std::uint64_t steps = (head.words_in_block(i) + kStep - 1) / kStep;
      if (entry.length > kMostFront + 4 * kStep * steps + entry.escapes) return Fault::index;
    } else {
      const std::uint64_t words = entry.kind == BlockKind::constant ? 1 : head.words_in_block(i);
      if (entry.length != words * head.word_bytes || entry.escapes != 0) return Fault::index;
    }
    offset += entry.length;
    if (offset > size) return Fault::length;
  }
  const std::uint64_t end = (offset + 7) & ~std::uint64_t{7};
  return end == size ? Fault::none : Fault::length;
}

}  // namespace

std::size_t head_size(const std::uint8_t* fixed, std::size_t size) {
  const std::uint64_t count = read_le<std::uint64_t>(fixed + 8);
  const std::uint32_t block_words = read_le<std::uint32_t>(fixed + 24);
  if (count == 0 || block_words == 0 || fixed[48] > kSymbols) return 0;
  const std::uint64_t blocks = (count - 1) / block_words + 1;
  if (blocks > size / kIndexBytes || blocks >= kHeadBlock) return 0;
  const std::uint64_t bytes = kHeadBytes + fixed[48] * kTableBytes + blocks * kIndexBytes + 4;
  return bytes <= size ? bytes : 0;
}

Fault parse_head(const std::uint8_t* head_bytes, std::size_t size, std::uint32_t seed, Head& head) {
  if (const Fault fault = read_fixed(head_bytes, head); fault != Fault::none) return fault;
  const std::size_t bytes = head_size(head_bytes, size);
  if (bytes == 0) return Fault::truncated;
  const std::size_t sealed = bytes - 4;
  if (seeded_crc(seed, kHeadBlock, head_bytes, sealed) != read_le<std::uint32_t>(head_bytes + sealed))
    return Fault::head_checksum;
  if (const Fault fault = read_tables(head_bytes + kHeadBytes, head); fault != Fault::none) return fault;
  const std::uint64_t blocks = (head.count - 1) / head.block_words + 1;
  return read_index(head_bytes + sealed - blocks * kIndexBytes, blocks, bytes, size, head);
}

Fault read_head(const Bytes& payload, std::uint32_t seed, Head& head) {
  if (payload.size < kHeadBytes + 4) return Fault::truncated;
  Fetcher fetcher;
  // most heads are short: one read
  const std::size_t first = std::min(payload.size, kUsualHead);
  const std::uint8_t* bytes = fetcher.fetch(payload, 0, first);
  if (bytes == nullptr) return Fault::unreadable;
  const std::size_t needed = head_size(bytes, payload.size);
  if (needed > first && (bytes = fetcher.fetch(payload, 0, needed)) == nullptr) return Fault::unreadable;
  return parse_head(bytes, payload.size, seed, head);
}

}  // namespace regrain
