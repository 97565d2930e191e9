// Rounding one row, and what earlier rows ask of it: element by element, so that every instruction set agrees to the bit.
// Included inside the unnamed namespace of each instruction set.

// target[j] -= sum over k < count of factor[k * stride] * rows[k][j], the rows in order.
void subtract_rows(float* target, const float* rows, std::size_t columns, const float* factor, std::size_t stride,
                   std::size_t count) {
  std::size_t k = 0;
  for (; k + 4 <= count; k += 4) {
    const float a = factor[k * stride], b = factor[(k + 1) * stride], c = factor[(k + 2) * stride],
                d = factor[(k + 3) * stride];
    const float *ra = rows + k * columns, *rb = ra + columns, *rc = rb + columns, *rd = rc + columns;
#pragma GCC ivdep
    for (std::size_t j = 0; j < columns; ++j)
      target[j] = (((target[j] - a * ra[j]) - b * rb[j]) - c * rc[j]) - d * rd[j];
  }
  for (; k < count; ++k) {
    const float a = factor[k * stride];
    const float* row = rows + k * columns;
#pragma GCC ivdep
    for (std::size_t j = 0; j < columns; ++j) target[j] -= a * row[j];
  }
}

// Rounds `wanted`, a row. `target` starts as a copy of it, and gives way to the errors of the weights before; error[j]
// becomes what rounding target[j] alone adds.
void round_row(const float* wanted, float* target, const float* steps, std::size_t columns, const float* factor, float dead_zone,
               std::int16_t* indices, float* error) {
  const float shift = 0.5f - dead_zone;
  for (std::size_t j = 0; j < columns; ++j) {
    const float step = steps[j], x = target[j] / step, size = x < 0 ? -x : x;
    const float up = size + shift;
    const int whole = up < 32767.0f ? static_cast<int>(up) : 32767;
    const int index = x < 0 ? -whole : whole;
    indices[j] = static_cast<std::int16_t>(index);
    const float value = static_cast<float>(index) * step;
    error[j] = value - target[j];
    if (factor == nullptr) continue;
    const float missed = value - wanted[j];
    const float* row = factor + j * columns;
#pragma GCC ivdep
    for (std::size_t l = j + 1; l < columns; ++l) target[l] -= missed * row[l];
  }
}
