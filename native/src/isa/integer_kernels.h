// What an instruction set provides for products of integers.
#pragma once

#include <cstddef>
#include <cstdint>

#include "regrain/integers.h"

namespace regrain {

inline constexpr unsigned kMostBlocks = 4;  // panels together
inline constexpr unsigned kTokenGroup = 4;  // tokens that are quantized together: a strip has room for whole groups

// `count` of so many columns, ascending: their numbers, and bit c % 16 of masks[c / 16] for each column c.
struct Chosen {
  const std::uint16_t* list;
  const std::uint16_t* masks;
  std::size_t count, columns;
};

struct TokenScale {
  float scale;
  std::int32_t zero;
};

// Panels that are multiplied together. They have one list.
struct IntegerWork {
  const std::int8_t* values[kMostBlocks];
  const std::int32_t* sums[kMostBlocks];
  const float* scales[kMostBlocks];
  const float* bias[kMostBlocks];
  const std::uint16_t* list;  // the group that a block reads; null: block e reads group e
  std::size_t blocks;
};

// A strip holds quantized tokens: for each group of four inputs the tokens one after the other, in `bytes` each,
// in an order of the instruction set's own, and room for as many as make whole fours (one token alone: no more room).
struct IntegerKernels {
  unsigned strip;             // tokens, where panels have every group
  unsigned wide;              // tokens, where each panel has its own list: one panel at a time
  unsigned bytes;
  unsigned together, single;  // panels: of several tokens, of one
  // The chosen columns of a token, one after the other. May write 15 floats more.
  void (*choose)(const float* x, const Chosen& chosen, float* out);
  // x[n * stride + i] for i < inputs. Reads no input beyond.
  void (*quantize)(const float* x, std::size_t stride, unsigned tokens, std::size_t inputs, std::uint8_t* strip,
                   TokenScale* scales);
  // Row n of y has `rows` of the panels' rows.
  void (*multiply)(const IntegerWork& work, unsigned panels, const std::uint8_t* strip, const TokenScale* scales,
                   unsigned tokens, float* y, std::size_t y_stride, std::size_t rows);
};

extern const IntegerKernels kPortableIntegers;
#if defined(__x86_64__)
extern const IntegerKernels kAvx2Integers;
extern const IntegerKernels kAvx512Integers;
#endif

}  // namespace regrain
