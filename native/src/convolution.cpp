#include "regrain/convolution.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <new>

#include "isa/kernels.h"
#include "isa/panel_kernels.h"
#include "pool.h"
#include "scratch.h"
#include "strips.h"

namespace regrain {
namespace {

#include "isa/transpose.h"

constexpr std::size_t kCopied = 16;  // floats that are copied at once, wanted or not

// One image with its padding, and the offsets at which each packed column sees the window's first place.
struct Source {
  const Window& window;
  const std::uint32_t* offsets;
  std::size_t columns;
  std::size_t row;  // floats of a padded row
  const float* image;
};

std::size_t padded_floats(const Window& window) {
  return window.channels * window.padded(0) * window.padded(1) + kCopied;
}

void pad(const Window& window, const float* x, float* out) {
  const std::size_t width = window.size[1], wide = window.padded(1), edge = window.padding[1];
  const auto zeros = [&out](std::size_t count) { out = std::fill_n(out, count, 0.0f); };
  for (std::size_t channel = 0; channel < window.channels; ++channel) {
    zeros(window.padding[0] * wide);
    for (std::size_t y = 0; y < window.size[0]; ++y, x += width) {
      zeros(edge);
      out = std::copy_n(x, width, out);
      zeros(edge);
    }
    zeros(window.padding[0] * wide);
  }
  zeros(kCopied);
}

// Offsets of the columns that are packed: those of a shared list, or all.
void find_offsets(const Panels& panels, const Window& window, std::size_t count, std::uint32_t* offsets) {
  const std::uint16_t* list = panels.shared ? panels.lists : nullptr;
  for (std::size_t k = 0; k < count; ++k) {
    const std::size_t column = list == nullptr ? k : list[k], across = column % window.kernel[1],
                      down = column / window.kernel[1] % window.kernel[0],
                      channel = column / (window.kernel[0] * window.kernel[1]);
    offsets[k] = static_cast<std::uint32_t>((channel * window.padded(0) + down * window.dilation[0]) * window.padded(1) +
                                            across * window.dilation[1]);
  }
}

// out[k * count + t] = what column k sees at output position first + t. Writes up to kCopied floats more.
void pack_positions(const Source& source, std::size_t first, std::size_t count, float* out) {
  const Window& window = source.window;
  const std::size_t across = window.outputs(1);
  std::size_t starts[kCopied], places[kCopied + 1], runs = 0;  // positions side by side in the image
  for (std::size_t t = 0; t < count; ++t) {
    const std::size_t position = first + t;
    const std::size_t at = position / across * window.stride[0] * source.row + position % across * window.stride[1];
    if (t != 0 && window.stride[1] == 1 && position % across != 0) continue;
    starts[runs] = at;
    places[runs++] = t;
  }
  for (std::size_t k = 0; k < source.columns; ++k, out += count) {
    const float* from = source.image + source.offsets[k];
    if (window.stride[1] == 1)
      for (std::size_t r = 0; r < runs; ++r) std::memcpy(out + places[r], from + starts[r], kCopied * sizeof(float));
    else
      for (std::size_t t = 0; t < count; ++t) out[t] = from[starts[t]];
  }
}

// to[row * to_stride + t] = from[t * rows + row] for `tokens` tokens.
void turn(const float* from, std::size_t tokens, std::size_t rows, float* to, std::size_t to_stride) {
  const std::size_t high = tokens / 4 * 4, wide = rows / 4 * 4;
  for (std::size_t row = 0; row < wide; row += 4)
    for (std::size_t t = 0; t < high; t += 4) transpose_four(from + t * rows + row, rows, to + row * to_stride + t, to_stride);
  for (std::size_t row = 0; row < rows; ++row)
    for (std::size_t t = row < wide ? high : 0; t < tokens; ++t) to[row * to_stride + t] = from[t * rows + row];
}

// One image, chunk by chunk: windows are packed, multiplied, and the results turned to maps.
bool convolve_one(const Panels& panels, const Window& window, const std::uint32_t* offsets, std::size_t columns,
                  const float* x, float* y, unsigned threads) {
  const PanelKernels& isa = *kernels().panels;
  const unsigned strip = std::min<unsigned>(panels.shared ? isa.strip : isa.wide, kCopied);
  const std::size_t positions = window.outputs(0) * window.outputs(1);
  const std::size_t at_once = std::min(tokens_at_once(strip, columns), positions + strip);
  const std::size_t image = padded_floats(window), packed = at_once * columns + kCopied;
  thread_local Scratch scratch;
  float* buffer = scratch.of<float>(image + packed + at_once * panels.rows);
  if (buffer == nullptr) return false;
  float *windows = buffer + image, *results = windows + packed;
  pad(window, x, buffer);
  const Source source{window, offsets, columns, window.padded(1), buffer};
  for (std::size_t position = 0; position < positions; position += at_once) {
    const std::size_t here = std::min(at_once, positions - position);
    const Strips strips{windows, columns, here, (here + strip - 1) / strip};
    for (std::size_t s = 0; s < strips.count; ++s)
      pack_positions(source, position + strips.first(s), strips.first(s + 1) - strips.first(s),
                     windows + strips.first(s) * columns);
    multiply_strips(panels, strips, results, panels.rows, threads);
    turn(results, here, panels.rows, y + position, positions);
  }
  return true;
}

}  // namespace

bool convolve(const Panels& panels, const Window& window, const float* x, std::size_t images, float* y,
              unsigned threads) {
  const std::size_t columns = panels.shared ? panels.starts[panels.segments] : panels.columns;
  const std::unique_ptr<std::uint32_t[]> offsets(new (std::nothrow) std::uint32_t[columns]);
  if (!offsets) return false;
  find_offsets(panels, window, columns, offsets.get());
  const std::size_t in = window.channels * window.size[0] * window.size[1];
  const std::size_t out = panels.rows * window.outputs(0) * window.outputs(1);
  std::atomic<bool> done{true};
  const auto one = [&](std::size_t image, unsigned inner) {
    if (!convolve_one(panels, window, offsets.get(), columns, x + image * in, y + image * out, inner)) done = false;
  };
  if (images == 1) one(0, threads);
  else parallel_for(images, threads, [&](std::size_t image, unsigned) { one(image, 1); });
  return done;
}

}  // namespace regrain
