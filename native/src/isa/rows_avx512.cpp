// Products in lists of columns with AVX-512.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12's own headers
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>

#include <utility>

#include "row_kernels.h"

namespace regrain {
namespace {

#include "rows.h"

struct Avx512 {
  using V = __m512;
  static constexpr unsigned kLanes = 16, kFine = 4, kFour = 4;
  static V zero() { return _mm512_setzero_ps(); }
  static V load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, V v) { _mm512_storeu_ps(p, v); }
  static V quarters(const float* p) { return _mm512_broadcast_f32x4(_mm_loadu_ps(p)); }
  template <unsigned I>
  static V spread(V quarters) {
    return _mm512_permute_ps(quarters, I * 0x55);
  }
  static V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
  static V add(V a, V b) { return _mm512_add_ps(a, b); }
  static V low(V a, V b) { return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b))); }
  static V high(V a, V b) { return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b))); }
  // Squares of 4 within each quarter of four rows, then quarters.
  static void transpose(V (&v)[16]) {
    V q[4][4];
    each<4>([&]<unsigned i>() {
      const V ab_low = _mm512_unpacklo_ps(v[4 * i], v[4 * i + 1]), ab_high = _mm512_unpackhi_ps(v[4 * i], v[4 * i + 1]);
      const V cd_low = _mm512_unpacklo_ps(v[4 * i + 2], v[4 * i + 3]);
      const V cd_high = _mm512_unpackhi_ps(v[4 * i + 2], v[4 * i + 3]);
      q[0][i] = low(ab_low, cd_low);
      q[1][i] = high(ab_low, cd_low);
      q[2][i] = low(ab_high, cd_high);
      q[3][i] = high(ab_high, cd_high);
    });
    each<4>([&]<unsigned i>() {
      const V a = _mm512_shuffle_f32x4(q[i][0], q[i][1], 0x44), b = _mm512_shuffle_f32x4(q[i][2], q[i][3], 0x44);
      const V c = _mm512_shuffle_f32x4(q[i][0], q[i][1], 0xEE), d = _mm512_shuffle_f32x4(q[i][2], q[i][3], 0xEE);
      v[i] = _mm512_shuffle_f32x4(a, b, 0x88);
      v[4 + i] = _mm512_shuffle_f32x4(a, b, 0xDD);
      v[8 + i] = _mm512_shuffle_f32x4(c, d, 0x88);
      v[12 + i] = _mm512_shuffle_f32x4(c, d, 0xDD);
    });
  }
};

}  // namespace

const RowKernels kAvx512Rows = {Avx512::kLanes,      Avx512::kFine,         Avx512::kFour,
                                pack_tokens<Avx512>, multiply_rows<Avx512>, unpack_sums<Avx512>};

}  // namespace regrain
