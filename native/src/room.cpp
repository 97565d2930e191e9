#include <cstdlib>
#include <memory>

#include "strips.h"

namespace regrain {

float* room(std::size_t floats) {
  struct Free {
    void operator()(float* p) const { std::free(p); }
  };
  thread_local std::unique_ptr<float, Free> kept;
  thread_local std::size_t size = 0;
  if (floats >= size) {
    const std::size_t bytes = (floats * sizeof(float) / 4096 + 1) * 4096;
    size = 0;
    kept.reset();
    kept.reset(static_cast<float*>(std::aligned_alloc(4096, bytes)));
    if (kept) size = bytes / sizeof(float);
  }
  return kept.get();
}

}  // namespace regrain
