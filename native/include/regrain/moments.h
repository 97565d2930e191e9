// Sums over the rows of a batch, about given means: what a run time watches inputs by.
#pragma once

#include <cstddef>

namespace regrain {

// sums[c] = sum of x[n][c] - mean[c] over `rows` rows of `columns` floats, squares[c] = that of its square. Differences
// and sums over 64 rows are floats; those are added as doubles. false: a sum is NaN or infinite.
bool moments(const float* x, std::size_t rows, std::size_t columns, const float* mean, double* sums, double* squares);

}  // namespace regrain
