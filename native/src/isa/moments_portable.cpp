// Sums over rows for any CPU: the compiler's own vectors of four floats, which are SSE's and NEON's.
#include "moment_kernels.h"

namespace regrain {
namespace {

#include "moments.h"

struct Portable {
  typedef float V __attribute__((vector_size(16)));
  static constexpr std::size_t kLanes = 4;
  static V zero() { return V{}; }
  static V load(const float* p) {
    V v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
  }
  static void store(float* p, V v) { __builtin_memcpy(p, &v, sizeof v); }
  static V add(V a, V b) { return a + b; }
  static V sub(V a, V b) { return a - b; }
  static V fma(V a, V b, V c) { return a * b + c; }
};

}  // namespace

const MomentKernels kPortableMoments = {add_moments<Portable>};

}  // namespace regrain
