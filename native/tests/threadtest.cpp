// All families of products from several threads, while another one lays the weights out anew: every result is that of
// one version, whatever is built beside. Meant for ThreadSanitizer (tools/tsan.sh); without it, results alone are looked at.
#include <array>
#include <atomic>
#include <functional>
#include <thread>

#include "checks.h"
#include "regrain/convolution.h"
#include "regrain/integers.h"
#include "regrain/moments.h"
#include "regrain/panels.h"
#include "regrain/rows.h"
#include "regrain/skipping.h"

namespace regrain::testing {
namespace {

constexpr std::size_t kRows = 1040, kColumns = 256, kTokens = 17;  // enough for every family to wake other threads
constexpr std::size_t kCount = kRows * kColumns, kPanels = kRows / kPanelRows, kLine = kRows * sizeof(float);
constexpr unsigned kVersions = 3, kUsers = 4, kChanges = 20, kThreads = 2;
constexpr Window kWindow = {16, {5, 5}, {4, 4}, {1, 1}, {1, 1}, {1, 1}};

static_assert(kRows % kPanelRows == 0 && kLine % kSkipLine == 0 && kWindow.channels * 4 * 4 == kColumns);

float small(Random& random) { return static_cast<float>(static_cast<int>(random.below(64)) - 32) / 16; }

// What never changes: inputs, biases, which weights are kept.
struct Common {
  std::vector<float> x, bias, ones, zeros;
  std::vector<std::uint8_t> keep;
  std::vector<std::uint16_t> lists;
  std::vector<std::uint32_t> starts{0};

  explicit Common(Random& random) : x(kTokens * kColumns), bias(kRows), ones(kRows, 1.0f), zeros(kColumns), keep(kCount) {
    for (float& value : x) value = small(random);
    for (float& value : bias) value = small(random);
    for (std::uint8_t& value : keep) value = random.below(2) != 0;
    for (std::size_t panel = 0; panel < kPanels; ++panel) {
      for (std::size_t c = 0; c < kColumns; ++c)
        if (keep[panel * kColumns + c] != 0) lists.push_back(static_cast<std::uint16_t>(c));
      starts.push_back(static_cast<std::uint32_t>(lists.size()));
    }
  }
};

// The weights of one version, small whole numbers: (row, column) after (row, column).
std::vector<float> weights_of(unsigned version) {
  Random random(100 + version);
  std::vector<float> weights(kCount);
  for (float& weight : weights) weight = static_cast<float>(static_cast<int>(random.below(15)) - 7);
  return weights;
}

// One half of a double buffer: a layout of each family. It may be filled while nobody uses it.
class Half {
 public:
  std::atomic<int> users{0};
  unsigned version = 0;

  explicit Half(const Common& common)
      : panel_values_(common.lists.size() * kPanelRows), columns_(kCount), bytes_(kCount), sums_(kRows) {
    panels = {PanelValue::f32, kRows, kColumns, 1, false, common.starts.data(), common.lists.data(), panel_values_.data(), nullptr,
              common.bias.data()};
    skipping = {SkipValue::f32, kRows, kColumns, kLine, -1.0f, reinterpret_cast<const std::uint8_t*>(columns_.data()),
                nullptr, common.zeros.data(), common.zeros.data(), common.bias.data()};
    integers.rows = kRows, integers.columns = integers.inputs = kColumns;
    integers.values = bytes_.data(), integers.sums = sums_.data();
    integers.scales = common.ones.data(), integers.bias = common.bias.data();
  }

  Panels panels;
  Rows rows;
  Skipping skipping;
  Integers integers;

  void fill(const Common& common, const std::vector<float>& weights, unsigned number) {
    version = number;
    check(pack(panels, weights.data(), panel_values_.data()), "packing");
    rows = pack_rows(weights.data(), kRows, kColumns, common.keep.data(), 1);
    for (std::size_t r = 0; r < kRows; ++r) {
      sums_[r] = 0;
      for (std::size_t c = 0; c < kColumns; ++c) {
        const float weight = weights[r * kColumns + c];
        const std::size_t block = r / kBlockRows * (kColumns / kBlockColumns) + c / kBlockColumns;
        columns_[c * kRows + r] = weight;
        bytes_[(block * kBlockRows + r % kBlockRows) * kBlockColumns + c % kBlockColumns] = static_cast<std::int8_t>(weight);
        sums_[r] += static_cast<std::int32_t>(weight);
      }
    }
  }

 private:
  std::vector<float> panel_values_, columns_;
  std::vector<std::int8_t> bytes_;
  std::vector<std::int32_t> sums_;
};

// A call of each family: fills y, false without memory.
using Call = std::function<bool(const Half&, const Common&, float* y, unsigned threads)>;
const std::array<Call, 6> kCalls = {
    [](const Half& half, const Common& common, float* y, unsigned threads) {
      return multiply(half.panels, common.x.data(), kTokens, kColumns, y, kRows, threads);
    },
    [](const Half& half, const Common& common, float* y, unsigned threads) {
      return multiply(half.rows, common.bias.data(), common.x.data(), kTokens, kColumns, y, kRows, threads);
    },
    [](const Half& half, const Common& common, float* y, unsigned threads) {
      return multiply(half.skipping, common.x.data(), 3, kColumns, y, kRows, threads) == 3 * kColumns;
    },
    [](const Half& half, const Common& common, float* y, unsigned threads) {
      return multiply(half.integers, common.x.data(), kTokens, kColumns, y, kRows, threads);
    },
    [](const Half& half, const Common& common, float* y, unsigned threads) {
      return convolve(half.panels, kWindow, common.x.data(), 1, y, threads);
    },
    [](const Half&, const Common& common, float* y, unsigned) {
      std::array<double, 2 * kColumns> sums;
      const bool good = moments(common.x.data(), kTokens, kColumns, common.zeros.data(), sums.data(), sums.data() + kColumns);
      std::copy(sums.begin(), sums.end(), y);
      return good;
    },
};

using Results = std::array<std::vector<float>, kCalls.size()>;

Results results_of(const Half& half, const Common& common, unsigned threads) {
  Results found;
  for (std::size_t i = 0; i < kCalls.size(); ++i) {
    found[i].resize(kTokens * kRows);
    if (!kCalls[i](half, common, found[i].data(), threads)) found[i].clear();
  }
  return found;
}

// The half in force. Whoever enters it keeps it from being filled until leaving.
class Doors {
 public:
  explicit Doors(Half& first) : in_force_(&first) {}

  Half& enter() {
    for (;;) {
      Half* half = in_force_.load();
      ++half->users;
      if (half == in_force_.load()) return *half;
      --half->users;  // it was left meanwhile, and may be filled
    }
  }

  static void leave(Half& half) { --half.users; }

  void replace(Half& by) { in_force_.store(&by); }

 private:
  std::atomic<Half*> in_force_;
};

void check_while_layouts_change(const Common& common) {
  std::array<std::vector<float>, kVersions> weights;
  std::array<Results, kVersions> wanted;
  std::array<Half, 2> halves{Half(common), Half(common)};
  for (unsigned v = 0; v < kVersions; ++v) {
    weights[v] = weights_of(v);
    halves[0].fill(common, weights[v], v);
    wanted[v] = results_of(halves[0], common, 1);
  }
  Doors doors(halves[0]);
  std::atomic<unsigned> changes = 0;
  std::array<unsigned, kUsers> wrong{};
  std::vector<std::thread> threads;
  for (unsigned& mistakes : wrong)
    threads.emplace_back([&] {
      do {
        Half& half = doors.enter();
        mistakes += results_of(half, common, kThreads) != wanted[half.version];
        Doors::leave(half);
      } while (changes < kChanges);
    });
  threads.emplace_back([&] {
    for (; changes < kChanges; ++changes) {
      Half& idle = halves[(changes + 1) % 2];
      while (idle.users != 0) std::this_thread::yield();
      idle.fill(common, weights[changes % kVersions], changes % kVersions);
      doors.replace(idle);
    }
  });
  for (std::thread& thread : threads) thread.join();
  for (const unsigned mistakes : wrong) check(mistakes == 0, "results while layouts change");
}

}  // namespace
}  // namespace regrain::testing

int main() {
  using namespace regrain::testing;
  return on_every_instruction_set([] {
    Random random(17);
    check_while_layouts_change(Common(random));
  });
}
