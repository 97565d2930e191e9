// Sums over rows without Python: every tail of rows and columns, beside the plainest loop in double precision.
#include "regrain/moments.h"

#include <cmath>
#include <limits>

#include "checks.h"

namespace regrain::testing {
namespace {

void check_sums(Random& random, std::size_t rows, std::size_t columns) {
  std::vector<float> x(rows * columns), mean(columns);
  for (float& one : x) one = static_cast<float>(random.below(2001)) / 100.0f - 10.0f;
  for (float& one : mean) one = static_cast<float>(random.below(201)) / 100.0f - 1.0f;
  std::vector<double> found(2 * columns), sums(2 * columns), sizes(2 * columns);
  const std::string what = std::to_string(rows) + " x " + std::to_string(columns);
  check(moments(x.data(), rows, columns, mean.data(), found.data(), found.data() + columns), what + ": finite");
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::size_t c = i % columns;
    const double distance = static_cast<double>(x[i]) - static_cast<double>(mean[c]);
    sums[c] += distance;
    sizes[c] += std::fabs(distance);
    sums[columns + c] += distance * distance;
    sizes[columns + c] += distance * distance;
  }
  bool near = true;  // one rounding of the difference, which counts twice in its square, and at most 65 of sums
  for (std::size_t i = 0; i < 2 * columns; ++i) near &= std::fabs(found[i] - sums[i]) <= 68 * 0x1p-24 * sizes[i];
  check(near, what);
  if (rows == 0) return;
  x[random.below(static_cast<std::uint32_t>(x.size()))] =
      random.below(2) == 0 ? std::numeric_limits<float>::quiet_NaN() : -std::numeric_limits<float>::infinity();
  check(!moments(x.data(), rows, columns, mean.data(), found.data(), found.data() + columns), what + ": not finite");
}

}  // namespace
}  // namespace regrain::testing

int main() {
  using namespace regrain;
  using namespace regrain::testing;
  return on_every_instruction_set([] {
    Random random{11};
    for (const std::size_t rows : {0, 1, 63, 64, 65, 130})
      for (std::size_t columns = 1; columns <= 150; columns += columns < 20 ? 1 : 13) check_sums(random, rows, columns);
  });
}
