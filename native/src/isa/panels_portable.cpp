// Products in panels for any CPU: the compiler's own vectors of four floats, which are SSE's and NEON's.
#if defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "panel_kernels.h"

namespace regrain {
namespace {

#include "transpose.h"
#include "panels.h"

struct Portable {
  typedef float V __attribute__((vector_size(16)));
#if defined(__x86_64__)
  static constexpr unsigned kStrip = 2;  // 16 registers
#else
  static constexpr unsigned kStrip = 4;  // 32
#endif
  static constexpr unsigned kWide = kStrip, kVectors = 4, kTogether = 1, kSingle = 2;
  static V zero() { return V{}; }
  static V load(const float* p) {
    V v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
  }
  static void store(float* p, V v) { __builtin_memcpy(p, &v, sizeof v); }
  static V broadcast(const float* p) { return V{*p, *p, *p, *p}; }
  static V fma(V a, V b, V c) {
#if defined(__aarch64__)
    return vfmaq_f32(c, a, b);
#else
    return a * b + c;
#endif
  }
  static V mul(V a, V b) { return a * b; }
  static V add(V a, V b) { return a + b; }
  template <class From>
  static V converted(const From& from) {
    return V{from(0), from(1), from(2), from(3)};
  }
  static float half(const std::uint8_t* p) {
    std::uint16_t bits;
    __builtin_memcpy(&bits, p, 2);
    const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000) << 16, size = bits & 0x7FFF;
    if (size >= 0x7C00) return __builtin_bit_cast(float, sign | 0x7F800000 | (size & 0x3FF) << 13);
    // Half and float differ in their exponents' bias alone, once a power of two is taken out; so subnormals come right.
    const float scaled = __builtin_bit_cast(float, sign | size << 13);
    return scaled * 0x1p112f;
  }
  static V halves(const std::uint8_t* p, unsigned i) {
    return converted([p, i](unsigned r) { return half(p + 2 * (4 * i + r)); });
  }
  static V bytes(const std::uint8_t* p, unsigned i) {
    return converted([p, i](unsigned r) { return static_cast<float>(static_cast<std::int8_t>(p[4 * i + r])); });
  }
  static V low(const std::uint8_t* p, unsigned i) {
    return converted([p, i](unsigned r) { return static_cast<float>((p[4 * i + r] & 15) - 8); });
  }
  static V high(const std::uint8_t* p, unsigned i) {
    return converted([p, i](unsigned r) { return static_cast<float>((p[4 * i + r] >> 4) - 8); });
  }
};

}  // namespace

const PanelKernels kPortablePanels = {Portable::kStrip, Portable::kWide, Portable::kTogether, Portable::kSingle,
                                      pack_strip<Portable::kWide>, multiply_panels<Portable>};

}  // namespace regrain
