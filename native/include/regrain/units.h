// Dense rows from the values that a pruned tensor keeps (docs/format.md).
#pragma once

#include <cstddef>
#include <cstdint>

namespace regrain {

// Which units of a matrix of `columns` columns are kept: a byte for each unit of `rows` x `across`, row by row, 0 where
// it is dropped. Units at the right and lower edges may be smaller.
struct Units {
  const std::uint8_t* mask = nullptr;
  std::uint64_t columns = 0;
  std::uint64_t rows = 0;
  std::uint64_t across = 0;
};

// How many values are kept of `count` rows from row `first` on.
std::uint64_t count_kept(const Units& units, std::uint64_t first, std::uint64_t count);

// Rows [first, first + count) of the matrix, words of `word_bytes` (1, 2 or 4): kept values in C order, 0 elsewhere.
// `values` has as many as count_kept says. Allocates at most a byte for each column.
void expand(const Units& units, std::size_t word_bytes, const std::uint8_t* values, std::uint64_t first,
            std::uint64_t count, std::uint8_t* out);

}  // namespace regrain
