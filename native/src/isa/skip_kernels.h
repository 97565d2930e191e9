// What an instruction set provides for products that leave out columns.
#pragma once

#include <cstddef>
#include <cstdint>

#include "regrain/skipping.h"

namespace regrain {

inline constexpr std::size_t kSkipGroup = 8;  // columns that are read together
inline constexpr unsigned kSkipTokens = 2;

// Columns that one token or two have, and what each is to be multiplied with: 0 for a token that doesn't have it.
struct SkipChoice {
  std::uint32_t* list;
  float* factors;      // factors[n * plane + k] for the k-th column of the list
  std::size_t plane;   // at least kSkipGroup more than there are columns
  std::size_t count;   // of the list: a multiple of kSkipGroup
  std::size_t kept;    // columns of each token, together
};

struct SkipKernels {
  // Fills `list` and `factors` for `tokens` rows of x; sets the counts. The list is not filled up to whole groups.
  void (*choose)(const Skipping& skipping, unsigned tokens, const float* x, std::size_t x_stride, SkipChoice& choice);
  // Adds the columns, of `lines` x 64 bytes of weights from `values` on, to sums[n * rows + row].
  void (*add)(const Skipping& skipping, unsigned tokens, const SkipChoice& choice, const std::uint8_t* values,
              std::size_t lines, float* sums);
};

extern const SkipKernels kPortableSkipping;
#if defined(__x86_64__)
extern const SkipKernels kAvx2Skipping;
extern const SkipKernels kAvx512Skipping;
#endif

}  // namespace regrain
