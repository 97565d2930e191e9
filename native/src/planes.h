// Where the raw planes of a run stand in a block (docs/format.md): whole byte planes of R from the low end, then its 4, 2
// and 1 highest bits.
#pragma once

#include "isa/kernels.h"

namespace regrain {

// Bytes of all planes of `steps` steps.
inline std::size_t planes_size(unsigned raw_bits, std::size_t steps) { return steps * 8 * raw_bits; }

// The planes of `steps` steps of `raw_bits` bits, one after the other from `at`, which moves behind them. The last
// `carried` bytes of byte plane 0 are not there.
template <class Byte>
Planes<Byte> take_planes(Byte*& at, unsigned raw_bits, std::size_t steps, std::size_t carried) {
  Planes<Byte> planes;
  const auto take = [&at](std::size_t bytes) {
    Byte* plane = at;
    at += bytes;
    return plane;
  };
  for (unsigned j = 0; j < raw_bits / 8; ++j) planes.bytes[j] = take(kStep * steps - (j == 0 ? carried : 0));
  if ((raw_bits & 4) != 0) planes.four = take(32 * steps);
  if ((raw_bits & 2) != 0) planes.two = take(16 * steps);
  if ((raw_bits & 1) != 0) planes.one = take(8 * steps);
  return planes;
}

template <class Byte>
Planes<Byte> advance(Planes<Byte> planes, std::size_t steps) {
  for (Byte*& plane : planes.bytes)
    if (plane != nullptr) plane += kStep * steps;
  if (planes.four != nullptr) planes.four += 32 * steps;
  if (planes.two != nullptr) planes.two += 16 * steps;
  if (planes.one != nullptr) planes.one += 8 * steps;
  return planes;
}

}  // namespace regrain
