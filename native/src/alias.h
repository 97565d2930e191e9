// The alias table of one frequency table: which symbol owns each of the 256 slots, in 16 buckets of 16.
// Construction and tie-breaks are normative (docs/format.md); that it never runs dry: docs/rans.md.
#pragma once

#include <cstdint>

#include "regrain/codec.h"

namespace regrain {

// A slot's bucket b = slot / 16 holds at most two symbols: A below `threshold[b]`, B from there on.
// Indices 0-15 of the paired arrays belong to A, 16-31 to B, so that b + 16 * isB looks both up.
struct alignas(64) AliasTable {
  std::uint8_t symbol[32];
  std::uint8_t offset[32];     // position in the symbol's own range = offset + slot % 16 (mod 256)
  std::uint8_t pair_freq[32];  // freq[symbol[i]]
  std::uint8_t threshold[16];  // 1..16
  std::uint8_t freq[16];
  std::uint32_t slot[256];     // symbol | freq << 8 | position << 16
};

inline void build_alias(const std::uint8_t (&freq)[kSymbols], AliasTable& table) {
  unsigned left[kSymbols], used[kSymbols] = {};
  for (unsigned s = 0; s < kSymbols; ++s) left[s] = table.freq[s] = freq[s];
  for (unsigned b = 0; b < 16; ++b) {
    unsigned small = kSymbols;
    for (unsigned s = 0; s < kSymbols; ++s)
      if (left[s] != 0 && (small == kSymbols || left[s] < left[small])) small = s;
    const unsigned taken = left[small] < 16 ? left[small] : 16;
    table.threshold[b] = static_cast<std::uint8_t>(taken);
    table.symbol[b] = static_cast<std::uint8_t>(small);
    table.offset[b] = static_cast<std::uint8_t>(used[small]);
    used[small] += taken;
    left[small] -= taken;
    unsigned large = small;
    if (taken < 16) {
      large = 0;
      for (unsigned s = 1; s < kSymbols; ++s)
        if (left[s] > left[large]) large = s;
      table.offset[b + 16] = static_cast<std::uint8_t>(used[large] - taken);
      used[large] += 16 - taken;
      left[large] -= 16 - taken;
    } else {
      table.offset[b + 16] = table.offset[b];
    }
    table.symbol[b + 16] = static_cast<std::uint8_t>(large);
    table.pair_freq[b] = freq[small];
    table.pair_freq[b + 16] = freq[large];
  }
  for (unsigned slot = 0; slot < 256; ++slot) {
    const unsigned b = slot >> 4, low = slot & 15, i = low < table.threshold[b] ? b : b + 16;
    const unsigned position = (table.offset[i] + low) & 255u;
    table.slot[slot] = table.symbol[i] | unsigned{table.pair_freq[i]} << 8 | position << 16;
  }
}

}  // namespace regrain
