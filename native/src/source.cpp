#include "source.h"

#include <cerrno>

#include <unistd.h>

namespace regrain {
namespace {

constexpr std::size_t kKept = 1 << 20;  // bytes: an odd block must not hold more for ever

// Reads `size` bytes of a file's source from `from` on. False if the file doesn't give them.
bool read_file(const Bytes& source, std::uint64_t from, std::size_t size, std::uint8_t* out) {
  for (std::size_t done = 0; done < size;) {
    const ssize_t got = pread(source.file, out + done, size - done, static_cast<off_t>(source.offset + from + done));
    if (got > 0)
      done += static_cast<std::size_t>(got);
    else if (got == 0 || errno != EINTR)
      return false;
  }
  return true;
}

}  // namespace

const std::uint8_t* Fetcher::fetch(const Bytes& source, std::uint64_t from, std::size_t size) {
  if (source.memory != nullptr) return source.memory + from;
  if (buffer_.size() < size || buffer_.size() > kKept) std::vector<std::uint8_t>(size).swap(buffer_);
  return read_file(source, from, size, buffer_.data()) ? buffer_.data() : nullptr;
}

}  // namespace regrain
