// Products in lists of columns. An instruction set is a struct `Isa` with
//   V, kLanes                            a vector of floats, and how many it has
//   kFine, kFour                         see RowKernels
//   zero(), load(p), store(p, v), fma(a, b, c) = a * b + c, add(a, b)
//   quarters(p), spread<I>(q)            four floats again and again, and the I-th of them everywhere
//   transpose(V (&rows)[kLanes])         of a square
// Included into an anonymous namespace, so that no instantiation is shared between instruction sets.

template <unsigned Count, class Body>
[[gnu::always_inline]] inline void each(const Body& body) {
  [&]<unsigned... I>(std::integer_sequence<unsigned, I...>) __attribute__((always_inline)) {
    (body.template operator()<I>(), ...);
  }(std::make_integer_sequence<unsigned, Count>{});
}

// One unit of `Unit` rows after the other, four weights a step: of four entries, or of one in four rows. They are loaded
// at once and spread from the register, as loads are what there is least of. The sums of a row run in `kWays` sets, for
// an addition takes as long as eight can start; what gaps are left the next units fill.
template <class Isa, unsigned Unit, unsigned Vectors>
void multiply_tile(const RowTile& tile, const float* strip, float* sums, bool first) {
  using V = typename Isa::V;
  constexpr unsigned kEntries = 4 / Unit, kSteps = Unit == 4 && Vectors == 1 ? 2 : 1;
  constexpr unsigned kWays = Unit == 4 ? kSteps : Vectors <= 2 ? 4 : 2;
  constexpr std::size_t kWidth = Vectors * Isa::kLanes;
  const std::uint8_t* place = tile.places;
  const float* value = tile.values;
  for (std::size_t i = 0; i < tile.units; ++i) {
    std::size_t left = tile.steps[i];
    if (left == 0 && !first) return;  // so have all that follow
    float* out = sums + tile.order[i] * Unit * kWidth;
    V parts[kWays][Unit][Vectors];
    each<kWays>([&]<unsigned w>() {
      each<Unit>([&]<unsigned r>() { each<Vectors>([&]<unsigned v>() { parts[w][r][v] = Isa::zero(); }); });
    });
    if (!first)
      each<Unit>([&]<unsigned r>() {
        each<Vectors>([&]<unsigned v>() { parts[0][r][v] = Isa::load(out + r * kWidth + v * Isa::kLanes); });
      });
    const auto step = [&]<unsigned S>() __attribute__((always_inline)) {
      const V weights = Isa::quarters(value + 4 * S);
      each<kEntries>([&]<unsigned e>() {
        const float* from = strip + place[S * kEntries + e] * kWidth;
        V tokens[Vectors];
        each<Vectors>([&]<unsigned v>() { tokens[v] = Isa::load(from + v * Isa::kLanes); });
        each<Unit>([&]<unsigned r>() {
          const V weight = Isa::template spread<Unit == 4 ? r : e>(weights);
          each<Vectors>([&]<unsigned v>() {
            V& part = parts[(S * kEntries + e) % kWays][r][v];
            part = Isa::fma(tokens[v], weight, part);
          });
        });
      });
    };
    for (; left >= kSteps; left -= kSteps, place += kSteps * kEntries, value += kSteps * 4)
      each<kSteps>([&]<unsigned s>() { step.template operator()<s>(); });
    if (kSteps > 1 && left > 0) {
      step.template operator()<0>();
      place += kEntries;
      value += 4;
    }
    each<Unit>([&]<unsigned r>() {
      each<Vectors>([&]<unsigned v>() {
        V sum = parts[0][r][v];
        each<kWays - 1>([&]<unsigned w>() { sum = Isa::add(sum, parts[w + 1][r][v]); });
        Isa::store(out + r * kWidth + v * Isa::kLanes, sum);
      });
    });
  }
}

template <class Isa, unsigned Unit, unsigned Vectors>
void multiply_vectors(unsigned vectors, const RowTile& tile, const float* strip, float* sums, bool first) {
  if constexpr (Vectors > 0) {
    if (vectors == Vectors) multiply_tile<Isa, Unit, Vectors>(tile, strip, sums, first);
    else multiply_vectors<Isa, Unit, Vectors - 1>(vectors, tile, strip, sums, first);
  }
}

template <class Isa>
void multiply_rows(std::size_t unit, unsigned vectors, const RowTile& tile, const float* strip, float* sums,
                   bool first) {
  if (unit == 1) multiply_vectors<Isa, 1, Isa::kFine>(vectors, tile, strip, sums, first);
  else multiply_vectors<Isa, 4, Isa::kFour>(vectors, tile, strip, sums, first);
}

template <class Isa>
void pack_tokens(const float* x, std::size_t stride, std::size_t tokens, std::size_t columns, float* strip,
                 unsigned vectors) {
  constexpr std::size_t kLanes = Isa::kLanes;
  const std::size_t width = vectors * kLanes;
  for (std::size_t token = 0; token < width; token += kLanes) {
    const float* from = x + token * stride;
    float* to = strip + token;
    const std::size_t here = token < tokens ? tokens - token : 0;
    std::size_t column = 0;
    for (; column + kLanes <= columns; column += kLanes) {
      typename Isa::V square[kLanes];
      each<kLanes>([&]<unsigned i>() { square[i] = i < here ? Isa::load(from + i * stride + column) : Isa::zero(); });
      Isa::transpose(square);
      each<kLanes>([&]<unsigned i>() { Isa::store(to + (column + i) * width, square[i]); });
    }
    for (; column < columns; ++column)
      for (std::size_t i = 0; i < kLanes; ++i) to[column * width + i] = i < here ? from[i * stride + column] : 0.0f;
  }
}

// Transposed in the cache first: rows of y may be a power of two apart, and then few of them stay in it together.
template <class Isa>
void unpack_sums(const float* sums, unsigned vectors, std::size_t tokens, std::size_t rows, const float* bias, float* y,
                 std::size_t stride) {
  constexpr std::size_t kLanes = Isa::kLanes;
  const std::size_t width = vectors * kLanes, whole = rows / kLanes * kLanes;
  alignas(64) float lines[kLanes][kTileRows];
  for (std::size_t token = 0; token < tokens; token += kLanes) {
    const float* from = sums + token;
    for (std::size_t row = 0; row < whole; row += kLanes) {
      typename Isa::V square[kLanes];
      each<kLanes>([&]<unsigned i>() { square[i] = Isa::load(from + (row + i) * width); });
      Isa::transpose(square);
      const typename Isa::V more = Isa::load(bias + row);
      each<kLanes>([&]<unsigned i>() { Isa::store(lines[i] + row, Isa::add(square[i], more)); });
    }
    for (std::size_t row = whole; row < rows; ++row)
      for (std::size_t i = 0; i < kLanes; ++i) lines[i][row] = from[row * width + i] + bias[row];
    for (std::size_t i = 0; i < kLanes && token + i < tokens; ++i)
      __builtin_memcpy(y + (token + i) * stride, lines[i], rows * sizeof(float));
  }
}
