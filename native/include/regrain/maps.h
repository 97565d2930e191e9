// Networks of convolutions from end to end on maps of eight bits: sums are integers and exact, the few float operations
// around them are rounded one by one, and every instruction set gives the same bits (docs/kernels.md).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "regrain/convolution.h"

namespace regrain {

inline constexpr std::size_t kMapRows = 16, kMapGroup = 4;

// Images, positions one after the other, row by row, each with its channels side by side and room for whole sixteens of
// them. Around an image are so many positions that hold `zero`. A number q stands for scale (q - zero).
struct Map {
  std::size_t channels, size[2], margin[2];
  float scale;
  std::int32_t zero;

  std::size_t pitch() const { return (channels + kMapRows - 1) / kMapRows * kMapRows; }
  std::size_t across() const { return size[1] + 2 * margin[1]; }
  std::size_t positions() const { return size[0] * size[1]; }
  // Bytes of an image, and of those from its first to a position in it.
  std::size_t bytes() const { return (size[0] + 2 * margin[0]) * across() * pitch(); }
  std::size_t at(std::size_t y, std::size_t x) const { return ((y + margin[0]) * across() + x + margin[1]) * pitch(); }
};

inline constexpr std::size_t kNoMap = ~std::size_t{0};

// From map `input` to map `output`, whose channels are rows of a matrix in panels of 16 rows and blocks of 4 inputs: the
// window's places row by row, at each the channels, as many as make whole fours. With u the numbers that it sees,
//
//   q[r] = sum of u[i] w[r][i] factors[r] + bias[r] + weight u'[r], at least `low`, at most 255, to the nearest integer
//
// where u' is map `added` at the same position, if there is one. Weights of channels and rows beyond the last are 0.
//
//   starts[p]          the first block of panel p; one more ends the last panel. empty: every panel has all groups
//   offsets[e]         bytes from the window's first place to the inputs of block e, or of group e for every panel
//   values[e][r][k]    int8 weight of row 16 p + r and input k of the block, panel after panel
struct MapStep {
  std::size_t input, output, added;
  Window window;
  std::vector<std::uint32_t> starts, offsets;
  const std::int8_t* values;
  const float* factors;
  const float* bias;
  float weight, low;
};

// The first map is what comes in, the last what goes out. Images come as floats, channels x height x width, and each
// square of `folded` x `folded` positions becomes as many channels (PyTorch's PixelUnshuffle). They go out as floats,
// channels x height x width, or with `means` as the mean of each channel.
struct MapNetwork {
  std::vector<Map> maps;
  std::vector<MapStep> steps;
  std::size_t folded = 1;
  bool means = false;
};

enum class MapOutcome { done, no_memory, not_finite };

// Of an input that is not finite the output means nothing.
MapOutcome run(const MapNetwork& network, const float* x, std::size_t images, float* y, unsigned threads);

}  // namespace regrain
