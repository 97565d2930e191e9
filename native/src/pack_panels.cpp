// Laying a matrix out in panels: sixteen rows at a time are transposed, and the columns that the list names are copied.
#include <algorithm>
#include <cstring>
#include <memory>
#include <new>

#include "regrain/panels.h"

namespace regrain {
namespace {

#include "isa/transpose.h"

// turned[c][r] = matrix[r][c] of `rows` rows; those up to 16 are 0.
template <class Word>
void turn(const Word* matrix, std::size_t rows, std::size_t columns, Word* turned) {
  if (rows < kPanelRows) std::fill(turned, turned + columns * kPanelRows, Word{0});
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t c = 0; c < columns; ++c) turned[c * kPanelRows + r] = matrix[r * columns + c];
}

template <>
void turn(const float* matrix, std::size_t rows, std::size_t columns, float* turned) {
  if (rows < kPanelRows) std::fill(turned, turned + columns * kPanelRows, 0.0f);
  const std::size_t wide = columns / 4 * 4, high = rows / 4 * 4;
  for (std::size_t c = 0; c < wide; c += 4)
    for (std::size_t r = 0; r < high; r += 4)
      transpose_four(matrix + r * columns + c, columns, turned + c * kPanelRows + r, kPanelRows);
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t c = r < high ? wide : 0; c < columns; ++c) turned[c * kPanelRows + r] = matrix[r * columns + c];
}

template <class Word, class Put>
bool pack_words(const Panels& layout, const Word* matrix, const Put& put_entry) {
  const std::unique_ptr<Word[]> turned(new (std::nothrow) Word[layout.columns * kPanelRows]);
  if (!turned) return false;
  constexpr Word kNone[kPanelRows] = {};
  const std::size_t all = layout.shared ? layout.starts[layout.segments] : 0;
  for (std::size_t panel = 0; panel < layout.panels(); ++panel) {
    const std::size_t row = panel * kPanelRows;
    turn(matrix + row * layout.columns, std::min(kPanelRows, layout.rows - row), layout.columns, turned.get());
    const std::uint32_t* starts = layout.starts + (layout.shared ? 0 : panel * layout.segments);
    const std::size_t before = layout.shared ? panel * all : 0;
    for (std::size_t e = starts[0]; e < starts[layout.segments]; ++e) {
      const std::size_t column = layout.lists == nullptr ? e : layout.lists[e];
      const bool extra = layout.lists != nullptr && e > starts[0] && layout.lists[e - 1] == column;
      put_entry(extra ? kNone : turned.get() + column * kPanelRows, before + e);
    }
  }
  return true;
}

template <class Word>
bool pack_plain(const Panels& layout, const void* matrix, void* values) {
  return pack_words(layout, static_cast<const Word*>(matrix), [values](const Word* entry, std::size_t e) {
    std::memcpy(static_cast<Word*>(values) + e * kPanelRows, entry, kPanelRows * sizeof(Word));
  });
}

}  // namespace

bool pack(const Panels& layout, const void* matrix, void* values) {
  switch (layout.type) {
    case PanelValue::f32: return pack_plain<float>(layout, matrix, values);
    case PanelValue::f16: return pack_plain<std::uint16_t>(layout, matrix, values);
    case PanelValue::i8: return pack_plain<std::int8_t>(layout, matrix, values);
    case PanelValue::i4: break;
  }
  return pack_words(layout, static_cast<const std::int8_t*>(matrix), [values](const std::int8_t* entry, std::size_t e) {
    std::uint8_t* pair = static_cast<std::uint8_t*>(values) + e / 2 * kPanelRows;
    for (std::size_t r = 0; r < kPanelRows; ++r) {
      const unsigned nibble = static_cast<unsigned>(entry[r] + 8) & 15;
      pair[r] = static_cast<std::uint8_t>(e % 2 == 0 ? nibble : pair[r] | nibble << 4);
    }
  });
}

}  // namespace regrain
