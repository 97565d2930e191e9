// Expanding pruned rows without Python: every word size, unit and range of rows, beside the plainest loop.
#include "regrain/units.h"

#include <algorithm>
#include <cstring>

#include "checks.h"

namespace regrain::testing {
namespace {

// One density of a matrix: values are 1, 2, 3, ... so that none is taken for a dropped one or for its neighbor.
void check_rows(Random& random, const std::uint64_t rows, const Units& shape, unsigned density, std::size_t word_bytes) {
  const std::uint64_t down = (rows - 1) / shape.rows + 1, across = (shape.columns - 1) / shape.across + 1;
  std::vector<std::uint8_t> mask(down * across);
  for (std::uint8_t& one : mask) one = random.below(4) < density ? static_cast<std::uint8_t>(1 + random.below(255)) : 0;
  Units units = shape;
  units.mask = mask.data();
  const std::uint64_t first = random.below(rows), count = random.below(rows - first + 1);
  Buffer wanted(count * shape.columns * word_bytes), values;
  std::uint32_t value = 0;
  for (std::uint64_t i = 0; i < count * shape.columns; ++i) {
    const std::uint64_t row = first + i / shape.columns, column = i % shape.columns;
    if (mask[row / shape.rows * across + column / shape.across] == 0) continue;
    value = value % 250 + 1;
    std::uint8_t word[4];
    std::memset(word, static_cast<int>(value), sizeof word);
    values.insert(values.end(), word, word + word_bytes);
    std::memcpy(wanted.data() + i * word_bytes, word, word_bytes);
  }
  const std::string what = "units of " + std::to_string(shape.rows) + " x " + std::to_string(shape.across) + " in " +
                           std::to_string(rows) + " x " + std::to_string(shape.columns);
  check(count_kept(units, first, count) * word_bytes == values.size(), what + ": kept");
  Buffer out(wanted.size() + 64, 0xA5);
  wanted.resize(out.size(), 0xA5);
  const Buffer exact(values);  // nothing behind the last value that a sanitizer would let pass
  expand(units, word_bytes, exact.data(), first, count, out.data());
  check(out == wanted, what);
}

void check_all(Random& random, std::size_t word_bytes) {
  for (const std::uint64_t columns : {1, 7, 16, 33, 100, 333, 1200}) {
    const std::uint64_t rows = 1 + random.below(40);
    const std::uint64_t units[][2] = {{1, 1},
                                      {rows, 1},
                                      {1, columns},
                                      {rows, columns},
                                      {std::min<std::uint64_t>(16, rows), 1},
                                      {rows, std::min<std::uint64_t>(9, columns)},
                                      {1 + random.below(rows), 1 + random.below(columns)}};
    for (const auto& [down, across] : units)
      for (unsigned density = 0; density <= 4; ++density)
        check_rows(random, rows, {nullptr, columns, down, across}, density, word_bytes);
  }
}

}  // namespace
}  // namespace regrain::testing

int main() {
  using namespace regrain;
  using namespace regrain::testing;
  return on_every_instruction_set([] {
    Random random{7};
    for (const std::size_t word_bytes : {1, 2, 4}) check_all(random, word_bytes);
  });
}
