// What an instruction set provides for products in panels.
#pragma once

#include <cstddef>
#include <cstdint>

#include "regrain/panels.h"

namespace regrain {

inline constexpr unsigned kMostTogether = 4;

// Panels that are multiplied together. They have one list; entries count from the first of a panel.
struct PanelWork {
  const std::uint8_t* values[kMostTogether];
  const float* scales[kMostTogether];
  const float* bias[kMostTogether];
  const std::uint32_t* starts;  // of each segment, and the end of the last
  const std::uint16_t* list;    // the row of the strip that an entry reads; null: row e
  std::size_t segments;
};

// A strip holds up to `strip` tokens, packed: for each column the tokens one after the other. One token is a strip as it is.
struct PanelKernels {
  unsigned strip;             // tokens, where panels share their list
  unsigned wide;              // tokens, where each has its own: one panel at a time
  unsigned together, single;  // panels: of several tokens, of one
  // out[c * tokens + n] = x[n * stride + (list ? list[c] : c)] for c < count
  void (*pack)(const float* x, std::size_t stride, unsigned tokens, const std::uint16_t* list, std::size_t count,
               float* out);
  // Row n of y has `rows` of the panels' rows.
  void (*multiply)(PanelValue type, const PanelWork& work, unsigned panels, const float* strip, unsigned tokens, float* y,
                   std::size_t y_stride, std::size_t rows);
};

extern const PanelKernels kPortablePanels;
#if defined(__x86_64__)
extern const PanelKernels kAvx2Panels;
extern const PanelKernels kAvx512Panels;
#endif

}  // namespace regrain
