// Products in lists of columns without Python, beside sums in double precision.
#include <cmath>
#include <thread>

#include "checks.h"
#include "regrain/rows.h"

namespace regrain::testing {
namespace {

float small(Random& random) { return static_cast<float>(static_cast<int>(random.below(64)) - 32) / 16; }

struct Matrix {
  std::vector<float> weights, bias;
  std::vector<std::uint8_t> keep;
  Rows rows;

  Matrix(Random& random, std::size_t unit, std::size_t count, std::size_t columns, unsigned kept)
      : weights(count * columns), bias(count), keep((count + unit - 1) / unit * columns) {
    for (float& w : weights) w = small(random);
    for (float& b : bias) b = small(random);
    for (std::uint8_t& k : keep) k = random.below(100) < kept;
    rows = pack_rows(weights.data(), count, columns, keep.data(), unit);
  }

  double product(std::size_t row, const float* x) const {
    double sum = bias[row];
    for (std::size_t c = 0; c < rows.columns; ++c)
      if (keep[row / rows.unit * rows.columns + c]) sum += static_cast<double>(weights[row * rows.columns + c]) * x[c];
    return sum;
  }
};

void check_products(Random& random, const Matrix& matrix, std::size_t tokens, unsigned threads) {
  const std::size_t rows = matrix.rows.rows, x_stride = matrix.rows.columns + 3, y_stride = rows + 2;
  std::vector<float> x(tokens * x_stride), y(tokens * y_stride, 7.0f);
  for (float& value : x) value = small(random);
  check(multiply(matrix.rows, matrix.bias.data(), x.data(), tokens, x_stride, y.data(), y_stride, threads), "memory");
  bool good = true;
  for (std::size_t n = 0; n < tokens; ++n) {
    for (std::size_t r = 0; r < rows; ++r) {
      const double wanted = matrix.product(r, x.data() + n * x_stride);
      good = good && std::fabs(y[n * y_stride + r] - wanted) <= 1e-4 * (1 + std::fabs(wanted));
    }
    good = good && y[n * y_stride + rows] == 7.0f && y[n * y_stride + rows + 1] == 7.0f;
  }
  check(good, "products of " + std::to_string(tokens) + " tokens with units of " + std::to_string(matrix.rows.unit));
}

// One layout in the hands of several threads: it is only read.
void check_shared_use(Random& random) {
  const Matrix matrix(random, 1, 150, 300, 30);
  std::vector<std::thread> users;
  std::vector<float> x(40 * 300, 0.5f);
  std::vector<std::vector<float>> results(4, std::vector<float>(40 * 150));
  for (std::vector<float>& y : results)
    users.emplace_back([&] {
      for (int i = 0; i < 20; ++i) multiply(matrix.rows, matrix.bias.data(), x.data(), 40, 300, y.data(), 150, 2);
    });
  for (std::thread& user : users) user.join();
  for (const std::vector<float>& y : results) check(y == results[0], "several users");
}

}  // namespace
}  // namespace regrain::testing

int main() {
  using namespace regrain::testing;
  return on_every_instruction_set([] {
    Random random(11);
    for (const std::size_t unit : {1, 4})
      for (const unsigned kept : {0u, 5u, 30u, 100u})
        for (const std::size_t rows : {1, 6, 130}) {
          const Matrix matrix(random, unit, rows, 1 + random.below(300), kept);
          for (const std::size_t tokens : {0, 1, 3, 16, 37, 70}) check_products(random, matrix, tokens, 1);
        }
    for (const std::size_t unit : {1, 4}) {
      const Matrix large(random, unit, 300, 700, 20);
      for (const std::size_t tokens : {1, 100, 400}) check_products(random, large, tokens, 3);
    }
    check_shared_use(random);
  });
}
