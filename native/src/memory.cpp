#include "regrain/memory.h"

#include <atomic>
#include <memory>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace regrain {
namespace {

constexpr std::size_t kAlign = 64;
constexpr std::size_t kHugePage = std::size_t{1} << 21;

}  // namespace

struct Slab {
  std::uint8_t* base = nullptr;
  std::size_t size = 0;    // bytes, whole huge pages if mapped
  bool mapped = false;
  std::atomic<std::size_t> parts{0};
  std::unique_ptr<std::atomic<std::uint32_t>[]> on_page;  // parts that touch each huge page
};

namespace {

void free_slab(Slab* slab) noexcept {
#if defined(__linux__)
  if (slab->mapped) munmap(slab->base, slab->size);
#endif
  if (!slab->mapped) ::operator delete(slab->base, std::align_val_t{kAlign});
  delete slab;
}

std::unique_ptr<Slab> make_slab(std::size_t size) {
  auto slab = std::make_unique<Slab>();
#if defined(__linux__)
  if (size >= kHugePage) {
    // one huge page more than needed, so that the slab can start on one
    const std::size_t whole = (size + kHugePage - 1) / kHugePage * kHugePage;
    void* mapping = mmap(nullptr, whole + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapping == MAP_FAILED) throw std::bad_alloc();
    auto* start = static_cast<std::uint8_t*>(mapping);
    const std::size_t before = (kHugePage - reinterpret_cast<std::uintptr_t>(start) % kHugePage) % kHugePage;
    if (before != 0) munmap(start, before);
    if (before != kHugePage) munmap(start + before + whole, kHugePage - before);
    slab->base = start + before;
    slab->size = whole;
    slab->mapped = true;
    madvise(slab->base, whole, MADV_HUGEPAGE);
    slab->on_page = std::make_unique<std::atomic<std::uint32_t>[]>(whole / kHugePage);
    return slab;
  }
#endif
  slab->base = static_cast<std::uint8_t*>(::operator new(size == 0 ? kAlign : size, std::align_val_t{kAlign}));
  slab->size = size;
  return slab;
}

}  // namespace

std::vector<Part*> allocate(const std::vector<std::size_t>& sizes) {
  std::size_t total = 0;
  for (const std::size_t size : sizes) {
    const std::size_t aligned = (size + kAlign - 1) / kAlign * kAlign;
    if (aligned < size || total + aligned < total || total + aligned > PTRDIFF_MAX) throw std::bad_alloc();
    total += aligned;
  }
  std::vector<Part*> parts;
  if (sizes.empty()) return parts;
  parts.reserve(sizes.size());
  std::unique_ptr<Slab> slab = make_slab(total);
  std::size_t at = 0;
  for (const std::size_t size : sizes) {
    parts.push_back(new Part{slab->base + at, size, slab.get()});
    if (slab->mapped && size != 0)
      for (std::size_t page = at / kHugePage; page <= (at + size - 1) / kHugePage; ++page) ++slab->on_page[page];
    at += (size + kAlign - 1) / kAlign * kAlign;
  }
  slab->parts = sizes.size();
  slab.release();
  return parts;
}

void release(Part* part) noexcept {
  Slab* slab = part->slab;
#if defined(__linux__)
  if (slab->mapped && part->size != 0) {
    const std::size_t at = static_cast<std::size_t>(part->data - slab->base);
    for (std::size_t page = at / kHugePage; page <= (at + part->size - 1) / kHugePage; ++page)
      if (--slab->on_page[page] == 0) madvise(slab->base + page * kHugePage, kHugePage, MADV_DONTNEED);
  }
#endif
  delete part;
  if (--slab->parts == 0) free_slab(slab);
}

}  // namespace regrain
