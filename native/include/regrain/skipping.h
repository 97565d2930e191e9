// Products y = x W^T + b for one token or two, which leave out the columns that say little about each token: what it
// takes to choose them is small beside reading them (docs/kernels.md).
#pragma once

#include <cstddef>
#include <cstdint>

namespace regrain {

enum class SkipValue : std::uint8_t { f32 = 0, f16 = 1, i8 = 2 };

inline constexpr std::size_t kSkipLine = 64;  // bytes that a column is made of

// W is rows x columns, stored by columns: weight (r, c) is number r after values + c * stride, a multiple of 64 bytes.
// What follows the last row up to such a multiple is read and must be finite. Token x has column c if
//
//   not |x[c] - mean[c]| * norm[c] <= threshold
//
// and a column that it doesn't have counts as if x[c] were mean[c]:
//
//   y[r] = bias[r] + scales[r] * (sum over columns c that x has of w[r][c] * (x[c] - mean[c]))
//
// so that bias is b + W mean. scales: of int8, null for others, which are not scaled.
struct Skipping {
  SkipValue type = SkipValue::f32;
  std::size_t rows = 0, columns = 0, stride = 0;
  float threshold = 0;
  const std::uint8_t* values = nullptr;
  const float* scales = nullptr;
  const float* mean = nullptr;
  const float* norm = nullptr;
  const float* bias = nullptr;

  std::size_t item() const { return type == SkipValue::f32 ? 4 : type == SkipValue::f16 ? 2 : 1; }
};

// y[n] for `tokens` rows of x (each x_stride floats after the one before) and of y. Which columns x[n] has depends on it
// alone; sums run in float, in an order that depends on the token beside it and on the instruction set. Gives how many
// columns the tokens had together, or -1: no memory.
std::int64_t multiply(const Skipping& skipping, const float* x, std::size_t tokens, std::size_t x_stride, float* y,
                      std::size_t y_stride, unsigned threads);

}  // namespace regrain
