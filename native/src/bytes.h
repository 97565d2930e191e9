// Little-endian integers at any address. Every machine the project builds for is little-endian.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

namespace regrain {

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

template <class T>
T read_le(const std::uint8_t* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

template <class T>
void write_le(std::uint8_t* to, T value) {
  std::memcpy(to, &value, sizeof value);
}

}  // namespace regrain
