// Products in lists of columns with AVX2 and FMA.
#include <immintrin.h>

#include <utility>

#include "row_kernels.h"

namespace regrain {
namespace {

#include "rows.h"

struct Avx2 {
  using V = __m256;
  static constexpr unsigned kLanes = 8, kFine = 4, kFour = 2;
  static V zero() { return _mm256_setzero_ps(); }
  static V load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, V v) { _mm256_storeu_ps(p, v); }
  static V quarters(const float* p) { return _mm256_broadcast_ps(reinterpret_cast<const __m128*>(p)); }
  template <unsigned I>
  static V spread(V quarters) {
    return _mm256_permute_ps(quarters, I * 0x55);
  }
  static V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
  static V add(V a, V b) { return _mm256_add_ps(a, b); }
  static V low(V a, V b) { return _mm256_castpd_ps(_mm256_unpacklo_pd(_mm256_castps_pd(a), _mm256_castps_pd(b))); }
  static V high(V a, V b) { return _mm256_castpd_ps(_mm256_unpackhi_pd(_mm256_castps_pd(a), _mm256_castps_pd(b))); }
  // Squares of 4 within each half of four rows, then halves.
  static void transpose(V (&v)[8]) {
    V h[4][2];
    each<2>([&]<unsigned i>() {
      const V ab_low = _mm256_unpacklo_ps(v[4 * i], v[4 * i + 1]), ab_high = _mm256_unpackhi_ps(v[4 * i], v[4 * i + 1]);
      const V cd_low = _mm256_unpacklo_ps(v[4 * i + 2], v[4 * i + 3]);
      const V cd_high = _mm256_unpackhi_ps(v[4 * i + 2], v[4 * i + 3]);
      h[0][i] = low(ab_low, cd_low);
      h[1][i] = high(ab_low, cd_low);
      h[2][i] = low(ab_high, cd_high);
      h[3][i] = high(ab_high, cd_high);
    });
    each<4>([&]<unsigned i>() {
      v[i] = _mm256_permute2f128_ps(h[i][0], h[i][1], 0x20);
      v[4 + i] = _mm256_permute2f128_ps(h[i][0], h[i][1], 0x31);
    });
  }
};

}  // namespace

const RowKernels kAvx2Rows = {Avx2::kLanes,      Avx2::kFine,         Avx2::kFour,
                              pack_tokens<Avx2>, multiply_rows<Avx2>, unpack_sums<Avx2>};

}  // namespace regrain
