// Code lengths in integers, so that every machine and every instruction set makes the same choices.
#pragma once

#include <array>
#include <cstdint>

#include "regrain/codec.h"

namespace regrain {

using Counts = std::array<std::uint64_t, kSymbols>;

// log2(f) for f = 1..256 in units of 2^-16 bit, rounded to nearest. Entry 0 is not used.
extern const std::array<std::uint32_t, 257> kLog2;

// Frequencies that sum to 256, every present symbol at least 1: the floor of its share, then single steps at the least
// cost. A lone symbol gets 255 and the lowest other symbol 1. Tie-breaks: docs/format.md.
void normalize(const Counts& counts, std::uint8_t (&freq)[kSymbols]);

// What a symbol costs with a table, in units of 2^-16 bit.
using Costs = std::array<std::uint32_t, kSymbols>;
// Symbols without a frequency go through the escape (symbol 15) and a byte, if `escape`; else they can't be coded.
Costs symbol_costs(const std::uint8_t (&freq)[kSymbols], bool escape);

// The frequencies that code `counts` in fewest bits, and those bits in units of 2^-16. With an escape, rare symbols that
// would take more of the 256 slots than they are worth get frequency 0.
std::uint64_t fit_table(const Counts& counts, bool escape, std::uint8_t (&freq)[kSymbols]);

}  // namespace regrain
