// Products in lists of columns for any CPU: the compiler's own vectors of four floats, which are SSE's and NEON's.
#include <utility>
#if defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "row_kernels.h"

namespace regrain {
namespace {

#include "rows.h"

struct Portable {
  typedef float V __attribute__((vector_size(16)));
  static constexpr unsigned kLanes = 4, kFine = 8, kFour = 2;
  static V zero() { return V{}; }
  static V load(const float* p) {
    V v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
  }
  static void store(float* p, V v) { __builtin_memcpy(p, &v, sizeof v); }
  static V quarters(const float* p) { return load(p); }
  template <unsigned I>
  static V spread(V quarters) {
    return V{quarters[I], quarters[I], quarters[I], quarters[I]};
  }
  static V fma(V a, V b, V c) {
#if defined(__aarch64__)
    return vfmaq_f32(c, a, b);
#else
    return a * b + c;
#endif
  }
  static V add(V a, V b) { return a + b; }
  static void transpose(V (&v)[4]) {
    const V square[4] = {v[0], v[1], v[2], v[3]};
    each<4>([&]<unsigned i>() { v[i] = V{square[0][i], square[1][i], square[2][i], square[3][i]}; });
  }
};

}  // namespace

const RowKernels kPortableRows = {Portable::kLanes,      Portable::kFine,         Portable::kFour,
                                  pack_tokens<Portable>, multiply_rows<Portable>, unpack_sums<Portable>};

}  // namespace regrain
