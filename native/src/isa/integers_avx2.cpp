// Products of integers with AVX2: bytes become 16-bit integers, whose products are added in pairs. (Its multiplication of
// bytes saturates.)
#include <immintrin.h>

#include <utility>

#include "integer_kernels.h"

namespace regrain {
namespace {

#include "integers.h"

// Of a block's four columns, the even ones and the odd ones are a part each: a shift or two makes them of the bytes.
struct Avx2 {
  using V = __m256i;
  using F = __m256;
  static constexpr unsigned kVectors = 2, kParts = 2, kBytes = 8, kStrip = 6, kWide = 6, kTogether = 1, kSingle = 2;
  static constexpr std::size_t kColumns = 8;
  static V zero() { return _mm256_setzero_si256(); }
  static V load(const void* p) { return _mm256_loadu_si256(static_cast<const V*>(p)); }
  template <unsigned H, unsigned I>
  static V weights(const std::int8_t* p) {
    const V bytes = load(p + 32 * I);
    return _mm256_srai_epi16(H == 0 ? _mm256_slli_epi16(bytes, 8) : bytes, 8);
  }
  template <unsigned H>
  static V token(const std::uint8_t* p) {
    std::int32_t two;
    __builtin_memcpy(&two, p + 4 * H, sizeof two);
    return _mm256_set1_epi32(two);
  }
  static V dot(V sum, V weights, V token) {
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(weights, token));
    __asm__("" : "+x"(sum));  // or the compiler adds products to each other first, and has no registers for them
    return sum;
  }
  static V add(V a, V b) { return _mm256_add_epi32(a, b); }
  struct Row {
    V sums;
    F scales, bias;
  };
  static Row row(const std::int32_t* sums, const float* scales, const float* bias) {
    return {load(sums), _mm256_loadu_ps(scales), _mm256_loadu_ps(bias)};
  }
  static F finish(V sum, const TokenScale& token, const Row& row) {
    const V centered = _mm256_sub_epi32(sum, _mm256_mullo_epi32(_mm256_set1_epi32(token.zero), row.sums));
    const F scale = _mm256_mul_ps(_mm256_set1_ps(token.scale), row.scales);
    return _mm256_add_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(centered), scale), row.bias);
  }
  static void store(float* p, F v) { _mm256_storeu_ps(p, v); }

  static Range range(const float* x, std::size_t inputs) {
    F low = _mm256_setzero_ps(), high = low, unordered = low;
    const auto some = [&](F a) __attribute__((always_inline)) {
      low = _mm256_min_ps(low, a);
      high = _mm256_max_ps(high, a);
      unordered = _mm256_or_ps(unordered, _mm256_cmp_ps(a, a, _CMP_UNORD_Q));
    };
    for (; inputs >= 8; inputs -= 8, x += 8) some(_mm256_loadu_ps(x));
    float last[8] = {};
    __builtin_memcpy(last, x, inputs * sizeof(float));
    some(_mm256_loadu_ps(last));
    float lows[8], highs[8];
    store(lows, low);
    store(highs, high);
    Range found{0, 0, _mm256_movemask_ps(unordered) == 0};
    for (unsigned i = 0; i < 8; ++i) {
      if (lows[i] < found.low) found.low = lows[i];
      if (highs[i] > found.high) found.high = highs[i];
    }
    return found;
  }
  static V quantized(const float* x, const Scaler& by) {
    const F scaled = _mm256_mul_ps(_mm256_loadu_ps(x), _mm256_set1_ps(by.inverse));
    const V integers = _mm256_add_epi32(_mm256_cvtps_epi32(scaled), _mm256_set1_epi32(by.zero));
    return _mm256_shuffle_epi32(_mm256_min_epi32(integers, _mm256_set1_epi32(255)), _MM_SHUFFLE(3, 1, 2, 0));
  }
  // Packing works within the two lanes of a vector, and a lane is a group.
  static void quantize_four(const float* const (&x)[4], const Scaler (&by)[4], std::uint8_t* out, std::size_t room) {
    const V first = _mm256_packs_epi32(quantized(x[0], by[0]), quantized(x[1], by[1]));
    const V last = _mm256_packs_epi32(quantized(x[2], by[2]), quantized(x[3], by[3]));
    _mm256_storeu_si256(reinterpret_cast<V*>(out), _mm256_permute2x128_si256(first, last, 0x20));
    _mm256_storeu_si256(reinterpret_cast<V*>(out + room * kBytes), _mm256_permute2x128_si256(first, last, 0x31));
  }
  static void quantize_one(const float* x, const Scaler& by, std::uint8_t* out) {
    const V integers = quantized(x, by);
    const V words = _mm256_permute4x64_epi64(_mm256_packs_epi32(integers, integers), _MM_SHUFFLE(3, 1, 2, 0));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm256_castsi256_si128(words));
  }
};

}  // namespace

const IntegerKernels kAvx2Integers = {Avx2::kStrip, Avx2::kWide, Avx2::kBytes,         Avx2::kTogether,
                                      Avx2::kSingle, choose, quantize_strip<Avx2>, multiply_integers<Avx2>};

}  // namespace regrain
