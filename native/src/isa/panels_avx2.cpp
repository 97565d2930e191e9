// Products in panels with AVX2 and FMA: a panel is two vectors.
#include <immintrin.h>

#include "panel_kernels.h"

namespace regrain {
namespace {

#include "transpose.h"
#include "panels.h"

struct Avx2 {
  using V = __m256;
  static constexpr unsigned kVectors = 2, kStrip = 6, kWide = 6, kTogether = 1, kSingle = 2;
  static V zero() { return _mm256_setzero_ps(); }
  static V load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, V v) { _mm256_storeu_ps(p, v); }
  static V broadcast(const float* p) { return _mm256_broadcast_ss(p); }
  static V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
  static V mul(V a, V b) { return _mm256_mul_ps(a, b); }
  static V add(V a, V b) { return _mm256_add_ps(a, b); }
  static V halves(const std::uint8_t* p, unsigned i) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p) + i));
  }
  static __m128i eight(const std::uint8_t* p) { return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)); }
  static V bytes(const std::uint8_t* p, unsigned i) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(eight(p + 8 * i)));
  }
  static V low(const std::uint8_t* p, unsigned i) {
    const __m256i nibbles = _mm256_and_si256(_mm256_cvtepu8_epi32(eight(p + 8 * i)), _mm256_set1_epi32(15));
    return _mm256_cvtepi32_ps(_mm256_sub_epi32(nibbles, _mm256_set1_epi32(8)));
  }
  static V high(const std::uint8_t* p, unsigned i) {
    const __m256i nibbles = _mm256_srli_epi32(_mm256_cvtepu8_epi32(eight(p + 8 * i)), 4);
    return _mm256_cvtepi32_ps(_mm256_sub_epi32(nibbles, _mm256_set1_epi32(8)));
  }
};

}  // namespace

const PanelKernels kAvx2Panels = {Avx2::kStrip, Avx2::kWide, Avx2::kTogether, Avx2::kSingle, pack_strip<Avx2::kWide>,
                                  multiply_panels<Avx2>};

}  // namespace regrain
