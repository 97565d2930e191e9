// Products of integers with AVX-512 VNNI: a block is one vector, and one instruction multiplies it.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12's own headers
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>

#include <utility>

#include "integer_kernels.h"

namespace regrain {
namespace {

#include "integers.h"

struct Avx512 {
  using V = __m512i;
  using F = __m512;
  static constexpr unsigned kVectors = 1, kParts = 1, kBytes = 4, kStrip = 12, kWide = 24, kTogether = 2, kSingle = 4;
  static constexpr std::size_t kColumns = 16;
  static V zero() { return _mm512_setzero_si512(); }
  template <unsigned H, unsigned I>
  static V weights(const std::int8_t* p) {
    return _mm512_loadu_si512(p);
  }
  template <unsigned H>
  static V token(const std::uint8_t* p) {
    std::int32_t four;
    __builtin_memcpy(&four, p, sizeof four);
    return _mm512_set1_epi32(four);
  }
  static V dot(V sum, V weights, V token) {
    sum = _mm512_dpbusd_epi32(sum, token, weights);
    __asm__("" : "+v"(sum));  // or GCC copies sums from register to register, and runs out of them
    return sum;
  }
  static V add(V a, V b) { return _mm512_add_epi32(a, b); }
  struct Row {
    V sums;
    F scales, bias;
  };
  static Row row(const std::int32_t* sums, const float* scales, const float* bias) {
    return {_mm512_loadu_si512(sums), _mm512_loadu_ps(scales), _mm512_loadu_ps(bias)};
  }
  static F finish(V sum, const TokenScale& token, const Row& row) {
    const V centered = _mm512_sub_epi32(sum, _mm512_mullo_epi32(_mm512_set1_epi32(token.zero), row.sums));
    const F scale = _mm512_mul_ps(_mm512_set1_ps(token.scale), row.scales);
    return _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(centered), scale), row.bias);
  }
  static void store(float* p, F v) { _mm512_storeu_ps(p, v); }

  static void choose(const float* x, const Chosen& chosen, float* out) {
    const std::uint16_t* mask = chosen.masks;
    for (std::size_t column = 0; column < chosen.columns; column += 16, ++mask) {
      const F some = _mm512_maskz_loadu_ps(*mask, x + column);
      _mm512_storeu_ps(out, _mm512_maskz_compress_ps(*mask, some));
      out += _mm_popcnt_u32(*mask);
    }
  }

  static Range range(const float* x, std::size_t inputs) {
    F low[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()}, high[2] = {low[0], low[1]};
    __mmask16 unordered = 0;
    const auto two = [&](F a, F b) __attribute__((always_inline)) {
      low[0] = _mm512_min_ps(low[0], a);
      low[1] = _mm512_min_ps(low[1], b);
      high[0] = _mm512_max_ps(high[0], a);
      high[1] = _mm512_max_ps(high[1], b);
      unordered |= _mm512_cmp_ps_mask(a, b, _CMP_UNORD_Q);
    };
    for (; inputs >= 32; inputs -= 32, x += 32) two(_mm512_loadu_ps(x), _mm512_loadu_ps(x + 16));
    const std::uint32_t left = _bzhi_u32(~0u, static_cast<unsigned>(inputs));
    two(_mm512_maskz_loadu_ps(static_cast<__mmask16>(left), x),
        _mm512_maskz_loadu_ps(static_cast<__mmask16>(left >> 16), x + 16));
    return {_mm512_reduce_min_ps(_mm512_min_ps(low[0], low[1])), _mm512_reduce_max_ps(_mm512_max_ps(high[0], high[1])),
            unordered == 0};
  }
  static V quantized(const float* x, const Scaler& by) {
    const F scaled = _mm512_mul_ps(_mm512_loadu_ps(x), _mm512_set1_ps(by.inverse));
    return _mm512_add_epi32(_mm512_cvtps_epi32(scaled), _mm512_set1_epi32(by.zero));
  }
  // Packing works within the four lanes of a vector, and a lane is a group: what comes out is in order.
  static void quantize_four(const float* const (&x)[4], const Scaler (&by)[4], std::uint8_t* out, std::size_t room) {
    const V first = _mm512_packs_epi32(quantized(x[0], by[0]), quantized(x[1], by[1]));
    const V last = _mm512_packs_epi32(quantized(x[2], by[2]), quantized(x[3], by[3]));
    const V bytes = _mm512_packus_epi16(first, last);
    const auto at = [&](std::size_t group) { return reinterpret_cast<__m128i*>(out + group * room * kBytes); };
    _mm_storeu_si128(at(0), _mm512_castsi512_si128(bytes));
    _mm_storeu_si128(at(1), _mm512_extracti32x4_epi32(bytes, 1));
    _mm_storeu_si128(at(2), _mm512_extracti32x4_epi32(bytes, 2));
    _mm_storeu_si128(at(3), _mm512_extracti32x4_epi32(bytes, 3));
  }
  static void quantize_one(const float* x, const Scaler& by, std::uint8_t* out) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm512_cvtusepi32_epi8(quantized(x, by)));  // never below 0
  }
};

}  // namespace

const IntegerKernels kAvx512Integers = {Avx512::kStrip, Avx512::kWide, Avx512::kBytes,         Avx512::kTogether,
                                        Avx512::kSingle, Avx512::choose, quantize_strip<Avx512>, multiply_integers<Avx512>};

}  // namespace regrain
