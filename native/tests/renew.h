// What a forger does after changing a payload: renews checksums, mends lengths and frequencies, so that the reader
// looks deeper. Reads nothing that is not there, whatever the bytes are.
#pragma once

#include "forge.h"

namespace regrain::testing {

// Where the parts of a payload stand. Its head may be wrong in every other way.
struct Parts {
  unsigned tables = 0;
  std::uint64_t blocks = 0;
  std::size_t index = 0, checksum = 0, first = 0;  // of the index, of the head's checksum, of the first block
  bool found = false;
  std::uint32_t length(const Buffer& payload, std::uint64_t block) const {
    return read_le<std::uint32_t>(payload.data() + index + kIndexBytes * block);
  }
};

inline Parts find_parts(const Buffer& payload) {
  Parts parts;
  if (payload.size() < kHeadBytes + 4) return parts;
  parts.tables = payload[48];
  const std::uint64_t count = read_le<std::uint64_t>(payload.data() + 8);
  const std::uint32_t block_words = read_le<std::uint32_t>(payload.data() + 24);
  if (count == 0 || block_words == 0 || parts.tables > kSymbols) return parts;
  parts.blocks = (count - 1) / block_words + 1;
  if (parts.blocks > payload.size() / kIndexBytes) return parts;
  parts.index = kHeadBytes + kTableBytes * parts.tables;
  parts.checksum = parts.index + kIndexBytes * static_cast<std::size_t>(parts.blocks);
  parts.first = parts.checksum + 4;
  parts.found = parts.first <= payload.size();
  return parts;
}

// Gives the last block what the others leave of the payload, unless only padding is left over, and zeros to a multiple
// of 8 behind it.
inline void mend_lengths(Buffer& payload) {
  const Parts parts = find_parts(payload);
  if (!parts.found) return;
  std::uint64_t end = parts.first;
  for (std::uint64_t block = 0; block < parts.blocks; ++block) end += parts.length(payload, block);
  if (end > payload.size() || payload.size() - end >= 8) {
    const std::uint64_t last = end - parts.length(payload, parts.blocks - 1);
    if (last > payload.size()) return;
    end = payload.size();
    write_le(payload.data() + parts.index + kIndexBytes * (parts.blocks - 1), static_cast<std::uint32_t>(end - last));
  }
  payload.resize(static_cast<std::size_t>(end));
  payload.resize((payload.size() + 7) / 8 * 8, 0);
}

// Frequencies that sum to 256 again.
inline void mend_table(std::uint8_t* freq, unsigned alphabet) {
  if (alphabet < 2 || alphabet > kSymbols) return;
  std::fill(freq + alphabet, freq + kSymbols, std::uint8_t{0});
  int missing = 256;
  for (unsigned s = 0; s < alphabet; ++s) missing -= freq[s];
  for (unsigned s = 0; missing != 0; ++s) {
    const int value = std::clamp(freq[s % alphabet] + missing, 0, 255);
    missing -= value - freq[s % alphabet];
    freq[s % alphabet] = static_cast<std::uint8_t>(value);
  }
}

inline void mend_tables(Buffer& payload) {
  const Parts parts = find_parts(payload);
  if (!parts.found) return;
  const unsigned alphabet = payload[7] & 0x7F;
  for (unsigned t = 0; t < parts.tables; ++t) mend_table(payload.data() + kHeadBytes + kTableBytes * t + 1, alphabet);
  std::uint64_t at = parts.first;
  for (std::uint64_t block = 0; parts.tables == 0 && block < parts.blocks; ++block) {
    const bool coded = payload[parts.index + kIndexBytes * block + 10] == 0;
    if (coded && at + kTableBytes <= payload.size()) mend_table(payload.data() + at + 1, alphabet);
    at += parts.length(payload, block);
  }
}

inline void renew_blocks(Buffer& payload, std::uint32_t seed) {
  const Parts parts = find_parts(payload);
  if (!parts.found) return;
  std::uint64_t at = parts.first;
  for (std::uint64_t block = 0; block < parts.blocks; ++block) {
    const std::uint32_t length = parts.length(payload, block);
    if (at > payload.size() || length > payload.size() - at) return;
    write_le(payload.data() + parts.index + kIndexBytes * block + 4,
             seeded_crc(seed, static_cast<std::uint32_t>(block), payload.data() + at, length));
    at += length;
  }
}

inline void renew_head(Buffer& payload, std::uint32_t seed) {
  const Parts parts = find_parts(payload);
  if (parts.found)
    write_le(payload.data() + parts.checksum, seeded_crc(seed, kHeadBlock, payload.data(), parts.checksum));
}

}  // namespace regrain::testing
