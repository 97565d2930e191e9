// Sums of columns with AVX-512.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12's own headers
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>

#include <utility>

#include "skip_kernels.h"

namespace regrain {
namespace {

#include "skipping.h"

struct Avx512 {
  using V = __m512;
  static constexpr unsigned kLanes = 16, kTogether = 8;
  static V load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, V v) { _mm512_storeu_ps(p, v); }
  static V broadcast(const float* p) { return _mm512_set1_ps(*p); }
  static V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
  static V mul(V a, V b) { return _mm512_mul_ps(a, b); }
  static V add(V a, V b) { return _mm512_add_ps(a, b); }
  static V halves(const std::uint8_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static V bytes(const std::uint8_t* p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
  }

  static constexpr bool kCompresses = true;
  using Mask = __mmask16;
  static V sub(V a, V b) { return _mm512_sub_ps(a, b); }
  static Mask above(V away, V norm, float threshold) {
    return _mm512_cmp_ps_mask(mul(_mm512_abs_ps(away), norm), _mm512_set1_ps(threshold), _CMP_NLE_UQ);
  }
  static Mask either(Mask a, Mask b) { return a | b; }
  static unsigned bits(Mask m) { return m; }
  static V only(Mask m, V v) { return _mm512_maskz_mov_ps(m, v); }
  static void compress(unsigned bits, V v, float* p) { store(p, _mm512_maskz_compress_ps(static_cast<Mask>(bits), v)); }
  static void compress_from(unsigned bits, std::uint32_t c, std::uint32_t* p) {
    const __m512i counted = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i all = _mm512_add_epi32(counted, _mm512_set1_epi32(static_cast<int>(c)));
    _mm512_storeu_si512(p, _mm512_maskz_compress_epi32(static_cast<Mask>(bits), all));
  }
};

}  // namespace

const SkipKernels kAvx512Skipping = {choose_skipping<Avx512>, add_skipping<Avx512>};

}  // namespace regrain
