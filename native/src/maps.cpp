#include "regrain/maps.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "isa/kernels.h"
#include "isa/map_kernels.h"
#include "pool.h"
#include "scratch.h"

namespace regrain {
namespace {

constexpr std::size_t kBytesAtOnce = std::size_t{1} << 19;  // of maps: they and the weights of a step stay in L2
constexpr std::size_t kBlockBytes = kMapRows * kMapGroup;
constexpr std::size_t kRowBytes = 256;  // of an image's row that are rounded at once

// Where the maps of some images are, and the places of one step's positions.
struct Workspace {
  std::uint8_t* const* maps;
  const std::uint8_t** from;
  const std::uint8_t** added;
  std::uint8_t** to;
};

// The positions around an image: between two of its rows they are side by side.
void frame(const Map& map, std::uint8_t* image) {
  const std::size_t edge = map.margin[1] * map.pitch(), whole = map.margin[0] * map.across() * map.pitch() + edge;
  std::memset(image, map.zero, whole);
  for (std::size_t y = 1; edge != 0 && y < map.size[0]; ++y) std::memset(image + map.at(y, 0) - 2 * edge, map.zero, 2 * edge);
  std::memset(image + map.bytes() - whole, map.zero, whole);
}

// Integers from 0 to 255, to even at a tie; whether all numbers are finite.
bool quantize(const float* x, std::size_t count, float inverse, float zero, std::uint8_t* out) {
  constexpr std::uint32_t kExponent = 0x7F800000;
  std::uint32_t bad = 0;
  for (std::size_t i = 0; i < count; ++i) {
    std::uint32_t bits;
    std::memcpy(&bits, x + i, sizeof bits);
    bad |= (bits & kExponent) == kExponent;
    float scaled = x[i] * inverse + zero;
    scaled = scaled > 0.0f ? scaled : 0.0f;  // what is not a number is 0, too
    scaled = scaled < 255.0f ? scaled : 255.0f;
    out[i] = static_cast<std::uint8_t>(static_cast<std::int32_t>((scaled + 0x1.8p23f) - 0x1.8p23f));
  }
  return bad == 0;
}

// One image into the first map; whether all of it is finite. Channels beyond the last are left as they are.
bool take(const Map& map, std::size_t folded, const float* x, std::uint8_t* image) {
  const float inverse = 1.0f / map.scale, zero = static_cast<float>(map.zero);
  const std::size_t width = map.size[1] * folded, height = map.size[0] * folded, part = kRowBytes / folded * folded;
  std::uint8_t some[kRowBytes];
  for (std::size_t channel = 0; channel < map.channels; channel += folded * folded)
    for (std::size_t y = 0; y < height; ++y) {
      std::uint8_t* out = image + map.at(y / folded, 0) + channel + y % folded * folded;
      for (std::size_t first = 0; first < width; first += part) {
        const std::size_t count = std::min(part, width - first);
        if (!quantize(x, count, inverse, zero, some)) return false;
        for (std::size_t at = 0; at < count; at += folded, out += map.pitch())
          for (std::size_t phase = 0; phase < folded; ++phase) out[phase] = some[at + phase];
        x += count;
      }
    }
  return true;
}

void give(const Map& map, const std::uint8_t* image, float* y) {
  for (std::size_t channel = 0; channel < map.channels; ++channel)
    for (std::size_t down = 0; down < map.size[0]; ++down)
      for (std::size_t x = 0; x < map.size[1]; ++x)
        *y++ = static_cast<float>(image[map.at(down, x) + channel] - map.zero) * map.scale;
}

void give_means(const Map& map, const std::uint8_t* image, float* y) {
  const auto count = static_cast<std::int32_t>(map.positions());
  const float factor = map.scale / static_cast<float>(count);
  for (std::size_t channel = 0; channel < map.channels; channel += kMapRows) {
    std::int32_t sums[kMapRows] = {};
    for (std::size_t down = 0; down < map.size[0]; ++down) {
      const std::uint8_t* from = image + map.at(down, 0) + channel;
      for (std::size_t x = 0; x < map.size[1]; ++x, from += map.pitch())
        for (std::size_t row = 0; row < kMapRows; ++row) sums[row] += from[row];
    }
    for (std::size_t row = 0; row < std::min(kMapRows, map.channels - channel); ++row)
      y[channel + row] = static_cast<float>(sums[row] - map.zero * count) * factor;
  }
}

void place(const MapNetwork& network, const MapStep& step, std::size_t images, const Workspace& space) {
  const Map &input = network.maps[step.input], &output = network.maps[step.output];
  const std::size_t skip[2] = {input.margin[0] - step.window.padding[0], input.margin[1] - step.window.padding[1]};
  const std::size_t right = step.window.stride[1] * input.pitch();
  std::size_t n = 0;
  for (std::size_t image = 0; image < images; ++image) {
    const std::uint8_t* from = space.maps[step.input] + image * input.bytes();
    std::uint8_t* to = space.maps[step.output] + image * output.bytes();
    for (std::size_t y = 0; y < output.size[0]; ++y) {
      const std::size_t down = y * step.window.stride[0] + skip[0];
      const std::uint8_t* seen = from + (down * input.across() + skip[1]) * input.pitch();
      for (std::size_t x = 0; x < output.size[1]; ++x, seen += right) space.from[n + x] = seen;
      for (std::size_t x = 0; x < output.size[1]; ++x) space.to[n + x] = to + output.at(y, x);
      if (step.added != kNoMap) {
        const Map& added = network.maps[step.added];
        const std::uint8_t* other = space.maps[step.added] + image * added.bytes();
        for (std::size_t x = 0; x < output.size[1]; ++x) space.added[n + x] = other + added.at(y, x);
      }
      n += output.size[1];
    }
  }
}

void convolve(const MapNetwork& network, const MapStep& step, std::size_t images, const Workspace& space) {
  const MapKernels& isa = *kernels().maps;
  place(network, step, images, space);
  const Map& output = network.maps[step.output];
  const bool all = step.starts.empty();
  const std::size_t panels = output.pitch() / kMapRows, positions = images * output.positions();
  for (std::size_t panel = 0, count = 1; panel < panels; panel += count) {
    count = all && panels - panel >= isa.together ? isa.together : 1;
    const std::size_t first = all ? 0 : step.starts[panel];
    const std::size_t blocks = all ? step.offsets.size() : step.starts[panel + 1] - first, row = panel * kMapRows;
    MapWork work{{}, step.offsets.data() + first, blocks, step.factors + row, step.bias + row, step.weight, step.low};
    for (std::size_t p = 0; p < count; ++p)
      work.values[p] = step.values + (all ? (panel + p) * blocks : first) * kBlockBytes;
    const std::size_t width = count == 1 ? isa.wide : isa.strip, strips = (positions + width - 1) / width;
    for (std::size_t strip = 0; strip < strips; ++strip) {
      const std::size_t at = positions * strip / strips, end = positions * (strip + 1) / strips;
      const MapPlaces places{space.from + at, step.added == kNoMap ? nullptr : space.added + at, space.to + at};
      isa.multiply(work, static_cast<unsigned>(count), places, static_cast<unsigned>(end - at), row);
    }
  }
}

// All of some images, a few at a time in the same memory.
MapOutcome run_some(const MapNetwork& network, const float* x, std::size_t images, std::size_t at_once, float* y) {
  std::size_t bytes = 0, most = 0;
  for (const Map& map : network.maps) {
    bytes += at_once * map.bytes() + kBlockBytes;
    most = std::max(most, at_once * map.positions());
  }
  const std::size_t count = network.maps.size(), pointers = (count + 3 * most) * sizeof(void*);
  thread_local Scratch scratch;
  auto* pointer = reinterpret_cast<std::uint8_t**>(scratch.of<std::uint8_t>(pointers + bytes));
  if (pointer == nullptr) return MapOutcome::no_memory;
  std::uint8_t* at = reinterpret_cast<std::uint8_t*>(pointer) + pointers;
  const Workspace space{pointer, const_cast<const std::uint8_t**>(pointer + count),
                        const_cast<const std::uint8_t**>(pointer + count + most), pointer + count + 2 * most};
  for (std::size_t m = 0; m < count; ++m) {
    pointer[m] = at;
    for (std::size_t image = 0; image < at_once; ++image, at += network.maps[m].bytes()) frame(network.maps[m], at);
  }
  const Map &first = network.maps.front(), &last = network.maps.back();
  for (std::size_t done = 0; done < images; done += at_once) {
    const std::size_t here = std::min(at_once, images - done);
    for (std::size_t image = 0; image < here; ++image, x += first.channels * first.positions())
      if (!take(first, network.folded, x, space.maps[0] + image * first.bytes())) return MapOutcome::not_finite;
    for (const MapStep& step : network.steps) convolve(network, step, here, space);
    for (std::size_t image = 0; image < here; ++image, y += last.channels * (network.means ? 1 : last.positions()))
      (network.means ? give_means : give)(last, space.maps[count - 1] + image * last.bytes(), y);
  }
  return MapOutcome::done;
}

}  // namespace

MapOutcome run(const MapNetwork& network, const float* x, std::size_t images, float* y, unsigned threads) {
  std::size_t bytes = 0;
  for (const Map& map : network.maps) bytes += map.bytes();
  const Map &first = network.maps.front(), &last = network.maps.back();
  const std::size_t in = first.channels * first.positions(), out = last.channels * (network.means ? 1 : last.positions());
  const std::size_t tasks = std::clamp<std::size_t>(images, 1, std::max(threads, 1u));
  const std::size_t most = std::max<std::size_t>(1, kBytesAtOnce / bytes), each = (images + tasks - 1) / tasks;
  const std::size_t turns = std::max<std::size_t>(1, (each + most - 1) / most), at_once = (each + turns - 1) / turns;
  std::atomic<MapOutcome> outcome{MapOutcome::done};
  const auto some = [&](std::size_t task, unsigned) {
    const std::size_t begin = images * task / tasks, end = images * (task + 1) / tasks;
    const MapOutcome found = run_some(network, x + begin * in, end - begin, at_once, y + begin * out);
    if (found != MapOutcome::done) outcome = found;
  };
  if (tasks == 1) some(0, 0);
  else parallel_for(tasks, threads, some);
  return outcome;
}

}  // namespace regrain
