// Sums over rows with AVX2 and FMA.
#include <immintrin.h>

#include "moment_kernels.h"

namespace regrain {
namespace {

#include "moments.h"

struct Avx2 {
  using V = __m256;
  static constexpr std::size_t kLanes = 8;
  static V zero() { return _mm256_setzero_ps(); }
  static V load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, V v) { _mm256_storeu_ps(p, v); }
  static V add(V a, V b) { return _mm256_add_ps(a, b); }
  static V sub(V a, V b) { return _mm256_sub_ps(a, b); }
  static V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
};

}  // namespace

const MomentKernels kAvx2Moments = {add_moments<Avx2>};

}  // namespace regrain
