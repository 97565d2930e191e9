// Weights from indices and a grid of scales: the second half of a quantized payload (docs/format.md).
#pragma once

#include <cstddef>
#include <cstdint>

namespace regrain {

enum class Weight : std::uint8_t { bf16 = 0, f16 = 1, f32 = 2 };

inline constexpr std::size_t weight_bytes(Weight type) { return type == Weight::f32 ? 4 : 2; }

// The scales of a matrix of `columns` columns: one for each cell of cell_rows x cell_columns, row by row.
struct Grid {
  const float* scales = nullptr;
  std::uint64_t columns = 0;
  std::uint64_t cell_rows = 0;
  std::uint64_t cell_columns = 0;
  Weight type = Weight::f32;
};

// Weights of elements [first, first + count) of the matrix, in C order: their indices, signed integers of `index_bytes`
// (1 or 2), times the scale of their cell as float32, rounded to the weight's type (ties to even).
void dequantize(const Grid& grid, const std::uint8_t* indices, std::size_t index_bytes, std::uint64_t first,
                std::uint64_t count, std::uint8_t* out);

}  // namespace regrain
