// Products y = x W^T + b of int8 weights and tokens that are quantized to eight bits on the way in (docs/kernels.md). Sums
// are integers and exact; the few float operations around them are rounded one by one: every instruction set gives the
// same bits.
#pragma once

#include <cstddef>
#include <cstdint>

namespace regrain {

inline constexpr std::size_t kBlockRows = 16, kBlockColumns = 4;

// W is rows x columns. Panel p holds rows 16 p to 16 p + 15, those beyond W are 0, in blocks of 4 columns; columns beyond
// the last are 0:
//
//   gathered[i]        the column of W that is input i, ascending; null: all are inputs. Input group g is inputs 4 g to 4 g + 3
//   masks[c / 16]      bit c % 16 is set where column c is an input; not looked at if all are
//   starts[p]          the first block of panel p; one more ends the last panel. null: every panel has all groups
//   lists[e]           the input group of block e, ascending within a panel
//   values[e][r][k]    int8 weight of row 16 p + r and input 4 g + k
//   sums[16 p + r]     sum of the row's weights
//   scales[16 p + r]   what the row's integers are to be multiplied with
//   bias[16 p + r]
//
// A token x has the scale s = max(x, 0) / 255 - min(x, 0) / 255 over its inputs and z = -min(x, 0) / s, to the nearest integer.
// Its inputs become u = x / s + z, to the nearest integer from 0 to 255, and
//
//   y[r] = (sum of u[i] w[r][i] - z sums[r]) (s scales[r]) + bias[r]
//
// A token of zeros or subnormal numbers gives the bias; one with a number that is not finite gives NaN.
struct Integers {
  std::size_t rows = 0, columns = 0, inputs = 0;
  const std::uint16_t* gathered = nullptr;
  const std::uint16_t* masks = nullptr;
  const std::uint32_t* starts = nullptr;
  const std::uint16_t* lists = nullptr;
  const std::int8_t* values = nullptr;
  const std::int32_t* sums = nullptr;
  const float* scales = nullptr;
  const float* bias = nullptr;

  std::size_t panels() const { return (rows + kBlockRows - 1) / kBlockRows; }
  std::size_t groups() const { return (inputs + kBlockColumns - 1) / kBlockColumns; }
};

// y[n] = x[n] W^T + bias for `tokens` rows of x (each x_stride floats after the one before) and of y. At most 65536 inputs,
// for sums to stay below 2^31. false: no memory for the quantized tokens.
bool multiply(const Integers& integers, const float* x, std::size_t tokens, std::size_t x_stride, float* y,
              std::size_t y_stride, unsigned threads);

}  // namespace regrain
