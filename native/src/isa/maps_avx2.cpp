// Convolutions on maps of eight bits with AVX2: bytes become 16-bit integers, whose products are added in pairs. (Its
// multiplication of bytes saturates.)
#include <immintrin.h>

#include "map_kernels.h"
#include "regrain/maps.h"

namespace regrain {
namespace {

#include "maps.h"

// Of a block's four inputs, the even ones and the odd ones are a part each: a shift or two makes them of the bytes.
struct Avx2 {
  using V = __m256i;
  using F = __m256;
  static constexpr unsigned kVectors = 2, kParts = 2, kStrip = 6, kWide = 6, kTogether = 1;
  static V zero() { return _mm256_setzero_si256(); }
  static V weights(const std::int8_t* p, unsigned part, unsigned vector) {
    const V bytes = _mm256_loadu_si256(reinterpret_cast<const V*>(p + 32 * vector));
    return _mm256_srai_epi16(part == 0 ? _mm256_slli_epi16(bytes, 8) : bytes, 8);
  }
  static V inputs(const std::uint8_t* p, unsigned part) {
    std::int32_t four;
    __builtin_memcpy(&four, p, sizeof four);
    const V bytes = _mm256_set1_epi32(four);
    return part == 0 ? _mm256_and_si256(bytes, _mm256_set1_epi16(255)) : _mm256_srli_epi16(bytes, 8);
  }
  static V dot(V sum, V weights, V inputs) {
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(weights, inputs));
    __asm__("" : "+x"(sum));  // or the compiler adds products to each other first, and has no registers for them
    return sum;
  }
  static F load(const float* p) { return _mm256_loadu_ps(p); }
  static F all(float f) { return _mm256_set1_ps(f); }
  static F floats(V sum) { return _mm256_cvtepi32_ps(sum); }
  static F widened(const std::uint8_t* numbers) {
    return floats(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(numbers))));
  }
  static F mul(F a, F b) { return _mm256_mul_ps(a, b); }
  static F add(F a, F b) { return _mm256_add_ps(a, b); }
  static void put(std::uint8_t* out, const F (&fs)[2], F low) {
    const auto within = [&](F f) __attribute__((always_inline)) {
      return _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(f, low), _mm256_set1_ps(255.0f)));
    };
    // Packing works within the two lanes of a vector, so its quarters come out in the order 0 2 1 3.
    const V words = _mm256_permute4x64_epi64(_mm256_packs_epi32(within(fs[0]), within(fs[1])), _MM_SHUFFLE(3, 1, 2, 0));
    const __m128i low_half = _mm256_castsi256_si128(words), high_half = _mm256_extracti128_si256(words, 1);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm_packus_epi16(low_half, high_half));
  }
};

}  // namespace

const MapKernels kAvx2Maps = {Avx2::kStrip, Avx2::kWide, Avx2::kTogether, convolve_maps<Avx2>};

}  // namespace regrain
