// Sums of columns for any CPU: the compiler's own vectors of four floats, which are SSE's and NEON's.
#include <utility>
#if defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "skip_kernels.h"

namespace regrain {
namespace {

#include "skipping.h"

struct Portable {
  typedef float V __attribute__((vector_size(16)));
  static constexpr unsigned kLanes = 4, kTogether = 4;
  static constexpr bool kCompresses = false;
  static V load(const float* p) { return of<V>(reinterpret_cast<const std::uint8_t*>(p)); }
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
  template <class T>
  static T of(const std::uint8_t* p) {
    T v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
  }
  static V halves(const std::uint8_t* p) {
    typedef std::uint16_t Halves __attribute__((vector_size(8)));
    typedef std::uint32_t Words __attribute__((vector_size(16)));
    const Words bits = __builtin_convertvector(of<Halves>(p), Words);
    const Words sign = (bits & 0x8000) << 16, size = bits & 0x7FFF;
    // Half and float differ in their exponents' bias alone, once a power of two is taken out; so subnormals come right.
    const Words finite = __builtin_bit_cast(Words, __builtin_bit_cast(V, size << 13) * 0x1p112f);
    const Words other = size << 13 | 0x7F800000, is_finite = __builtin_bit_cast(Words, size < 0x7C00);
    return __builtin_bit_cast(V, sign | (finite & is_finite) | (other & ~is_finite));
  }
  static V bytes(const std::uint8_t* p) {
    typedef std::int8_t Bytes __attribute__((vector_size(4)));
    return __builtin_convertvector(of<Bytes>(p), V);
  }
};

}  // namespace

const SkipKernels kPortableSkipping = {choose_skipping<Portable>, add_skipping<Portable>};

}  // namespace regrain
