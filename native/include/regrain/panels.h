// Products y = x W^T + b with W in panels of 16 rows, each with its own list of columns: dense, whole columns dropped
// and 16 x 1 blocks dropped are one layout, and so is any mixture of them (docs/kernels.md).
#pragma once

#include <cstddef>
#include <cstdint>

namespace regrain {

inline constexpr std::size_t kPanelRows = 16;

enum class PanelValue : std::uint8_t { f32 = 0, f16 = 1, i8 = 2, i4 = 3 };

// W is rows x columns. Panel p holds rows 16 p to 16 p + 15; those beyond W are 0. Its entries are columns of 16 weights:
//
//   starts[p * segments + s]  the first entry of segment s of panel p; one more start ends the last segment
//   lists[e]                  the column of entry e, ascending within a panel; null: every panel has every column
//   values[e][r]              weight of row 16 p + r: float, half, int8, or of i4 in a nibble, plus 8: entries 2 i and 2 i + 1
//                             share 16 bytes, the first in the low halves. Segments of i4 have an even number of entries;
//                             one that is too many has weights 0 and a column that the segment has anyway
//   scales[p][s][r]           what an int8 or int4 is to be multiplied with; null for float and half, which have one segment
//   bias[16 p + r]
//
// With `shared` all panels have the same columns: starts and lists are those of one panel, and entry e of panel p is
// number p * starts[segments] + e of values.
struct Panels {
  PanelValue type = PanelValue::f32;
  std::size_t rows = 0, columns = 0, segments = 1;
  bool shared = false;
  const std::uint32_t* starts = nullptr;
  const std::uint16_t* lists = nullptr;
  const void* values = nullptr;
  const float* scales = nullptr;
  const float* bias = nullptr;

  std::size_t panels() const { return (rows + kPanelRows - 1) / kPanelRows; }
};

// y[n] = x[n] W^T + bias for `tokens` rows of x (each x_stride floats after the one before) and of y. Sums run in float;
// their order depends on the instruction set and on `tokens`. false: no memory for what it packs x into.
bool multiply(const Panels& panels, const float* x, std::size_t tokens, std::size_t x_stride, float* y,
              std::size_t y_stride, unsigned threads);

// Fills `values` of a layout from the matrix (rows x columns, row by row): float, half, int8, or int8 of -8 to 7 for i4.
// An entry whose column is that of the entry before it is one too many. false: no memory.
bool pack(const Panels& layout, const void* matrix, void* values);

}  // namespace regrain
