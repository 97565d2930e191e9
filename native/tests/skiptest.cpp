// Products that leave out columns without Python, beside sums in double precision.
#include <cmath>
#include <cstring>

#include "checks.h"
#include "regrain/skipping.h"

namespace regrain::testing {
namespace {

float small(Random& random) { return static_cast<float>(static_cast<int>(random.below(64)) - 32) / 16; }

// Weights are -4 to 4: exact in every type.
struct Matrix {
  std::vector<int> weights;
  std::vector<float> scales, mean, norm, bias;
  std::vector<std::uint8_t> values;
  Skipping skipping;

  Matrix(Random& random, SkipValue type, std::size_t rows, std::size_t columns, float threshold)
      : weights(rows * columns), scales(rows), mean(columns), norm(columns), bias(rows) {
    skipping = {type, rows, columns, 0, threshold, nullptr, nullptr, mean.data(), norm.data(), bias.data()};
    skipping.stride = (rows * skipping.item() + kSkipLine - 1) / kSkipLine * kSkipLine;
    for (int& w : weights) w = static_cast<int>(random.below(9)) - 4;
    for (float& s : scales) s = type == SkipValue::i8 ? small(random) : 1;
    for (float& b : bias) b = small(random);
    for (float& m : mean) m = small(random);
    for (float& n : norm) n = static_cast<float>(random.below(5));
    values.resize(skipping.stride * columns);
    for (std::size_t r = 0; r < rows; ++r)
      for (std::size_t c = 0; c < columns; ++c) put(values.data() + c * skipping.stride, r, weights[r * columns + c]);
    skipping.values = values.data();
    if (type == SkipValue::i8) skipping.scales = scales.data();
  }

  void put(std::uint8_t* column, std::size_t row, int weight) const {
    static constexpr std::uint16_t kHalves[] = {0, 0x3C00, 0x4000, 0x4200, 0x4400};
    const auto single = static_cast<float>(weight);
    const auto half = static_cast<std::uint16_t>((weight < 0 ? 0x8000 : 0) | kHalves[std::abs(weight)]);
    const auto byte = static_cast<std::int8_t>(weight);
    const void* sources[] = {&single, &half, &byte};
    std::memcpy(column + row * skipping.item(), sources[static_cast<int>(skipping.type)], skipping.item());
  }

  bool has(const float* x, std::size_t c) const { return std::fabs(x[c] - mean[c]) * norm[c] > skipping.threshold; }
};

void check_products(Random& random, const Matrix& matrix, std::size_t tokens, unsigned threads) {
  const std::size_t rows = matrix.skipping.rows, columns = matrix.skipping.columns, x_stride = columns + 3, y_stride = rows + 2;
  std::vector<float> x(tokens * x_stride), y(tokens * y_stride, 7.0f);
  for (float& value : x) value = small(random);
  const std::int64_t kept = multiply(matrix.skipping, x.data(), tokens, x_stride, y.data(), y_stride, threads);
  std::int64_t wanted_kept = 0;
  bool good = true;
  for (std::size_t n = 0; n < tokens; ++n) {
    const float* token = x.data() + n * x_stride;
    for (std::size_t c = 0; c < columns; ++c) wanted_kept += matrix.has(token, c);
    for (std::size_t r = 0; r < rows; ++r) {
      double sum = 0;
      for (std::size_t c = 0; c < columns; ++c)
        if (matrix.has(token, c)) sum += static_cast<double>(matrix.weights[r * columns + c]) * (token[c] - matrix.mean[c]);
      const double wanted = matrix.bias[r] + sum * matrix.scales[r];
      good = good && std::fabs(y[n * y_stride + r] - wanted) <= 1e-4 * (1 + std::fabs(wanted));
    }
    good = good && y[n * y_stride + rows] == 7.0f && y[n * y_stride + rows + 1] == 7.0f;
  }
  const std::string of = std::to_string(tokens) + " tokens with type " + std::to_string(static_cast<int>(matrix.skipping.type));
  check(kept == wanted_kept, "columns of " + of);
  check(good, "products of " + of);
}

}  // namespace
}  // namespace regrain::testing

int main() {
  using namespace regrain;
  using namespace regrain::testing;
  return on_every_instruction_set([] {
    Random random(13);
    for (const SkipValue type : {SkipValue::f32, SkipValue::f16, SkipValue::i8}) {
      for (const float threshold : {-1.0f, 0.0f, 2.0f, 1000.0f})
        for (const std::size_t rows : {1, 16, 64, 65, 200}) {
          const Matrix matrix(random, type, rows, 1 + random.below(70), threshold);
          for (const std::size_t tokens : {0, 1, 2, 3}) check_products(random, matrix, tokens, 1);
        }
      check_products(random, Matrix(random, type, 5000, 300, 2.0f), 2, 3);
    }
  });
}
