// What an instruction set provides for products in lists of columns.
#pragma once

#include <cstddef>
#include <cstdint>

#include "regrain/rows.h"

namespace regrain {

// Part of a tile of `Rows`: `units` of it, and the first of each array.
struct RowTile {
  std::size_t units;
  const std::uint8_t* order;
  const std::uint16_t* steps;
  const std::uint8_t* places;
  const float* values;
};

// A strip is `vectors` vectors of tokens, side by side for each column: x[column * lanes * vectors + token].
struct RowKernels {
  unsigned lanes;            // tokens of a vector
  unsigned fine, four;       // vectors of a strip at most, for units of one row and of four
  // Packs `tokens` rows of x; those missing in a strip become 0.
  void (*pack)(const float* x, std::size_t stride, std::size_t tokens, std::size_t columns, float* strip,
               unsigned vectors);
  // sums[row * lanes * vectors + token] of the tile's rows: added to, or set if `first`.
  void (*multiply)(std::size_t unit, unsigned vectors, const RowTile& tile, const float* strip, float* sums,
                   bool first);
  // y[token * stride + row] = sums + bias[row]
  void (*unpack)(const float* sums, unsigned vectors, std::size_t tokens, std::size_t rows, const float* bias, float* y,
                 std::size_t stride);
};

extern const RowKernels kPortableRows;
#if defined(__x86_64__)
extern const RowKernels kAvx2Rows;
extern const RowKernels kAvx512Rows;
#endif

}  // namespace regrain
