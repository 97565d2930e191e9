// What an instruction set provides for sums over rows.
#pragma once

#include <cstddef>

namespace regrain {

inline constexpr std::size_t kMomentRows = 64;  // that are summed as floats

struct MomentKernels {
  // Adds what up to kMomentRows rows have to sums and squares, see regrain/moments.h.
  void (*add)(const float* x, std::size_t rows, std::size_t columns, const float* mean, double* sums, double* squares);
};

extern const MomentKernels kPortableMoments;
#if defined(__x86_64__)
extern const MomentKernels kAvx2Moments;
extern const MomentKernels kAvx512Moments;
#endif

}  // namespace regrain
