// Passes over words that need no choice yet.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>

#include "regrain/codec.h"

namespace regrain {

using FieldCounts = std::array<std::uint64_t, 256>;
using SymbolCounts = std::array<std::uint32_t, kSymbols>;

template <class Word>
Word word_at(const std::uint8_t* words, std::uint64_t i) {
  Word word;
  std::memcpy(&word, words + i * sizeof(Word), sizeof(Word));
  return word;
}

// Calls `work` with a value of the unsigned type of that many bytes.
template <class Work>
auto with_word(unsigned bytes, const Work& work) {
  if (bytes == 1) return work(std::uint8_t{});
  if (bytes == 2) return work(std::uint16_t{});
  if (bytes == 4) return work(std::uint32_t{});
  return work(std::uint64_t{});
}

// Adds how often each field occurs: (word - base) >> shift, under `mask`.
inline void count_all_fields(const std::uint8_t* words, std::uint64_t n, unsigned word_bytes, std::uint64_t base,
                             unsigned shift, std::uint8_t mask, FieldCounts& counts) {
  with_word(word_bytes, [&](auto word) {
    using Word = decltype(word);
    for (std::uint64_t i = 0; i < n; ++i)
      ++counts[static_cast<Word>(word_at<Word>(words, i) - static_cast<Word>(base)) >> shift & mask];
  });
}

// Bits set in some word, and bits set in all.
struct BitUse {
  std::uint64_t any = 0;
  std::uint64_t all = ~std::uint64_t{0};
  void add(const BitUse& other) {
    any |= other.any;
    all &= other.all;
  }
};

inline BitUse scan_bits(const std::uint8_t* words, std::uint64_t n, unsigned word_bytes) {
  return with_word(word_bytes, [&](auto word) {
    using Word = decltype(word);
    Word any = 0, all = static_cast<Word>(~Word{0});
    for (std::uint64_t i = 0; i < n; ++i) {
      any = static_cast<Word>(any | word_at<Word>(words, i));
      all = static_cast<Word>(all & word_at<Word>(words, i));
    }
    return BitUse{any, all};
  });
}

// The smallest interval of words, unsigned or two's complement, that holds all: its low end and its length.
struct Interval {
  std::uint64_t low, length;
};

inline Interval scan_interval(const std::uint8_t* words, std::uint64_t n, unsigned word_bytes) {
  return with_word(word_bytes, [&](auto word) {
    using Word = decltype(word);
    const Word flip = static_cast<Word>(Word{1} << (8 * sizeof(Word) - 1));
    Word low = static_cast<Word>(~Word{0}), high = 0, flipped_low = low, flipped_high = 0;
    for (std::uint64_t i = 0; i < n; ++i) {
      const Word plain = word_at<Word>(words, i), flipped = static_cast<Word>(plain ^ flip);
      low = std::min(low, plain);
      high = std::max(high, plain);
      flipped_low = std::min(flipped_low, flipped);
      flipped_high = std::max(flipped_high, flipped);
    }
    const Word length = static_cast<Word>(high - low), flipped_length = static_cast<Word>(flipped_high - flipped_low);
    if (flipped_length < length) return Interval{static_cast<Word>(flipped_low ^ flip), flipped_length};
    return Interval{low, length};
  });
}

}  // namespace regrain
