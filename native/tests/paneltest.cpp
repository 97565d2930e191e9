// Products in panels without Python, beside sums in double precision.
#include <cmath>
#include <thread>

#include "checks.h"
#include "regrain/convolution.h"
#include "regrain/panels.h"

namespace regrain::testing {
namespace {

// A layout and what it was made of.
struct Matrix {
  std::vector<std::uint32_t> starts;
  std::vector<std::uint16_t> lists;
  std::vector<float> weights, scales, bias;  // weights as they are meant: 0 where dropped
  std::vector<std::uint8_t> values;
  Panels panels;

  Matrix(Random& random, PanelValue type, std::size_t rows, std::size_t columns, bool shared, unsigned kept) {
    const bool scaled = type == PanelValue::i8 || type == PanelValue::i4;
    const std::size_t segments = scaled ? 2 : 1, count = (rows + kPanelRows - 1) / kPanelRows;
    std::vector<std::int8_t> indices(rows * columns);
    std::vector<std::uint16_t> halves(rows * columns);
    std::vector<float> plain(rows * columns);
    weights.assign(rows * columns, 0.0f);
    for (float& factor : scales = std::vector<float>(scaled ? count * segments * kPanelRows : 0)) factor = 0.25f * (1 + random.below(4));
    for (float& b : bias = std::vector<float>(count * kPanelRows)) b = small(random);
    starts.push_back(0);
    for (std::size_t panel = 0; panel < (shared ? 1 : count); ++panel)
      for (std::size_t segment = 0; segment < segments; ++segment) {
        const std::size_t before = lists.size();
        for (std::size_t c = columns * segment / segments; c < columns * (segment + 1) / segments; ++c)
          if (random.below(100) < kept) lists.push_back(static_cast<std::uint16_t>(c));
        if (type == PanelValue::i4 && (lists.size() - before) % 2 != 0) lists.push_back(lists.back());
        starts.push_back(static_cast<std::uint32_t>(lists.size()));
      }
    for (std::size_t i = 0; i < rows * columns; ++i) {
      const int index = static_cast<int>(random.below(15)) - 7;
      indices[i] = static_cast<std::int8_t>(index);
      plain[i] = static_cast<float>(index) * 0.125f;
      halves[i] = half(index);
    }
    for (std::size_t panel = 0; panel < count; ++panel)
      for (std::size_t segment = 0; segment < segments; ++segment) {
        const std::size_t at = (shared ? 0 : panel * segments) + segment;
        for (std::size_t e = starts[at]; e < starts[at + 1]; ++e)
          for (std::size_t r = panel * kPanelRows; r < std::min(rows, (panel + 1) * kPanelRows); ++r) {
            const std::size_t place = r * columns + lists[e];
            const float factor = scaled ? scales[(panel * segments + segment) * kPanelRows + r % kPanelRows] : 0.125f;
            weights[place] = static_cast<float>(indices[place]) * factor;
          }
      }
    const std::size_t bytes[] = {64, 32, 16, 8};
    values.resize(starts.back() * (shared ? count : 1) * bytes[static_cast<int>(type)]);
    panels = {type, rows, columns, segments, shared, starts.data(), lists.data(), values.data(),
              scaled ? scales.data() : nullptr, bias.data()};
    const void* sources[] = {plain.data(), halves.data(), indices.data(), indices.data()};
    check(pack(panels, sources[static_cast<int>(type)], values.data()), "packing");
  }

  static float small(Random& random) { return static_cast<float>(static_cast<int>(random.below(64)) - 32) / 16; }

  static std::uint16_t half(int eighths) {  // of eighths / 8, exactly
    if (eighths == 0) return 0;
    const unsigned size = static_cast<unsigned>(eighths < 0 ? -eighths : eighths);
    int exponent = 0;
    while (size >> (exponent + 1) != 0) ++exponent;
    return static_cast<std::uint16_t>((eighths < 0 ? 0x8000 : 0) | (exponent - 3 + 15) << 10 | (size << (10 - exponent) & 0x3FF));
  }
};

bool near(float found, double wanted) { return std::fabs(found - wanted) <= 1e-4 * (1 + std::fabs(wanted)); }

void check_products(Random& random, const Matrix& matrix, std::size_t tokens, unsigned threads) {
  const std::size_t rows = matrix.panels.rows, columns = matrix.panels.columns, stride = columns + 3;
  std::vector<float> x(tokens * stride), y(tokens * rows, NAN);
  for (float& value : x) value = Matrix::small(random);
  check(multiply(matrix.panels, x.data(), tokens, stride, y.data(), rows, threads), "memory");
  bool good = true;
  for (std::size_t n = 0; n < tokens; ++n)
    for (std::size_t r = 0; r < rows; ++r) {
      double sum = matrix.bias[r];
      for (std::size_t c = 0; c < columns; ++c) sum += static_cast<double>(matrix.weights[r * columns + c]) * x[n * stride + c];
      good = good && near(y[n * rows + r], sum);
    }
  check(good, "products of " + std::to_string(tokens) + " tokens with type " + std::to_string(static_cast<int>(matrix.panels.type)));
}

void check_convolution(Random& random, const Window& window, std::size_t rows, std::size_t images, unsigned threads) {
  const Matrix matrix(random, PanelValue::f32, rows, window.channels * window.kernel[0] * window.kernel[1], false, 60);
  const std::size_t in = window.channels * window.size[0] * window.size[1], high = window.outputs(0), wide = window.outputs(1);
  std::vector<float> x(images * in), y(images * rows * high * wide, NAN);
  for (float& value : x) value = Matrix::small(random);
  check(convolve(matrix.panels, window, x.data(), images, y.data(), threads), "memory");
  bool good = true;
  for (std::size_t i = 0; i < y.size(); ++i) {
    const std::size_t across = i % wide, down = i / wide % high, row = i / wide / high % rows, image = i / wide / high / rows;
    double sum = matrix.bias[row];
    for (std::size_t k = 0; k < matrix.panels.columns; ++k) {
      const std::size_t channel = k / window.kernel[1] / window.kernel[0];
      const std::size_t v = down * window.stride[0] + k / window.kernel[1] % window.kernel[0] * window.dilation[0] - window.padding[0];
      const std::size_t h = across * window.stride[1] + k % window.kernel[1] * window.dilation[1] - window.padding[1];
      if (v < window.size[0] && h < window.size[1])  // what is left of the edge has wrapped around
        sum += static_cast<double>(matrix.weights[row * matrix.panels.columns + k]) *
               x[image * in + (channel * window.size[0] + v) * window.size[1] + h];
    }
    good = good && near(y[i], sum);
  }
  check(good, "maps of " + std::to_string(rows) + " rows");
}

// One layout in the hands of several threads: it is only read.
void check_shared_use(Random& random) {
  const Matrix matrix(random, PanelValue::f32, 130, 120, false, 50);
  std::vector<std::thread> users;
  std::vector<float> x(40 * 120, 0.5f);
  std::vector<std::vector<float>> results(4, std::vector<float>(40 * 130));
  for (std::vector<float>& y : results)
    users.emplace_back([&] {
      for (int i = 0; i < 20; ++i) multiply(matrix.panels, x.data(), 40, 120, y.data(), 130, 2);
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
    Random random(7);
    for (const PanelValue type : {PanelValue::f32, PanelValue::f16, PanelValue::i8, PanelValue::i4})
      for (const bool shared : {true, false})
        for (const unsigned kept : {0u, 30u, 100u})
          for (const std::size_t rows : {1, 16, 37, 96}) {
            const Matrix matrix(random, type, rows, 3 + random.below(60), shared, kept);
            for (const std::size_t tokens : {0, 1, 2, 5, 13, 30}) check_products(random, matrix, tokens, 1);
          }
    const Matrix large(random, PanelValue::f32, 300, 600, true, 90);
    for (const std::size_t tokens : {1, 40, 700}) check_products(random, large, tokens, 3);
    for (const std::size_t stride : {1, 2})
      for (const std::size_t padding : {0, 1, 2})
        check_convolution(random, {5, {9, 11}, {3, 2}, {stride, stride}, {padding, padding}, {1, 2}}, 20, 3, 2);
    check_convolution(random, {40, {30, 33}, {3, 3}, {1, 1}, {1, 1}, {1, 1}}, 33, 1, 2);
    check_shared_use(random);
  });
}
