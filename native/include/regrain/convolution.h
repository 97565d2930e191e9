// Convolutions as products in panels: output positions are tokens, and what a window sees of them is packed as it is
// needed, so that no matrix of windows is ever built.
#pragma once

#include <cstddef>

#include "regrain/panels.h"

namespace regrain {

// Of images (channels x height x width), each padded with zeros by `padding` on both sides. [0] is vertical, [1] horizontal.
struct Window {
  std::size_t channels, size[2], kernel[2], stride[2], padding[2], dilation[2];

  std::size_t reach(int axis) const { return dilation[axis] * (kernel[axis] - 1) + 1; }
  std::size_t padded(int axis) const { return size[axis] + 2 * padding[axis]; }
  // Output positions along an axis; the padded image must be as long as the window reaches.
  std::size_t outputs(int axis) const { return (padded(axis) - reach(axis)) / stride[axis] + 1; }
};

// y[image][row] = the map of W's row, where W is rows x (channels, kernel[0], kernel[1]); x and y are contiguous. false:
// no memory.
bool convolve(const Panels& panels, const Window& window, const float* x, std::size_t images, float* y, unsigned threads);

}  // namespace regrain
