// Memory for results: one mapping for a whole model, advised to use huge pages, since fresh 4K pages cost more than
// decoding into them. Each huge page goes back to the system when the last array on it dies.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace regrain {

struct Slab;

struct Part {
  std::uint8_t* data;
  std::size_t size;  // bytes
  Slab* slab;
};

// One part for each size, aligned to 64 bytes, contents unspecified. Throws std::bad_alloc.
std::vector<Part*> allocate(const std::vector<std::size_t>& sizes);
void release(Part* part) noexcept;

}  // namespace regrain
