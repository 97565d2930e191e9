#include "regrain/units.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "isa/kernels.h"

namespace regrain {
namespace {

constexpr std::size_t kLongRun = 256;  // bytes of a unit's row from which copying it at once pays
constexpr std::uint64_t kByteSum = 128;

std::uint64_t across_count(const Units& units) { return (units.columns - 1) / units.across + 1; }

// Kept values of one row of units.
std::uint64_t kept_in_row(const Units& units, const std::uint8_t* mask) {
  const std::uint64_t count = across_count(units), last = units.columns - (count - 1) * units.across;
  std::uint64_t kept = 0, u = 0;
  for (; u + kByteSum < count; u += kByteSum) {  // a byte is enough for so many
    std::uint8_t here = 0;
    for (std::uint64_t i = 0; i < kByteSum; ++i) here = static_cast<std::uint8_t>(here + (mask[u + i] != 0));
    kept += here;
  }
  for (; u + 1 < count; ++u) kept += mask[u] != 0;
  return kept * units.across + (mask[count - 1] != 0 ? last : 0);
}

// One row of the matrix, units of which are long: whole runs are copied or cleared. Gives where its values end.
const std::uint8_t* copy_runs(const Units& units, const std::uint8_t* mask, std::size_t word_bytes,
                              const std::uint8_t* values, std::uint8_t* out) {
  const std::uint64_t count = across_count(units);
  for (std::uint64_t u = 0; u < count; ++u) {
    const std::size_t size = std::min(units.across, units.columns - u * units.across) * word_bytes;
    if (mask[u] != 0) {
      std::memcpy(out, values, size);
      values += size;
    } else {
      std::memset(out, 0, size);
    }
    out += size;
  }
  return values;
}

}  // namespace

std::uint64_t count_kept(const Units& units, std::uint64_t first, std::uint64_t count) {
  const std::uint64_t across = across_count(units);
  std::uint64_t kept = 0;
  while (count != 0) {
    const std::uint64_t here = std::min(count, units.rows - first % units.rows);
    kept += here * kept_in_row(units, units.mask + first / units.rows * across);
    first += here;
    count -= here;
  }
  return kept;
}

void expand(const Units& units, std::size_t word_bytes, const std::uint8_t* values, std::uint64_t first,
            std::uint64_t count, std::uint8_t* out) {
  const std::uint8_t* end = values + count_kept(units, first, count) * word_bytes;
  const std::uint64_t across = across_count(units);
  const auto expand_row = kernels().expand;
  if (units.rows == 1 && units.across == 1) {  // one row goes on in the next without a break
    expand_row(word_bytes, units.mask + first * units.columns, count * units.columns, values, end, out);
    return;
  }
  const bool runs = units.across * word_bytes >= kLongRun;
  std::vector<std::uint8_t> weights(units.across == 1 || runs ? 0 : units.columns);  // the mask of each weight of a row
  for (std::uint64_t row = first; row < first + count; ++row, out += units.columns * word_bytes) {
    const std::uint8_t* mask = units.mask + row / units.rows * across;
    if (runs) {
      values = copy_runs(units, mask, word_bytes, values, out);
      continue;
    }
    if (!weights.empty()) {
      if (row == first || row % units.rows == 0)
        for (std::uint64_t u = 0; u < across; ++u)
          std::fill_n(weights.begin() + static_cast<std::ptrdiff_t>(u * units.across),
                      std::min(units.across, units.columns - u * units.across), mask[u]);
      mask = weights.data();
    }
    values = expand_row(word_bytes, mask, units.columns, values, end, out);
  }
}

}  // namespace regrain
