// Row by row: what earlier rows' errors ask of this one, then its weights from first to last.
#include "regrain/feedback.h"

#include <algorithm>
#include <vector>

#include "isa/kernels.h"

namespace regrain {

constexpr float kEndless = 0x1p126f;  // a step so large that whatever is asked of a dropped weight rounds to 0

double round_with_feedback(const FeedbackRequest& request, std::int16_t* indices) {
  const std::size_t rows = request.rows, columns = request.columns;
  const std::size_t cells = (columns + request.cell_columns - 1) / request.cell_columns;
  const Kernels& use = kernels();
  std::vector<float> errors(request.row_factor ? rows * columns : columns), wanted(columns), target(columns), steps(columns);
  double damage = 0;
  for (std::size_t i = 0; i < rows; ++i) {
    const float* weights = request.weights + i * columns;
    const float* scales = request.scales + i / request.cell_rows * cells;
    const std::uint8_t* keep = request.keep ? request.keep + i * columns : nullptr;
    for (std::size_t j = 0; j < columns; ++j)
      steps[j] = keep != nullptr && keep[j] == 0 ? kEndless : scales[j / request.cell_columns];
    std::copy(weights, weights + columns, wanted.begin());
    float* error = errors.data();
    if (request.row_factor) {
      use.subtract_rows(wanted.data(), errors.data(), columns, request.row_factor + i, rows, i);
      error += i * columns;
    }
    target = wanted;
    use.round_row(wanted.data(), target.data(), steps.data(), columns, request.column_factor, request.dead_zone, indices + i * columns,
                  error);
    double row = 0;
    for (std::size_t j = 0; j < columns; ++j) row += double{request.weight_columns[j]} * error[j] * error[j];
    damage += request.weight_rows[i] * row;
    if (request.row_factor)
      for (std::size_t j = 0; j < columns; ++j) error[j] = indices[i * columns + j] * steps[j] - weights[j];
  }
  return damage;
}

}  // namespace regrain
