// Dequantizing without Python: every type, index size, cell and range, beside arithmetic written another way.
#include <cmath>
#include <cstring>

#include "checks.h"

namespace regrain::testing {
namespace {

// A weight rounded to `digits` bits of significand and exponents from `lowest` on, as the bits of a half.
std::uint16_t half(float weight, int digits, int lowest, unsigned bias) {
  const unsigned sign = std::signbit(weight) ? 0x8000 : 0;
  const double size = std::fabs(static_cast<double>(weight));
  if (size == 0) return static_cast<std::uint16_t>(sign);
  int exponent = std::max(std::ilogb(size), lowest);
  double significand = std::nearbyint(std::ldexp(size, digits - 1 - exponent));  // ties to even
  if (significand >= std::ldexp(1.0, digits)) {
    significand /= 2;
    ++exponent;
  }
  if (std::isinf(size) || exponent > static_cast<int>(bias))
    return static_cast<std::uint16_t>(sign | (2 * bias + 1) << (digits - 1));
  const unsigned whole = static_cast<unsigned>(significand), implicit = 1u << (digits - 1);
  const unsigned field = whole < implicit ? 0 : static_cast<unsigned>(exponent) + bias;
  return static_cast<std::uint16_t>(sign | field << (digits - 1) | (whole & (implicit - 1)));
}

Buffer expected(const Grid& grid, const std::vector<int>& indices, std::uint64_t first) {
  Buffer out;
  const std::uint64_t across = (grid.columns + grid.cell_columns - 1) / grid.cell_columns;
  for (std::size_t i = 0; i < indices.size(); ++i) {
    const std::uint64_t row = (first + i) / grid.columns, column = (first + i) % grid.columns;
    const float scale = grid.scales[row / grid.cell_rows * across + column / grid.cell_columns];
    const float weight = static_cast<float>(indices[i]) * scale;
    std::uint8_t bytes[4];
    const std::uint16_t rounded = grid.type == Weight::bf16 ? half(weight, 8, -126, 127) : half(weight, 11, -14, 15);
    std::memcpy(bytes, &rounded, 2);
    if (grid.type == Weight::f32) std::memcpy(bytes, &weight, 4);
    out.insert(out.end(), bytes, bytes + weight_bytes(grid.type));
  }
  return out;
}

Buffer stored(const std::vector<int>& indices, std::size_t index_bytes) {
  Buffer out;
  for (const int index : indices)
    for (std::size_t b = 0; b < index_bytes; ++b) out.push_back(static_cast<std::uint8_t>(index >> (8 * b)));
  return out;
}

void check_cells(Random& random, Weight type, std::size_t index_bytes) {
  const int limit = index_bytes == 1 ? 128 : 32768;
  for (const std::uint64_t columns : {1, 7, 16, 48, 100, 333}) {
    const std::uint64_t rows = 1 + random.below(40);
    const std::uint64_t cells[][2] = {{1, columns},
                                      {rows, columns},
                                      {1, 1},
                                      {rows, 1},
                                      {1, std::min<std::uint64_t>(16, columns)},
                                      {1, std::min<std::uint64_t>(32, columns)},
                                      {1 + random.below(rows), 1 + random.below(columns)}};
    for (const auto& [down, across] : cells) {
      std::vector<float> scales(((rows - 1) / down + 1) * ((columns - 1) / across + 1));
      for (float& scale : scales)
        scale = std::ldexp(1.0f + 0.37f * static_cast<float>(random.below(3)), static_cast<int>(random.below(48)) - 34);
      const Grid grid{scales.data(), columns, down, across, type};
      const std::uint64_t first = random.below(rows * columns), count = random.below(rows * columns - first + 1);
      std::vector<int> indices(count);
      for (int& index : indices) index = static_cast<int>(random.below(2 * limit)) - limit;
      Buffer out(count * weight_bytes(type) + 64, 0xA5);
      dequantize(grid, stored(indices, index_bytes).data(), index_bytes, first, count, out.data());
      Buffer wanted = expected(grid, indices, first);
      wanted.resize(out.size(), 0xA5);
      check(out == wanted, "cells of " + std::to_string(down) + " x " + std::to_string(across) + " in " +
                               std::to_string(rows) + " x " + std::to_string(columns));
    }
  }
}

// Coded, stored and constant blocks, whole and in ranges.
void check_payloads(Random& random, Weight type, std::size_t index_bytes) {
  constexpr std::uint64_t kRows = 1100, kColumns = 200;
  const int limit = index_bytes == 1 ? 128 : 32768;
  std::vector<int> indices(kRows * kColumns);
  for (std::size_t i = 0; i < indices.size(); ++i) {
    const std::size_t part = i * 3 / indices.size();
    if (part == 0) indices[i] = static_cast<int>(random.below(4) + random.below(4)) - 3;
    if (part == 1) indices[i] = -5;
    if (part == 2) indices[i] = static_cast<int>(random.below(2 * limit)) - limit;
  }
  const Buffer words = stored(indices, index_bytes);
  Buffer payload(bound(indices.size(), index_bytes));
  EncodeRequest request;
  request.words = words.data();
  request.count = indices.size();
  request.word_bytes = static_cast<std::uint8_t>(index_bytes);
  request.family = Family::integer;
  request.row_words = kColumns;
  request.seed = kSeed;
  payload.resize(encode(request, payload.data(), 1));
  std::vector<float> scales(kRows * 3);
  for (float& scale : scales) scale = std::ldexp(1.1f, -static_cast<int>(random.below(9)));
  const Grid grid{scales.data(), kColumns, 1, 90, type};
  const Buffer whole = expected(grid, indices, 0);
  const std::uint64_t ranges[][2] = {
      {0, indices.size()}, {0, 1}, {4095, 4098}, {70'001, 90'000}, {indices.size() - 1, 1}, {9, 0}};
  for (const auto& [first, count] : ranges) {
    Buffer out(count * weight_bytes(type));
    const auto word_bytes = static_cast<std::uint8_t>(index_bytes);
    const DecodeJob job{in_memory(payload), kSeed, word_bytes, out.data(), first, count, false, &grid};
    const Outcome outcome = decode({&job, 1}, 2);
    const std::uint8_t* from = whole.data() + first * weight_bytes(type);
    check(!outcome && std::equal(out.begin(), out.end(), from), "weights from " + std::to_string(first));
  }
}

}  // namespace
}  // namespace regrain::testing

int main() {
  using namespace regrain;
  using namespace regrain::testing;
  return on_every_instruction_set([] {
    Random random{3};
    for (const Weight type : {Weight::bf16, Weight::f16, Weight::f32})
      for (const std::size_t index_bytes : {1, 2}) {
        check_cells(random, type, index_bytes);
        check_payloads(random, type, index_bytes);
      }
  });
}
