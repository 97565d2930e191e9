// What the decoder's fuzzer does to a payload beside flipping bytes: changes that respect its structure.
#pragma once

#include "../tests/renew.h"

namespace regrain::testing {

struct Region {
  std::size_t from, to;
};

// A part of the payload in which a mutation stays: the head, a table, an entry of the index, the front of a block ...
inline Region pick_region(const Buffer& payload, Random& random) {
  const Region all{0, payload.size()};
  const Parts parts = find_parts(payload);
  if (!parts.found) return {0, std::min<std::size_t>(payload.size(), kHeadBytes)};
  const std::uint64_t block = random.below(parts.blocks);
  std::size_t from = parts.first;
  for (std::uint64_t b = 0; b < block; ++b) from += parts.length(payload, b);
  if (from >= payload.size()) return all;
  const std::size_t to = std::min(payload.size(), from + parts.length(payload, block));
  const std::size_t classes = parts.tables == 0   ? kTableBytes
                              : parts.tables == 1 ? 0
                                                  : std::min<std::size_t>(8, to - from);
  const std::size_t states = std::min(from + classes, to), stream = std::min(states + 2 * kStep, to);
  const std::size_t entry = parts.index + kIndexBytes * block;
  switch (random.below(8)) {
    case 0: return {4, kHeadBytes};
    case 1: return {kHeadBytes, parts.index};
    case 2: return {entry, entry + kIndexBytes};
    case 3: return {from, states};
    case 4: return {states, stream};
    case 5: return {stream, std::min(to, stream + 64)};
    case 6: return {std::max(to, from + 64) - 64, to};
    default: return {from, to};
  }
}

// Buffer put into a block or taken out of it, its length told.
inline void resize_block(Buffer& payload, Random& random) {
  const Parts parts = find_parts(payload);
  if (!parts.found) return;
  const std::uint64_t block = random.below(parts.blocks);
  std::size_t from = parts.first;
  for (std::uint64_t b = 0; b < block; ++b) from += parts.length(payload, b);
  const std::uint32_t length = parts.length(payload, block);
  if (from > payload.size() || length > payload.size() - from || length == 0) return;
  const std::size_t at = from + random.below(length), room = from + length - at;
  const std::size_t bytes = random.one_in(3) ? 64 : random.between(1, 20);
  const bool grow = random.one_in(2);
  if (!grow && bytes > room) return;
  const auto place = payload.begin() + static_cast<std::ptrdiff_t>(at);
  if (grow)
    payload.insert(place, bytes, static_cast<std::uint8_t>(random.next()));
  else
    payload.erase(place, place + static_cast<std::ptrdiff_t>(bytes));
  write_le(payload.data() + parts.index + kIndexBytes * block,
           static_cast<std::uint32_t>(grow ? length + bytes : length - bytes));
}

// Moves the boundary between two neighboring blocks, or, in 32 bits, past everything.
inline void move_boundary(Buffer& payload, Random& random) {
  const Parts parts = find_parts(payload);
  if (!parts.found || parts.blocks < 2) return;
  const std::uint64_t block = random.below(parts.blocks - 1);
  const std::uint32_t by = static_cast<std::uint32_t>(random.below(2 * payload.size()) - payload.size());
  write_le(payload.data() + parts.index + kIndexBytes * block, parts.length(payload, block) + by);
  write_le(payload.data() + parts.index + kIndexBytes * (block + 1), parts.length(payload, block + 1) - by);
}

// A field of the head or of a block's entry takes one of the values at which something changes.
inline void set_number(Buffer& payload, Random& random) {
  static constexpr std::uint64_t kNumbers[] = {0,  1,   2,   7,   8,    15,    16,    17,    63,  64,
                                               65, 127, 128, 255, 4096, 65535, 65536, 65537, ~0u, ~0ull};
  struct Field {
    std::size_t at, bytes;
  };
  const Field fields[] = {{4, 1}, {5, 1}, {6, 1}, {7, 1}, {8, 8}, {16, 8}, {24, 4}, {28, 4}, {48, 1}, {52, 1}};
  const Parts parts = find_parts(payload);
  Field field = fields[random.below(10)];
  if (parts.found && random.one_in(2)) {
    const std::size_t entry = parts.index + kIndexBytes * random.below(parts.blocks);
    const Field inside[] = {{entry, 4}, {entry + 8, 2}, {entry + 10, 1}};
    field = inside[random.below(3)];
  }
  if (field.at + field.bytes > payload.size()) return;
  std::uint64_t value = 0;
  std::memcpy(&value, payload.data() + field.at, field.bytes);
  value = random.one_in(2) ? kNumbers[random.below(std::size(kNumbers))] : value + random.below(9) - 4;
  std::memcpy(payload.data() + field.at, &value, field.bytes);
}

inline Buffer fresh_payload(std::uint32_t seed, std::size_t most, Random& random) {
  for (unsigned attempt = 0; attempt < 4; ++attempt) {
    const std::uint64_t words = random.one_in(8) ? random.between(300, 9000) : random.between(1, 400);
    const Buffer payload = forge(random_head(words, random), seed, random).payload;
    if (payload.size() <= most) return payload;
  }
  return Buffer(std::min<std::size_t>(most, kHeadBytes), 0);
}

}  // namespace regrain::testing
