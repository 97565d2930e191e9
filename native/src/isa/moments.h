// Sums over rows. An instruction set is a struct `Isa` with
//   V, kLanes                      a vector of floats, and how many they are
//   zero(), load(p), store(p, v), add(a, b), sub(a, b), fma(a, b, c) = a * b + c
// Included into an anonymous namespace, so that no instantiation is shared between instruction sets.

// kVectors vectors of columns at a time: sums stay in registers, and a row's part is a cache line or more.
template <class Isa, unsigned kVectors>
void add_columns(const float* x, std::size_t rows, std::size_t columns, const float* mean, double* sums,
                 double* squares) {
  typename Isa::V sum[kVectors], square[kVectors], middle[kVectors];
  for (unsigned v = 0; v < kVectors; ++v) {
    sum[v] = square[v] = Isa::zero();
    middle[v] = Isa::load(mean + v * Isa::kLanes);
  }
  for (std::size_t row = 0; row < rows; ++row, x += columns)
#pragma GCC unroll 8
    for (unsigned v = 0; v < kVectors; ++v) {
      const typename Isa::V distance = Isa::sub(Isa::load(x + v * Isa::kLanes), middle[v]);
      sum[v] = Isa::add(sum[v], distance);
      square[v] = Isa::fma(distance, distance, square[v]);
    }
  float lanes[2][kVectors * Isa::kLanes];
  for (unsigned v = 0; v < kVectors; ++v) {
    Isa::store(lanes[0] + v * Isa::kLanes, sum[v]);
    Isa::store(lanes[1] + v * Isa::kLanes, square[v]);
  }
  for (unsigned c = 0; c < kVectors * Isa::kLanes; ++c) {
    sums[c] += static_cast<double>(lanes[0][c]);
    squares[c] += static_cast<double>(lanes[1][c]);
  }
}

template <class Isa>
void add_moments(const float* x, std::size_t rows, std::size_t columns, const float* mean, double* sums,
                 double* squares) {
  constexpr std::size_t kWide = 4 * Isa::kLanes;
  std::size_t c = 0;
  for (; c + kWide <= columns; c += kWide)
    add_columns<Isa, 4>(x + c, rows, columns, mean + c, sums + c, squares + c);
  for (; c + Isa::kLanes <= columns; c += Isa::kLanes)
    add_columns<Isa, 1>(x + c, rows, columns, mean + c, sums + c, squares + c);
  for (; c < columns; ++c) {
    float sum = 0, square = 0;
    for (std::size_t row = 0; row < rows; ++row) {
      const float distance = x[row * columns + c] - mean[c];
      sum += distance;
      square += distance * distance;
    }
    sums[c] += static_cast<double>(sum);
    squares[c] += static_cast<double>(square);
  }
}
