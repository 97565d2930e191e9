// What an instruction set provides for networks on maps of eight bits.
#pragma once

#include <cstddef>
#include <cstdint>

namespace regrain {

inline constexpr unsigned kMostMapPanels = 2, kMostPositions = 24;

// Panels that are multiplied together. They have the same blocks. See MapStep.
struct MapWork {
  const std::int8_t* values[kMostMapPanels];
  const std::uint32_t* offsets;
  std::size_t blocks;
  const float* factors;  // from the first row of the first panel on
  const float* bias;
  float weight, low;
};

// Of up to so many positions: where the window's first place is; what is added (null: nothing); where the rows go.
struct MapPlaces {
  const std::uint8_t* const* from;
  const std::uint8_t* const* added;
  std::uint8_t* const* to;
};

struct MapKernels {
  unsigned strip;     // positions, where panels have every group
  unsigned wide;      // positions, where each panel has blocks of its own: one at a time
  unsigned together;  // panels
  // `row` is that of the first panel: it counts in `added` and `to`.
  void (*multiply)(const MapWork& work, unsigned panels, const MapPlaces& places, unsigned positions, std::size_t row);
};

extern const MapKernels kPortableMaps;
#if defined(__x86_64__)
extern const MapKernels kAvx2Maps;
extern const MapKernels kAvx512Maps;
#endif

}  // namespace regrain
