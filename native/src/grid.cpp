#include "regrain/grid.h"

#include <algorithm>

#include "isa/kernels.h"

namespace regrain {

void dequantize(const Grid& grid, const std::uint8_t* indices, std::size_t index_bytes, std::uint64_t first,
                std::uint64_t count, std::uint8_t* out) {
  const std::uint64_t across = (grid.columns + grid.cell_columns - 1) / grid.cell_columns;
  // cells of one row that fill it exactly go on in the next row without a break
  const bool seamless = grid.cell_rows == 1 && across * grid.cell_columns == grid.columns;
  const bool single = across == 1 && grid.cell_rows > 1;
  while (count != 0) {
    const std::uint64_t row = first / grid.columns, column = first % grid.columns;
    const float* scales = grid.scales + row / grid.cell_rows * across + column / grid.cell_columns;
    std::uint64_t here = seamless ? count : grid.columns - column, run = grid.cell_columns;
    if (single) run = here = (row / grid.cell_rows + 1) * grid.cell_rows * grid.columns - first;
    here = std::min(here, count);
    const std::uint64_t skip = single ? 0 : column % grid.cell_columns;
    kernels().dequantize(grid.type, indices, index_bytes, scales, run, skip, here, out);
    indices += here * index_bytes;
    out += here * weight_bytes(grid.type);
    first += here;
    count -= here;
  }
}

}  // namespace regrain
