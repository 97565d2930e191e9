// Products of integers for any CPU: pairs of 16-bit integers, with the compiler's own vectors of four sums.
#include <utility>
#if defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "integer_kernels.h"

namespace regrain {
namespace {

#include "integers.h"

struct Portable {
  typedef std::int32_t V __attribute__((vector_size(16)));
  typedef float F __attribute__((vector_size(16)));
#if defined(__x86_64__)
  static constexpr unsigned kStrip = 2;  // 16 registers
#else
  static constexpr unsigned kStrip = 4;  // 32
#endif
  static constexpr unsigned kWide = kStrip, kVectors = 4, kParts = 2, kBytes = 8, kTogether = 1, kSingle = 1;
  static constexpr std::size_t kColumns = 4;
  static V zero() { return V{}; }
  template <class T, class From>
  static T load(const From* p) {
    T v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
  }
  typedef std::int16_t Words __attribute__((vector_size(16)));
  template <unsigned H, unsigned I>
  static V weights(const std::int8_t* p) {
    const Words bytes = load<Words>(p + 16 * I);
    return reinterpret_cast<V>((H == 0 ? bytes << 8 : bytes) >> 8);
  }
  template <unsigned H>
  static V token(const std::uint8_t* p) {
    const std::int32_t two = load<std::int32_t>(p + 4 * H);
    return V{two, two, two, two};
  }
  static V dot(V sum, V weights, V token) {
#if defined(__SSE2__)
    sum += reinterpret_cast<V>(_mm_madd_epi16(reinterpret_cast<__m128i>(weights), reinterpret_cast<__m128i>(token)));
    __asm__("" : "+x"(sum));  // or the compiler adds products to each other first, and has no registers for them
    return sum;
#elif defined(__aarch64__)
    const int16x8_t a = reinterpret_cast<int16x8_t>(weights), b = reinterpret_cast<int16x8_t>(token);
    const int32x4_t low = vmull_s16(vget_low_s16(a), vget_low_s16(b)), high = vmull_high_s16(a, b);
    return sum + reinterpret_cast<V>(vpaddq_s32(low, high));
#else
    return sum + (weights << 16 >> 16) * (token << 16 >> 16) + (weights >> 16) * (token >> 16);
#endif
  }
  static V add(V a, V b) { return a + b; }
  struct Row {
    V sums;
    F scales, bias;
  };
  static Row row(const std::int32_t* sums, const float* scales, const float* bias) {
    return {load<V>(sums), load<F>(scales), load<F>(bias)};
  }
  static F finish(V sum, const TokenScale& token, const Row& row) {
    return __builtin_convertvector(sum - token.zero * row.sums, F) * (token.scale * row.scales) + row.bias;
  }
  static void store(float* p, F v) { __builtin_memcpy(p, &v, sizeof v); }

  static Range range(const float* x, std::size_t inputs) {
    Range found{0, 0, true};
    for (std::size_t i = 0; i < inputs; ++i) {
      found.low = x[i] < found.low ? x[i] : found.low;
      found.high = x[i] > found.high ? x[i] : found.high;
      found.numbers &= x[i] == x[i];
    }
    return found;
  }
  static void quantize_one(const float* x, const Scaler& by, std::uint8_t* out) {
    std::int16_t words[4];
    for (unsigned k = 0; k < 4; ++k) {
      const std::int32_t integer = by.inverse == 0 ? 0 : static_cast<std::int32_t>(rounded(x[k] * by.inverse)) + by.zero;
      words[k % 2 * 2 + k / 2] = static_cast<std::int16_t>(integer < 255 ? integer : 255);
    }
    __builtin_memcpy(out, words, sizeof words);
  }
  static void quantize_four(const float* const (&x)[4], const Scaler (&by)[4], std::uint8_t* out, std::size_t) {
    for (unsigned n = 0; n < 4; ++n) quantize_one(x[n], by[n], out + n * kBytes);
  }
};

}  // namespace

const IntegerKernels kPortableIntegers = {Portable::kStrip, Portable::kWide, Portable::kBytes,         Portable::kTogether,
                                          Portable::kSingle, choose, quantize_strip<Portable>, multiply_integers<Portable>};

}  // namespace regrain
