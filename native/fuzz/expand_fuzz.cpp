// Fuzzes what makes dense rows of a pruned payload's values: any mask, unit, word and range of rows, on every
// instruction set, all at once and in two parts, must give what the plainest loop over the matrix gives; and the
// weights that a grid makes of such rows must be the indices times their scales. The payload's front is Python's to
// read, and checked there before anything comes here. An input is sixteen bytes of control and bits of the mask, which
// are repeated. Mask, values and rows stand in heap blocks of exactly their size.
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "../tests/forge.h"
#include "regrain/units.h"

using namespace regrain;
using namespace regrain::testing;

namespace {

constexpr std::uint64_t kMostWords = 1 << 14;

struct Control {
  std::uint16_t rows, columns, down, across;  // of the matrix, and of a unit
  std::uint16_t first, count;                 // rows that are wanted
  std::uint16_t cell;                         // of the grid: down, then across
  std::uint8_t word, noise;                   // its size, and the numbers
};
static_assert(sizeof(Control) == 16);

[[noreturn]] void complain(const char* what) {
  std::fprintf(stderr, "expand: %s on %s\n", what, instruction_set());
  std::abort();
}

struct Case {
  Units units;
  std::size_t word_bytes;
  std::uint64_t rows, first, count;
  std::unique_ptr<std::uint8_t[]> mask;
  Buffer values, wanted;  // of the rows
};

std::uint64_t up_to(std::uint64_t number, std::uint64_t most) { return 1 + number % most; }

// A matrix, its mask, and the wanted rows' values and words by a loop that follows nothing but the definition.
Case make_case(const Control& control, const std::uint8_t* bits, std::size_t size) {
  Case made;
  made.rows = up_to(control.rows, 1024);
  const std::uint64_t columns = up_to(control.columns, kMostWords / made.rows);
  made.units = {nullptr, columns, up_to(control.down, made.rows), up_to(control.across, columns)};
  made.word_bytes = std::size_t{1} << control.word % 3;
  made.first = control.first % made.rows;
  made.count = control.count % (made.rows - made.first + 1);

  const std::uint64_t high = (made.rows - 1) / made.units.rows + 1, wide = (columns - 1) / made.units.across + 1;
  made.mask = std::make_unique<std::uint8_t[]>(high * wide);
  Random random{control.noise};
  for (std::uint64_t u = 0; u < high * wide; ++u)
    if (size != 0 && (bits[u / 8 % size] >> u % 8 & 1) != 0)
      made.mask[u] = (control.noise & 1) != 0 ? static_cast<std::uint8_t>(random.between(1, 255)) : 1;
  made.units.mask = made.mask.get();

  made.wanted.assign(made.count * columns * made.word_bytes, 0);
  for (std::uint64_t i = 0; i < made.count * columns; ++i) {
    const std::uint64_t row = made.first + i / columns, column = i % columns;
    if (made.mask[row / made.units.rows * wide + column / made.units.across] == 0) continue;
    const std::uint64_t value = random.next();
    std::memcpy(made.wanted.data() + i * made.word_bytes, &value, made.word_bytes);
    made.values.insert(made.values.end(), made.wanted.data() + i * made.word_bytes,
                       made.wanted.data() + (i + 1) * made.word_bytes);
  }
  return made;
}

// Rows [from, from + count) of the case's, out of the values behind `skipped` others.
Buffer rows_of(const Case& made, std::uint64_t from, std::uint64_t count, std::uint64_t skipped) {
  const std::uint64_t kept = count_kept(made.units, made.first + from, count);
  const std::size_t at = skipped * made.word_bytes, size = kept * made.word_bytes;
  if (at + size > made.values.size()) complain("more values are kept than the mask says");
  const auto values = std::make_unique<std::uint8_t[]>(size);
  std::copy_n(made.values.begin() + static_cast<std::ptrdiff_t>(at), size, values.get());
  const std::size_t bytes = count * made.units.columns * made.word_bytes;
  const auto out = std::make_unique<std::uint8_t[]>(bytes);
  std::fill_n(out.get(), bytes, std::uint8_t{0xA5});
  expand(made.units, made.word_bytes, values.get(), made.first + from, count, out.get());
  return {out.get(), out.get() + bytes};
}

void try_rows(const Case& made, std::uint64_t cut) {
  if (count_kept(made.units, made.first, made.count) * made.word_bytes != made.values.size())
    complain("not as many values are kept as the mask says");
  if (rows_of(made, 0, made.count, 0) != made.wanted) complain("rows differ");
  Buffer parts = rows_of(made, 0, cut, 0);
  const Buffer rest = rows_of(made, cut, made.count - cut, count_kept(made.units, made.first, cut));
  parts.insert(parts.end(), rest.begin(), rest.end());
  if (parts != made.wanted) complain("rows in two parts differ");
}

// The same rows as indices of a grid of odd cells: what is dropped must be +0, and all else an index times its scale.
void try_weights(const Case& made, const Control& control, Buffer* wanted) {
  const std::uint64_t columns = made.units.columns;
  const std::uint64_t down = up_to(control.cell % 256, made.rows), across = up_to(control.cell / 256, columns);
  const std::uint64_t wide = (columns - 1) / across + 1;
  std::vector<float> scales(((made.rows - 1) / down + 1) * wide);
  for (std::size_t i = 0; i < scales.size(); ++i) scales[i] = 0.001f * static_cast<float>(1 + i % 100);
  const Grid grid{scales.data(), columns, down, across, static_cast<Weight>(control.noise % 3)};
  const std::uint64_t count = made.count * columns, begin = made.first * columns;
  const std::size_t size = count * weight_bytes(grid.type);
  const auto out = std::make_unique<std::uint8_t[]>(size);
  dequantize(grid, made.wanted.data(), static_cast<unsigned>(made.word_bytes), begin, count, out.get());
  const Buffer found(out.get(), out.get() + size);
  if (wanted->empty()) *wanted = found;
  if (found != *wanted) complain("weights differ from those of another instruction set");
  for (std::uint64_t i = 0; i < count && grid.type == Weight::f32; ++i) {
    const std::uint8_t* word = made.wanted.data() + i * made.word_bytes;
    const int index = made.word_bytes == 1 ? static_cast<std::int8_t>(*word) : read_le<std::int16_t>(word);
    const std::uint64_t row = made.first + i / columns, column = i % columns;
    const float weight = static_cast<float>(index) * scales[row / down * wide + column / across];
    if (std::memcmp(&weight, found.data() + 4 * i, 4) != 0) complain("a weight is not its index times its scale");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Control control{};
  if (size < sizeof control) return 0;
  std::memcpy(&control, data, sizeof control);
  const Case made = make_case(control, data + sizeof control, size - sizeof control);
  Buffer weights;
  for (const char* set : instruction_sets()) {
    use_instruction_set(set);
    try_rows(made, made.count == 0 ? 0 : control.noise % (made.count + 1));
    if (made.word_bytes <= 2) try_weights(made, control, &weights);
  }
  return 0;
}
