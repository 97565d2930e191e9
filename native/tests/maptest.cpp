// Networks on maps of eight bits without Python, beside their definition: every number, on every instruction set.
#include <algorithm>
#include <cmath>
#include <thread>
#include <vector>

#include "checks.h"
#include "regrain/maps.h"

namespace regrain::testing {
namespace {

struct Weights {
  std::vector<std::int8_t> values;
  std::vector<float> factors, bias;
};

// A step from the last map to a new one, of so many channels; of `kept` hundredths of the blocks.
struct Example {
  MapNetwork network;
  std::vector<Weights> weights;

  Example(std::size_t channels, std::size_t height, std::size_t width, std::size_t margin) {
    network.maps.push_back({channels, {height, width}, {margin, margin}, 0.25f, 100});
    weights.reserve(8);
  }

  void add(Random& random, std::size_t rows, const Window& window, std::size_t added, unsigned kept, std::size_t margin) {
    const Map& from = network.maps.back();
    const std::size_t groups = window.kernel[0] * window.kernel[1] * ((from.channels + kMapGroup - 1) / kMapGroup);
    const std::size_t panels = (rows + kMapRows - 1) / kMapRows, each = (from.channels + kMapGroup - 1) / kMapGroup;
    MapStep step{network.maps.size() - 1, network.maps.size(), added, window, {}, {}, nullptr, nullptr, nullptr, 0.5f, 3.0f};
    const auto offset = [&](std::size_t group) {
      const std::size_t place = group / each, down = place / window.kernel[1], right = place % window.kernel[1];
      return static_cast<std::uint32_t>((down * window.dilation[0] * from.across() + right * window.dilation[1]) * from.pitch() +
                                        group % each * kMapGroup);
    };
    Weights mine{{}, std::vector<float>(panels * kMapRows), std::vector<float>(panels * kMapRows)};
    const auto block = [&](std::size_t panel, std::size_t group) {
      for (std::size_t i = 0; i < kMapRows * kMapGroup; ++i) {
        const bool there = panel * kMapRows + i / kMapGroup < rows && group % each * kMapGroup + i % kMapGroup < from.channels;
        mine.values.push_back(static_cast<std::int8_t>(there ? static_cast<int>(random.below(255)) - 127 : 0));
      }
    };
    for (std::size_t g = 0; kept == 100 && g < groups; ++g) step.offsets.push_back(offset(g));
    for (std::size_t p = 0; p < panels; ++p) {
      if (kept != 100) step.starts.push_back(static_cast<std::uint32_t>(step.offsets.size()));
      for (std::size_t g = 0; g < groups; ++g) {
        if (random.below(100) >= kept) continue;
        if (kept != 100) step.offsets.push_back(offset(g));
        block(p, g);
      }
    }
    if (kept != 100) step.starts.push_back(static_cast<std::uint32_t>(step.offsets.size()));
    for (float& factor : mine.factors) factor = static_cast<float>(1 + random.below(64)) / 4096;
    for (float& value : mine.bias) value = static_cast<float>(random.below(200));
    weights.push_back(std::move(mine));
    step.values = weights.back().values.data();
    step.factors = weights.back().factors.data();
    step.bias = weights.back().bias.data();
    network.steps.push_back(std::move(step));
    network.maps.push_back({rows, {window.outputs(0), window.outputs(1)}, {margin, margin}, 0.5f, 7});
  }
};

using Image = std::vector<std::uint8_t>;  // with its margin, as in memory

float rounded(float x, float low) {
  x = x > low ? x : low;
  x = x < 255.0f ? x : 255.0f;
  return std::nearbyint(x);
}

Image first_of(const Map& map, const float* x) {
  Image image(map.bytes(), static_cast<std::uint8_t>(map.zero));
  for (std::size_t c = 0; c < map.channels; ++c)
    for (std::size_t y = 0; y < map.size[0]; ++y)
      for (std::size_t right = 0; right < map.size[1]; ++right)
        image[map.at(y, right) + c] =
            static_cast<std::uint8_t>(rounded(*x++ * (1.0f / map.scale) + static_cast<float>(map.zero), 0));
  return image;
}

Image next_of(const Example& example, const MapStep& step, const std::vector<Image>& images) {
  const Map &from = example.network.maps[step.input], &to = example.network.maps[step.output];
  Image made(to.bytes(), static_cast<std::uint8_t>(to.zero));
  for (std::size_t row = 0; row < to.channels; ++row)
    for (std::size_t y = 0; y < to.size[0]; ++y)
      for (std::size_t x = 0; x < to.size[1]; ++x) {
        const std::size_t panel = row / kMapRows, down = y * step.window.stride[0] + from.margin[0] - step.window.padding[0];
        const std::size_t right = x * step.window.stride[1] + from.margin[1] - step.window.padding[1];
        const bool all = step.starts.empty();
        const std::size_t begin = all ? 0 : step.starts[panel], end = all ? step.offsets.size() : step.starts[panel + 1];
        std::int64_t sum = 0;
        for (std::size_t e = begin; e < end; ++e)
          for (std::size_t k = 0; k < kMapGroup; ++k) {
            const std::size_t block = all ? panel * step.offsets.size() + e : e;
            const std::size_t at = (down * from.across() + right) * from.pitch() + step.offsets[e] + k;
            sum += images[step.input][at] * step.values[(block * kMapRows + row % kMapRows) * kMapGroup + k];
          }
        float found = static_cast<float>(sum) * step.factors[row];
        found += step.bias[row];
        if (step.added != kNoMap) {
          const float more = static_cast<float>(images[step.added][example.network.maps[step.added].at(y, x) + row]) * step.weight;
          found += more;
        }
        made[to.at(y, x) + row] = static_cast<std::uint8_t>(rounded(found, step.low));
      }
  return made;
}

std::vector<float> wanted(const Example& example, const float* x) {
  std::vector<Image> images{first_of(example.network.maps[0], x)};
  for (const MapStep& step : example.network.steps) images.push_back(next_of(example, step, images));
  const Map& last = example.network.maps.back();
  std::vector<float> found;
  for (std::size_t c = 0; c < last.channels; ++c) {
    std::int32_t sum = 0;
    for (std::size_t y = 0; y < last.size[0]; ++y)
      for (std::size_t right = 0; right < last.size[1]; ++right) {
        const std::int32_t number = images.back()[last.at(y, right) + c] - last.zero;
        sum += number;
        if (!example.network.means) found.push_back(static_cast<float>(number) * last.scale);
      }
    if (example.network.means) found.push_back(static_cast<float>(sum) * (last.scale / static_cast<float>(last.positions())));
  }
  return found;
}

void check_network(Random& random, const Example& example, std::size_t images, unsigned threads) {
  const Map& first = example.network.maps.front();
  const std::size_t in = first.channels * first.positions();
  std::vector<float> x(images * in);
  for (float& value : x) value = static_cast<float>(static_cast<int>(random.below(400)) - 150) / 8;
  std::vector<float> all;
  for (std::size_t image = 0; image < images; ++image) {
    const std::vector<float> one = wanted(example, x.data() + image * in);
    all.insert(all.end(), one.begin(), one.end());
  }
  std::vector<float> y(all.size() + 1, 7.0f);
  check(run(example.network, x.data(), images, y.data(), threads) == MapOutcome::done, "running");
  const bool good = std::equal(all.begin(), all.end(), y.begin()) && y.back() == 7.0f;
  check(good, "a network of " + std::to_string(images) + " images, " + std::to_string(threads) + " threads");
  if (images == 0) return;
  x[random.below(static_cast<std::uint32_t>(x.size()))] = INFINITY;
  check(run(example.network, x.data(), images, y.data(), threads) == MapOutcome::not_finite, "an input that is infinite");
}

// One network in the hands of several threads: it is only read.
void check_shared_use(const Example& example) {
  const Map &first = example.network.maps.front(), &last = example.network.maps.back();
  const std::vector<float> x(6 * first.channels * first.positions(), 1.5f);
  std::vector<std::vector<float>> results(4, std::vector<float>(6 * last.channels * last.positions()));
  std::vector<std::thread> users;
  for (std::vector<float>& y : results)
    users.emplace_back([&] {
      for (int i = 0; i < 20; ++i) run(example.network, x.data(), 6, y.data(), 2);
    });
  for (std::thread& user : users) user.join();
  for (const std::vector<float>& y : results) check(y == results[0], "several users");
}

}  // namespace
}  // namespace regrain::testing

int main() {
  using namespace regrain;
  using namespace regrain::testing;
  return on_every_instruction_set([] {
    Random random(12);
    for (const unsigned kept : {0u, 40u, 100u})
      for (const std::size_t rows : {1, 16, 20, 50}) {
        Example example(5, 9, 6, 2);
        example.add(random, rows, {5, {9, 6}, {3, 3}, {2, 1}, {1, 2}, {1, 2}}, kNoMap, kept, 1);
        const Map& map = example.network.maps.back();
        example.add(random, rows, {rows, {map.size[0], map.size[1]}, {3, 1}, {1, 1}, {1, 0}, {1, 1}}, 1, kept, 0);
        for (const std::size_t images : {0, 1, 3, 9})
          for (const unsigned threads : {1u, 3u}) check_network(random, example, images, threads);
        if (rows == 20) check_shared_use(example);
        example.network.means = true;
        check_network(random, example, 4, 1);
      }
  });
}
