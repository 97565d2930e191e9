// Tokens packed as strips, for products in panels.
#pragma once

#include <cstddef>

#include "regrain/panels.h"

namespace regrain {

// Tokens are packed as strips that differ by one token at most: for each of `rows` columns, a strip's tokens side by side.
struct Strips {
  const float* packed;
  std::size_t rows, tokens, count;

  std::size_t first(std::size_t strip) const { return tokens * strip / count; }
};

// How many tokens to pack at once in strips of that many: they and some panels stay in the second-level cache.
inline std::size_t tokens_at_once(std::size_t strip, std::size_t rows) {
  constexpr std::size_t kBytes = std::size_t{1} << 18;
  const std::size_t strips = kBytes / (strip * rows * sizeof(float) + 1);
  return strip * (strips == 0 ? 1 : strips);
}

// y[n] = the products of all tokens.
void multiply_strips(const Panels& panels, const Strips& strips, float* y, std::size_t y_stride, unsigned threads);

}  // namespace regrain
