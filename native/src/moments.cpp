#include "regrain/moments.h"

#include <algorithm>
#include <cmath>

#include "isa/kernels.h"
#include "isa/moment_kernels.h"

namespace regrain {

bool moments(const float* x, std::size_t rows, std::size_t columns, const float* mean, double* sums, double* squares) {
  std::fill_n(sums, columns, 0.0);
  std::fill_n(squares, columns, 0.0);
  const MomentKernels& isa = *kernels().moments;
  for (std::size_t row = 0; row < rows; row += kMomentRows)
    isa.add(x + row * columns, std::min(kMomentRows, rows - row), columns, mean, sums, squares);
  // Squares are infinite or NaN wherever sums are.
  return std::all_of(squares, squares + columns, [](double square) { return std::isfinite(square); });
}

}  // namespace regrain
