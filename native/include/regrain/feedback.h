// Rounding with error feedback: each weight's rounding error is made up for by the weights that are not rounded yet.
#pragma once

#include <cstddef>
#include <cstdint>

namespace regrain {

// Rounds W (rows x columns) to multiples q * scale so that tr(G D A D^T) stays small, D = q * scale - W. The factors are
// those of A = U diag(.) U^T and G = V diag(.) V^T with U and V unit upper triangular (docs/quantization.md):
//
//   q[i][j] = round((W[i][j] - sum_{(k,l) < (i,j)} V[k][i] D[k][l] U[l][j]) / scale),   (k,l) with k <= i and l <= j.
//
// U (columns x columns) and V (rows x rows) are row-major; either may be null, for the identity. The scale of (i, j) is
// scales[i / cell_rows][j / cell_columns]. A weight nearer to 0 than to 1 + dead_zone steps away rounds toward zero:
// |x| rounds to floor(|x| + 1/2 - dead_zone), at most 32767. Where `keep` (rows x columns, or null) is 0, the index is 0
// whatever is asked of it. `weight_rows` and `weight_columns` are the diagonals of the
// factors: returned is the sum of weight_rows[i] weight_columns[j] e[i][j]^2 over the errors e of rounding itself.
// The same on every machine: products and sums in one order, none of them fused.
struct FeedbackRequest {
  const float* weights;
  std::size_t rows, columns;
  const float* scales;
  std::size_t cell_rows, cell_columns;
  const float* column_factor;
  const float* row_factor;
  const float* weight_rows;
  const float* weight_columns;
  float dead_zone;
  const std::uint8_t* keep;
};

// Writes rows * columns indices. Allocates as much as the matrix takes when row_factor is given.
double round_with_feedback(const FeedbackRequest& request, std::int16_t* indices);

}  // namespace regrain
