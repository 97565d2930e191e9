// Sums of columns with AVX2 and FMA.
#include <immintrin.h>

#include <utility>

#include "skip_kernels.h"

namespace regrain {
namespace {

#include "skipping.h"

struct Avx2 {
  using V = __m256;
  static constexpr unsigned kLanes = 8, kTogether = 4;
  static V load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, V v) { _mm256_storeu_ps(p, v); }
  static V broadcast(const float* p) { return _mm256_broadcast_ss(p); }
  static V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
  static V mul(V a, V b) { return _mm256_mul_ps(a, b); }
  static V add(V a, V b) { return _mm256_add_ps(a, b); }
  static V halves(const std::uint8_t* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static V bytes(const std::uint8_t* p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
  }

  static constexpr bool kCompresses = true;
  using Mask = __m256;
  static V sub(V a, V b) { return _mm256_sub_ps(a, b); }
  static Mask above(V away, V norm, float threshold) {
    const V size = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), away);
    return _mm256_cmp_ps(mul(size, norm), _mm256_set1_ps(threshold), _CMP_NLE_UQ);
  }
  static Mask either(Mask a, Mask b) { return _mm256_or_ps(a, b); }
  static unsigned bits(Mask m) { return static_cast<unsigned>(_mm256_movemask_ps(m)); }
  static V only(Mask m, V v) { return _mm256_and_ps(m, v); }
  // The numbers of set bits: bits to bytes of ones, which pick from 0 to 7.
  static __m256i places(unsigned bits) {
    const std::uint64_t bytes = _pdep_u64(bits, 0x0101010101010101) * 0xFF;
    const std::uint64_t picked = _pext_u64(0x0706050403020100, bytes);
    return _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(static_cast<long long>(picked)));
  }
  static void compress(unsigned bits, V v, float* p) { store(p, _mm256_permutevar8x32_ps(v, places(bits))); }
  static void compress_from(unsigned bits, std::uint32_t c, std::uint32_t* p) {
    const __m256i all = _mm256_add_epi32(places(bits), _mm256_set1_epi32(static_cast<int>(c)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), all);
  }
};

}  // namespace

const SkipKernels kAvx2Skipping = {choose_skipping<Avx2>, add_skipping<Avx2>};

}  // namespace regrain
