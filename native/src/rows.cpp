#include "regrain/rows.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>

#include "isa/kernels.h"
#include "isa/row_kernels.h"
#include "pool.h"
#include "scratch.h"

namespace regrain {
namespace {

constexpr std::size_t kWorthThread = std::size_t{1} << 19;  // multiply-adds: for less, waking a thread costs more
constexpr std::size_t kPackedBytes = std::size_t{1} << 19;  // strips at once: they stay in L2 with a few tiles
constexpr std::size_t kWord = 64, kWords = kTileColumns / kWord;
constexpr std::size_t kStepWeights = 4, kMostSteps = kTileColumns;

// A bit for each kept entry of a unit in a tile.
struct Kept {
  std::uint64_t words[kWords];
  std::uint16_t steps;
};

// Eight bytes of 0 or 1 to eight bits: byte i times 2^(7 (8 - i)) reaches bit 56 + i, and no two products meet.
Kept kept_of(const std::uint8_t* keep, std::size_t columns, std::size_t unit) {
  Kept kept = {};
  std::uint64_t sums = 0;  // of bytes in the same place: there are 32 in a tile at most
  for (std::size_t c = 0; c < columns; c += 8) {
    std::uint64_t eight = 0;
    if (c + 8 <= columns) std::memcpy(&eight, keep + c, 8);
    else std::memcpy(&eight, keep + c, columns - c);
    eight &= 0x0101010101010101;
    kept.words[c / kWord] |= (eight * 0x0102040810204080 >> 56) << c % kWord;
    sums += eight;
  }
  const std::uint64_t pairs = (sums & 0x00FF00FF00FF00FF) + (sums >> 8 & 0x00FF00FF00FF00FF);
  const std::size_t entries = pairs * 0x0001000100010001 >> 48;
  kept.steps = static_cast<std::uint16_t>((entries * unit + kStepWeights - 1) / kStepWeights);
  return kept;
}

// One tile of a matrix that is being laid out.
struct Packing {
  const float* weights;  // of its first row and column
  std::size_t stride, rows, unit;
  const Kept* kept;  // of its first unit
  std::size_t kept_stride;

  std::size_t units() const { return (rows + unit - 1) / unit; }

  // Units by falling number of steps, else as they come. Gives the sum of steps.
  std::uint64_t sort(std::uint8_t* order, std::uint16_t* steps) const {
    std::size_t next[kMostSteps + 2] = {};  // for each number of missing steps, where the next such unit goes
    for (std::size_t u = 0; u < units(); ++u) ++next[kMostSteps - kept[u * kept_stride].steps + 1];
    for (std::size_t missing = 1; missing <= kMostSteps; ++missing) next[missing] += next[missing - 1];
    std::uint64_t sum = 0;
    for (std::size_t u = 0; u < units(); ++u) {
      const std::uint16_t count = kept[u * kept_stride].steps;
      const std::size_t place = next[kMostSteps - count]++;
      order[place] = static_cast<std::uint8_t>(u);
      steps[place] = count;
      sum += count;
    }
    return sum;
  }

  // `values` are 0.
  template <std::size_t Unit>
  void copy(const std::uint8_t* order, std::uint8_t* places, float* values) const {
    for (std::size_t i = 0; i < units(); ++i) {
      const Kept& of_unit = kept[order[i] * kept_stride];
      const std::size_t row = order[i] * Unit, here = std::min(Unit, rows - row);
      const float* from = weights + row * stride;
      std::uint8_t* place = places;
      float* value = values;
      for (std::size_t word = 0; word < kWords; ++word)
        for (std::uint64_t bits = of_unit.words[word]; bits != 0; bits &= bits - 1, value += Unit) {
          const std::size_t column = word * kWord + static_cast<std::size_t>(std::countr_zero(bits));
          *place++ = static_cast<std::uint8_t>(column);
          *value = from[column];
          for (std::size_t r = 1; r < here && r < Unit; ++r) value[r] = from[r * stride + column];
        }
      values += of_unit.steps * kStepWeights;
      std::uint8_t* end = places + of_unit.steps * kStepWeights / Unit;
      if (place < end) std::fill(place, end, place[-1]);
      places = end;
    }
  }
};

// Tokens packed as strips that differ by one vector at most.
struct Strips {
  const float* packed;
  std::size_t tokens, vectors, count;
  unsigned lanes;

  std::size_t first(std::size_t strip) const { return vectors * strip / count; }
};

bool multiply_strip(const Rows& rows, const float* bias, std::size_t down, const Strips& strips, std::size_t strip,
                    float* y, std::size_t y_stride) {
  const RowKernels& isa = *kernels().rows;
  const std::size_t first = strips.first(strip), token = first * strips.lanes;
  const auto vectors = static_cast<unsigned>(strips.first(strip + 1) - first);
  const std::size_t width = vectors * strips.lanes;
  thread_local Scratch scratch;
  float* sums = scratch.of<float>(kTileRows * width);
  if (sums == nullptr) return false;
  const std::size_t row = down * kTileRows, here = std::min(kTileRows, rows.rows - row);
  for (std::size_t across = 0; across < rows.across(); ++across) {
    const std::size_t tile = down * rows.across() + across, step = rows.starts[tile];
    const RowTile work = {(here + rows.unit - 1) / rows.unit, rows.order.data() + tile * rows.units(),
                          rows.steps.data() + tile * rows.units(),
                          rows.places.data() + step * kStepWeights / rows.unit,
                          rows.values.data() + step * kStepWeights};
    isa.multiply(rows.unit, vectors, work, strips.packed + token * rows.columns + across * kTileColumns * width, sums,
                 across == 0);
  }
  isa.unpack(sums, vectors, std::min(width, strips.tokens - token), here, bias + row,
             y + token * y_stride + row, y_stride);
  return true;
}

bool multiply_strips(const Rows& rows, const float* bias, const Strips& strips, float* y, std::size_t y_stride,
                     unsigned threads) {
  const std::size_t tasks = rows.down() * strips.count;
  if (threads <= 1 || rows.values.size() * strips.tokens < kWorthThread) {
    for (std::size_t task = 0; task < tasks; ++task)
      if (!multiply_strip(rows, bias, task / strips.count, strips, task % strips.count, y, y_stride)) return false;
    return true;
  }
  std::atomic<bool> done = true;
  parallel_for(tasks, threads, [&](std::size_t task, unsigned) {
    if (!multiply_strip(rows, bias, task / strips.count, strips, task % strips.count, y, y_stride)) done = false;
  });
  return done;
}

}  // namespace

std::size_t Rows::bytes() const {
  return starts.size() * sizeof starts[0] + order.size() + steps.size() * sizeof steps[0] + places.size() +
         values.size() * sizeof(float);
}

Rows pack_rows(const float* weights, std::size_t rows, std::size_t columns, const std::uint8_t* keep,
               std::size_t unit) {
  Rows packed;
  packed.rows = rows;
  packed.columns = columns;
  packed.unit = unit;
  const std::size_t tiles = packed.down() * packed.across(), all_units = (rows + unit - 1) / unit;
  packed.order.resize(tiles * packed.units());
  packed.steps.resize(tiles * packed.units());
  packed.starts.resize(tiles + 1);
  std::vector<Kept> kept(all_units * packed.across());
  for (std::size_t u = 0; u < all_units; ++u)
    for (std::size_t across = 0; across < packed.across(); ++across)
      kept[u * packed.across() + across] = kept_of(keep + u * columns + across * kTileColumns,
                                                   std::min(kTileColumns, columns - across * kTileColumns), unit);
  const auto each_tile = [&](const auto& body) {
    for (std::size_t tile = 0; tile < tiles; ++tile) {
      const std::size_t row = tile / packed.across() * kTileRows, across = tile % packed.across();
      body(tile, Packing{weights + row * columns + across * kTileColumns, columns, std::min(kTileRows, rows - row),
                         unit, kept.data() + row / unit * packed.across() + across, packed.across()});
    }
  };
  each_tile([&](std::size_t tile, const Packing& part) {
    const std::size_t at = tile * packed.units();
    packed.starts[tile + 1] = packed.starts[tile] + part.sort(packed.order.data() + at, packed.steps.data() + at);
  });
  packed.places.resize(packed.starts[tiles] * kStepWeights / unit);
  packed.values.resize(packed.starts[tiles] * kStepWeights);
  each_tile([&](std::size_t tile, const Packing& part) {
    const std::size_t step = packed.starts[tile];
    const std::uint8_t* order = packed.order.data() + tile * packed.units();
    std::uint8_t* places = packed.places.data() + step * kStepWeights / unit;
    float* values = packed.values.data() + step * kStepWeights;
    if (unit == 1) part.copy<1>(order, places, values);
    else part.copy<4>(order, places, values);
  });
  return packed;
}

bool multiply(const Rows& rows, const float* bias, const float* x, std::size_t tokens, std::size_t x_stride, float* y,
              std::size_t y_stride, unsigned threads) {
  thread_local Scratch scratch;
  const RowKernels& isa = *kernels().rows;
  const std::size_t most = rows.unit == 1 ? isa.fine : isa.four;
  const std::size_t strip_bytes = most * isa.lanes * rows.columns * sizeof(float);
  const std::size_t at_once = std::max<std::size_t>(1, kPackedBytes / strip_bytes) * most * isa.lanes;
  for (std::size_t token = 0; token < tokens; token += at_once) {
    const std::size_t here = std::min(at_once, tokens - token), vectors = (here + isa.lanes - 1) / isa.lanes;
    float* packed = scratch.of<float>(vectors * isa.lanes * rows.columns);
    if (packed == nullptr) return false;
    const Strips strips{packed, here, vectors, (vectors + most - 1) / most, isa.lanes};
    for (std::size_t strip = 0; strip < strips.count; ++strip) {
      const std::size_t first = strips.first(strip), start = first * isa.lanes;
      isa.pack(x + (token + start) * x_stride, x_stride, here - start, rows.columns, packed + start * rows.columns,
               static_cast<unsigned>(strips.first(strip + 1) - first));
    }
    if (!multiply_strips(rows, bias, strips, y + token * y_stride, y_stride, threads)) return false;
  }
  return true;
}

}  // namespace regrain
