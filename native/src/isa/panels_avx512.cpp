// Products in panels with AVX-512: a panel is one vector.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12's own headers
#endif
#include <immintrin.h>

#include "panel_kernels.h"

namespace regrain {
namespace {

#include "transpose.h"
#include "panels.h"

struct Avx512 {
  using V = __m512;
  static constexpr unsigned kVectors = 1, kStrip = 12, kWide = 24, kTogether = 2, kSingle = 4;
  static V zero() { return _mm512_setzero_ps(); }
  static V load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, V v) { _mm512_storeu_ps(p, v); }
  static V broadcast(const float* p) { return _mm512_set1_ps(*p); }
  static V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
  static V mul(V a, V b) { return _mm512_mul_ps(a, b); }
  static V add(V a, V b) { return _mm512_add_ps(a, b); }
  static V halves(const std::uint8_t* p, unsigned) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static V bytes(const std::uint8_t* p, unsigned) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
  }
  // A permutation looks at the low four bits of each index alone: a nibble picks its own value.
  static V nibbles(__m512i v) {
    return _mm512_permutexvar_ps(v, _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7));
  }
  static __m512i widened(const std::uint8_t* p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static V low(const std::uint8_t* p, unsigned) {
    return nibbles(widened(p));
  }
  static V high(const std::uint8_t* p, unsigned) {
    return nibbles(_mm512_srli_epi32(widened(p), 4));
  }
};

}  // namespace

const PanelKernels kAvx512Panels = {Avx512::kStrip, Avx512::kWide, Avx512::kTogether, Avx512::kSingle, pack_strip<Avx512::kWide>,
                                    multiply_panels<Avx512>};

}  // namespace regrain
