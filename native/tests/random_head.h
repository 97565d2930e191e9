// Heads of payloads at random: any layout, alphabet, table, width and shape that the format allows.
#pragma once

#include <algorithm>
#include <cstdint>

#include "regrain/codec.h"

namespace regrain::testing {

// SplitMix64 (Steele, Lea, Flood, 2014): the same numbers on every machine.
struct Random {
  std::uint64_t state;
  std::uint64_t next() {
    std::uint64_t z = state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
  }
  std::uint64_t below(std::uint64_t n) { return next() % n; }
  std::uint64_t between(std::uint64_t low, std::uint64_t high) { return low + below(high - low + 1); }
  bool one_in(std::uint64_t n) { return below(n) == 0; }
};

struct Layout {
  Family family;
  std::uint8_t word_bytes, mantissa_bits;
};
inline constexpr Layout kFloats[] = {{Family::floating, 1, 2},
                                     {Family::floating, 1, 3},
                                     {Family::floating, 2, 7},
                                     {Family::floating, 2, 10},
                                     {Family::floating, 4, 23}};

inline unsigned field_bits(const Head& head) {
  const unsigned bits = 8u * head.word_bytes;
  return head.family == Family::floating ? bits - 1 - head.mantissa_bits : std::min(8u, bits - head.mantissa_bits);
}

inline unsigned widest(const Head& head) { return head.mantissa_bits + (head.family == Family::floating ? 1u : 0u); }

// A table over the head's alphabet (at least two symbols): from nearly one symbol to all alike.
inline Table random_table(const Head& head, unsigned raw_bits, Random& random) {
  Table table;
  table.raw_bits = static_cast<std::uint8_t>(raw_bits);
  const unsigned some = static_cast<unsigned>(random.below(head.alphabet));
  const unsigned other = (some + 1 + static_cast<unsigned>(random.below(head.alphabet - 1u))) % head.alphabet;
  const unsigned spread = random.one_in(3) ? 1 : static_cast<unsigned>(random.between(1, 255));
  table.freq[some] = static_cast<std::uint8_t>(256 - spread);
  table.freq[other] = static_cast<std::uint8_t>(spread);
  for (unsigned moves = random.one_in(2) ? 0 : 40; moves != 0; --moves) {
    std::uint8_t& from = table.freq[random.below(head.alphabet)];
    std::uint8_t& to = table.freq[random.below(head.alphabet)];
    const unsigned amount = std::min<unsigned>(from, static_cast<unsigned>(random.below(24)));
    if (&from == &to || to + amount > 255) continue;
    from = static_cast<std::uint8_t>(from - amount);
    to = static_cast<std::uint8_t>(to + amount);
  }
  return table;
}

// Values and tables for a layout with `tables` shared tables. Integers: mantissa_bits is k.
inline Head random_head(const Layout& layout, unsigned tables, Random& random) {
  Head head;
  head.family = layout.family;
  head.word_bytes = layout.word_bytes;
  head.mantissa_bits = layout.mantissa_bits;
  if (head.family == Family::integer) head.base = random.next() >> (64 - 8 * head.word_bytes);
  const std::uint64_t fields = std::uint64_t{1} << field_bits(head);
  head.escape = fields >= 15 && random.one_in(2);
  head.alphabet = head.escape ? 16 : static_cast<std::uint8_t>(random.between(1, std::min<std::uint64_t>(fields, 16)));
  if (tables != 0) head.alphabet = std::max<std::uint8_t>(head.alphabet, 2);
  for (unsigned s = 0; s < head.alphabet - (head.escape ? 1u : 0u);) {
    head.values[s] = static_cast<std::uint8_t>(random.below(fields));
    if (std::find(head.values, head.values + s, head.values[s]) == head.values + s) ++s;
  }
  head.tables_count = static_cast<std::uint8_t>(tables);
  const bool mixed = head.family == Family::floating && random.one_in(2);
  const unsigned width =
      head.family == Family::integer ? head.mantissa_bits : static_cast<unsigned>(random.between(0, widest(head)));
  for (unsigned t = 0; t < tables; ++t)
    head.tables[t] = random_table(head, mixed ? static_cast<unsigned>(random.between(0, widest(head))) : width, random);
  return head;
}

inline bool equal_widths(const Head& head) {
  for (unsigned t = 1; t < head.tables_count; ++t)
    if (head.tables[t].raw_bits != head.tables[0].raw_bits) return false;
  return true;
}

// Cuts about `words` words into rows and blocks.
inline void random_shape(Head& head, std::uint64_t words, Random& random) {
  words = std::max<std::uint64_t>(words, 1);
  if (head.tables_count < 2) {
    head.count = words;
    head.block_words = static_cast<std::uint32_t>(
        std::min<std::uint64_t>(random.one_in(2) ? words : random.between((words + 5) / 6, words), kMaxBlockWords));
    return;
  }
  head.row_words = random.one_in(3) || !equal_widths(head) ? 64u * static_cast<std::uint32_t>(random.between(1, 3))
                                                           : static_cast<std::uint32_t>(random.between(64, 200));
  const std::uint64_t rows = std::max<std::uint64_t>(words / head.row_words, 1);
  head.count = rows * head.row_words;
  const std::uint64_t most = std::min<std::uint64_t>(rows, kMaxBlockWords / head.row_words);
  head.block_words = static_cast<std::uint32_t>(head.row_words * random.between((most + 3) / 4, most));
}

// Any layout, any number of tables, about `words` words.
inline Head random_head(std::uint64_t words, Random& random) {
  Layout layout = kFloats[random.below(5)];
  if (random.one_in(3)) {
    layout.family = Family::integer;
    layout.word_bytes = static_cast<std::uint8_t>(1u << random.below(4));
    const unsigned most = std::min(24u, 8u * layout.word_bytes);
    layout.mantissa_bits =
        static_cast<std::uint8_t>(random.one_in(4) ? random.between(0, most) : random.between(0, most / 2));
  }
  const bool codable = layout.family == Family::floating || layout.mantissa_bits < 8 * layout.word_bytes;
  const unsigned tables = !codable || random.one_in(3) ? 0
                          : random.one_in(2)           ? 1
                                                       : static_cast<unsigned>(random.between(2, 16));
  Head head = random_head(layout, tables, random);
  random_shape(head, words, random);
  return head;
}

}  // namespace regrain::testing
