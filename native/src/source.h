// Getting at bytes that may be in memory or in a file.
#pragma once

#include <vector>

#include "regrain/codec.h"

namespace regrain {

// A reader's place for bytes of a file. Kept, so that it is allocated once and stays in the cache.
class Fetcher {
 public:
  // Bytes [from, from + size) of the source, valid until the next call; null if the file doesn't give them.
  const std::uint8_t* fetch(const Bytes& source, std::uint64_t from, std::size_t size);

 private:
  std::vector<std::uint8_t> buffer_;
};

}  // namespace regrain
