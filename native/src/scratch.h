// Memory that a thread keeps from call to call: one `thread_local Scratch` for each purpose.
#pragma once

#include <cstdlib>
#include <memory>

namespace regrain {

class Scratch {
 public:
  // Room for so many, aligned to a page, contents unspecified; null if there is none. The next call may move it.
  template <class T>
  T* of(std::size_t count) {
    const std::size_t bytes = count * sizeof(T);
    if (bytes >= size_) {
      const std::size_t whole = (bytes / 4096 + 1) * 4096;
      size_ = 0;
      kept_.reset();
      kept_.reset(std::aligned_alloc(4096, whole));
      if (kept_) size_ = whole;
    }
    return static_cast<T*>(kept_.get());
  }

 private:
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  std::unique_ptr<void, Free> kept_;
  std::size_t size_ = 0;
};

}  // namespace regrain
