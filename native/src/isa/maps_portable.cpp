// Convolutions on maps of eight bits for any CPU: pairs of 16-bit integers, with the compiler's own vectors of four sums.
#if defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "map_kernels.h"
#include "regrain/maps.h"

namespace regrain {
namespace {

#include "maps.h"

struct Portable {
  typedef std::int32_t V __attribute__((vector_size(16)));
  typedef float F __attribute__((vector_size(16)));
  typedef std::int16_t Words __attribute__((vector_size(16)));
#if defined(__x86_64__)
  static constexpr unsigned kStrip = 2;  // 16 registers
#else
  static constexpr unsigned kStrip = 4;  // 32
#endif
  static constexpr unsigned kWide = kStrip, kVectors = 4, kParts = 2, kTogether = 1;
  static V zero() { return V{}; }
  template <class T, class From>
  static T load(const From* p) {
    T v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
  }
  static V weights(const std::int8_t* p, unsigned part, unsigned vector) {
    const Words bytes = load<Words>(p + 16 * vector);
    return reinterpret_cast<V>((part == 0 ? bytes << 8 : bytes) >> 8);
  }
  static V inputs(const std::uint8_t* p, unsigned part) {
    const auto four = load<std::uint32_t>(p);
    const auto two = static_cast<std::int32_t>(four >> (part * 8) & 0x00FF00FF);
    return V{two, two, two, two};
  }
  static V dot(V sum, V weights, V inputs) {
#if defined(__SSE2__)
    sum += reinterpret_cast<V>(_mm_madd_epi16(reinterpret_cast<__m128i>(weights), reinterpret_cast<__m128i>(inputs)));
    __asm__("" : "+x"(sum));  // or the compiler adds products to each other first, and has no registers for them
    return sum;
#elif defined(__aarch64__)
    const int16x8_t a = reinterpret_cast<int16x8_t>(weights), b = reinterpret_cast<int16x8_t>(inputs);
    const int32x4_t low = vmull_s16(vget_low_s16(a), vget_low_s16(b)), high = vmull_high_s16(a, b);
    return sum + reinterpret_cast<V>(vpaddq_s32(low, high));
#else
    return sum + (weights << 16 >> 16) * (inputs << 16 >> 16) + (weights >> 16) * (inputs >> 16);
#endif
  }
  static F load(const float* p) { return load<F>(p); }
  static F all(float f) { return F{f, f, f, f}; }
  static F floats(V sum) { return __builtin_convertvector(sum, F); }
  static F widened(const std::uint8_t* numbers) {
    return floats(V{numbers[0], numbers[1], numbers[2], numbers[3]});
  }
  static F mul(F a, F b) { return a * b; }
  static F add(F a, F b) { return a + b; }
  static void put(std::uint8_t* out, const F (&fs)[4], F low) {
    for (unsigned row = 0; row < kMapRows; ++row) {
      float f = fs[row / 4][row % 4];
      f = f > low[0] ? f : low[0];
      f = f < 255.0f ? f : 255.0f;
      out[row] = static_cast<std::uint8_t>(static_cast<std::int32_t>((f + 0x1.8p23f) - 0x1.8p23f));  // ties to even
    }
  }
};

}  // namespace

const MapKernels kPortableMaps = {Portable::kStrip, Portable::kWide, Portable::kTogether, convolve_maps<Portable>};

}  // namespace regrain
