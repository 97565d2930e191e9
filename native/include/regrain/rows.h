// Products y = x W^T + b with W in lists of columns, one for each row or for each four rows, for many tokens at a time:
// vectors run over tokens, so that no entry costs more than any other (docs/kernels.md).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace regrain {

inline constexpr std::size_t kTileRows = 128, kTileColumns = 256;

// W is rows x columns, in units of one row or of four (1 x 1 or 4 x 1 weights), of which entries are kept. It is cut
// into tiles of 128 rows and 256 columns, numbered along the rows first. A unit's entries in a tile are steps of four
// weights: four entries of one row, those that are too many with weight 0 and the column of the last; or one entry of
// four rows. A tile lists its units by falling number of steps: those with as many take the same branches, one after
// the other, and whatever order they come in costs nothing.
//
//   starts[t]                the first step of tile t; one more start ends the last tile
//   order[t * units() + i]   which unit of the tile comes i-th
//   steps[t * units() + i]   how many it has; they lie one after the other, in this order
//   places[e]                the column of entry e in the tile, ascending within a unit
//   values[4 * s + i]        weights of step s; 0 for a row beyond W
struct Rows {
  std::size_t rows = 0, columns = 0, unit = 1;
  std::vector<std::uint64_t> starts;
  std::vector<std::uint8_t> order;
  std::vector<std::uint16_t> steps;
  std::vector<std::uint8_t> places;
  std::vector<float> values;

  std::size_t units() const { return kTileRows / unit; }
  std::size_t down() const { return (rows + kTileRows - 1) / kTileRows; }
  std::size_t across() const { return (columns + kTileColumns - 1) / kTileColumns; }
  std::size_t bytes() const;
};

// Lays out W (weights[row * columns + column]) with the entries where the low bit of keep[u * columns + column] is 1,
// of unit u of one row or of four. Throws std::bad_alloc.
Rows pack_rows(const float* weights, std::size_t rows, std::size_t columns, const std::uint8_t* keep, std::size_t unit);

// y[n] = x[n] W^T + bias for `tokens` rows of x (each x_stride floats after the one before) and of y. Sums run in
// float; their order depends on the instruction set and on `tokens`. false: no memory for what it packs x into.
bool multiply(const Rows& rows, const float* bias, const float* x, std::size_t tokens, std::size_t x_stride, float* y,
              std::size_t y_stride, unsigned threads);

}  // namespace regrain
