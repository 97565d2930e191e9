// Convolutions on maps of eight bits with AVX-512 VNNI: a block is one vector, and one instruction multiplies it.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12's own headers
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>

#include "map_kernels.h"
#include "regrain/maps.h"

namespace regrain {
namespace {

#include "maps.h"

struct Avx512 {
  using V = __m512i;
  using F = __m512;
  static constexpr unsigned kVectors = 1, kParts = 1, kStrip = 14, kWide = 24, kTogether = 2;
  static V zero() { return _mm512_setzero_si512(); }
  static V weights(const std::int8_t* p, unsigned, unsigned) { return _mm512_loadu_si512(p); }
  static V inputs(const std::uint8_t* p, unsigned) {
    std::int32_t four;
    __builtin_memcpy(&four, p, sizeof four);
    return _mm512_set1_epi32(four);
  }
  static V dot(V sum, V weights, V inputs) {
    sum = _mm512_dpbusd_epi32(sum, inputs, weights);
    __asm__("" : "+v"(sum));  // or GCC copies sums from register to register, and runs out of them
    return sum;
  }
  static F load(const float* p) { return _mm512_loadu_ps(p); }
  static F all(float f) { return _mm512_set1_ps(f); }
  static F floats(V sum) { return _mm512_cvtepi32_ps(sum); }
  static F widened(const std::uint8_t* numbers) {
    return floats(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(numbers))));
  }
  static F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static F add(F a, F b) { return _mm512_add_ps(a, b); }
  static void put(std::uint8_t* out, const F (&fs)[1], F low) {
    // What is too great for an integer becomes 2^31, and that, like all above 255, 255.
    const V integers = _mm512_cvtps_epi32(_mm512_max_ps(fs[0], low));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm512_cvtusepi32_epi8(integers));
  }
};

}  // namespace

const MapKernels kAvx512Maps = {Avx512::kStrip, Avx512::kWide, Avx512::kTogether, convolve_maps<Avx512>};

}  // namespace regrain
