// Products in panels. An instruction set is a struct `Isa` with
//   V, kVectors                    a vector of floats, and how many of them are 16 rows
//   kStrip, kWide, kTogether, kSingle     see PanelKernels
//   zero(), load(p), store(p, v), broadcast(p), fma(a, b, c) = a * b + c, mul(a, b), add(a, b)
//   halves(p, i), bytes(p, i), low(p, i), high(p, i)   vector i of 16 halves, int8, low and high nibbles less 8
// Included into an anonymous namespace, after transpose.h, so that no instantiation is shared between instruction sets.

// Loops over accumulators must be unrolled whole, or the compiler keeps them in memory (GCC 12).
#define REGRAIN_UNROLL _Pragma("GCC unroll 32")

template <class Isa>
struct F32 {
  static constexpr bool kScaled = false;
  static constexpr std::size_t kEntries = 1, kBytes = 64;  // entries that share bytes, and those
  static typename Isa::V load(const std::uint8_t* p, unsigned i, unsigned) {
    return Isa::load(reinterpret_cast<const float*>(p) + i * (kPanelRows / Isa::kVectors));
  }
};

template <class Isa>
struct F16 {
  static constexpr bool kScaled = false;
  static constexpr std::size_t kEntries = 1, kBytes = 32;
  static typename Isa::V load(const std::uint8_t* p, unsigned i, unsigned) { return Isa::halves(p, i); }
};

template <class Isa>
struct I8 {
  static constexpr bool kScaled = true;
  static constexpr std::size_t kEntries = 1, kBytes = 16;
  static typename Isa::V load(const std::uint8_t* p, unsigned i, unsigned) { return Isa::bytes(p, i); }
};

template <class Isa>
struct I4 {
  static constexpr bool kScaled = true;
  static constexpr std::size_t kEntries = 2, kBytes = 16;
  static typename Isa::V load(const std::uint8_t* p, unsigned i, unsigned u) {
    return u == 0 ? Isa::low(p, i) : Isa::high(p, i);
  }
};

// With more tokens than that, products take longer than their weights take to come.
constexpr unsigned kFetching = 8;

// Small weights are multiplied before the CPU sees where they lead: with few tokens, those of the next panels are fetched
// from memory beside them. This is how far away the same place is there; P panels lie side by side.
template <class Type, unsigned P>
[[gnu::always_inline]] inline std::size_t bytes_ahead(const PanelWork& work) {
  return P * (work.starts[work.segments] - work.starts[0]) / Type::kEntries * Type::kBytes;
}

// Vector i of entry u of those that start at p.
template <class Type>
[[gnu::always_inline]] inline auto entry(const std::uint8_t* p, unsigned i, unsigned u) {
  return Type::load(p + u / Type::kEntries * Type::kBytes, i, u % Type::kEntries);
}

// Rows of a tile go out as they are, or those that exist of the last panel.
template <class Isa, unsigned P>
[[gnu::always_inline]] inline void put(const typename Isa::V (&sums)[P][Isa::kVectors], float* y, std::size_t rows) {
  constexpr std::size_t kLanes = kPanelRows / Isa::kVectors;
  alignas(64) float whole[P * kPanelRows];
  float* out = rows == P * kPanelRows ? y : whole;
  REGRAIN_UNROLL for (unsigned p = 0; p < P; ++p)
    REGRAIN_UNROLL for (unsigned i = 0; i < Isa::kVectors; ++i) Isa::store(out + p * kPanelRows + i * kLanes, sums[p][i]);
  if (out != y) __builtin_memcpy(y, whole, rows * sizeof(float));
}

// One token: sums of a segment run in several accumulators for each row, and are scaled once.
template <class Isa, template <class> class TypeOf, unsigned P, bool Listed>
void multiply_one(const PanelWork& work, const float* x, float* y, std::size_t rows) {
  using V = typename Isa::V;
  using Type = TypeOf<Isa>;
  constexpr unsigned kV = Isa::kVectors, kOver = 8 / (P * kV), kWays = kOver < 2 ? 2 : kOver;
  constexpr std::size_t kLanes = kPanelRows / kV;
  const std::size_t ahead = bytes_ahead<Type, P>(work);
  V sums[P][kV];
  const std::uint8_t* values[P];
  REGRAIN_UNROLL for (unsigned p = 0; p < P; ++p) {
    values[p] = work.values[p];
    REGRAIN_UNROLL for (unsigned i = 0; i < kV; ++i) sums[p][i] = Isa::load(work.bias[p] + i * kLanes);
  }
  for (std::size_t segment = 0; segment < work.segments; ++segment) {
    V parts[kWays][P][kV];
    REGRAIN_UNROLL for (unsigned u = 0; u < kWays; ++u)
      REGRAIN_UNROLL for (unsigned p = 0; p < P; ++p)
        REGRAIN_UNROLL for (unsigned i = 0; i < kV; ++i) parts[u][p][i] = Isa::zero();
    const auto step = [&](std::size_t e, unsigned u) __attribute__((always_inline)) {
      const V token = Isa::broadcast(x + (Listed ? work.list[e] : e));
      REGRAIN_UNROLL for (unsigned p = 0; p < P; ++p)
        REGRAIN_UNROLL for (unsigned i = 0; i < kV; ++i)
          parts[u][p][i] = Isa::fma(entry<Type>(values[p], i, u), token, parts[u][p][i]);
    };
    std::size_t e = work.starts[segment];
    const std::size_t end = work.starts[segment + 1];
    for (; e + kWays <= end; e += kWays) {
      REGRAIN_UNROLL for (unsigned u = 0; u < kWays; ++u) step(e + u, u);
      REGRAIN_UNROLL for (unsigned p = 0; p < P; ++p) {
        if constexpr (Type::kScaled) __builtin_prefetch(values[p] + ahead);
        values[p] += kWays / Type::kEntries * Type::kBytes;
      }
    }
    for (; e < end; e += Type::kEntries) {
      REGRAIN_UNROLL for (unsigned u = 0; u < Type::kEntries; ++u) step(e + u, u);
      REGRAIN_UNROLL for (unsigned p = 0; p < P; ++p) values[p] += Type::kBytes;
    }
    REGRAIN_UNROLL for (unsigned p = 0; p < P; ++p)
      REGRAIN_UNROLL for (unsigned i = 0; i < kV; ++i) {
        V part = parts[0][p][i];
        REGRAIN_UNROLL for (unsigned u = 1; u < kWays; ++u) part = Isa::add(part, parts[u][p][i]);
        if constexpr (Type::kScaled)
          sums[p][i] = Isa::fma(part, Isa::load(work.scales[p] + segment * kPanelRows + i * kLanes), sums[p][i]);
        else
          sums[p][i] = Isa::add(sums[p][i], part);
      }
  }
  put<Isa, P>(sums, y, rows);
}

// N tokens of a strip: weights are scaled as they are read, once for all tokens.
template <class Isa, template <class> class TypeOf, unsigned P, unsigned N, bool Listed>
void multiply_tile(const PanelWork& work, const float* x, float* y, std::size_t y_stride, std::size_t rows) {
  using V = typename Isa::V;
  using Type = TypeOf<Isa>;
  constexpr unsigned kV = Isa::kVectors;
  constexpr std::size_t kLanes = kPanelRows / kV;
  const std::size_t ahead = bytes_ahead<Type, P>(work);
  V sums[N][P][kV];
  const std::uint8_t* values[P];
  REGRAIN_UNROLL for (unsigned p = 0; p < P; ++p) {
    values[p] = work.values[p];
    REGRAIN_UNROLL for (unsigned i = 0; i < kV; ++i) {
      const V bias = Isa::load(work.bias[p] + i * kLanes);
      REGRAIN_UNROLL for (unsigned n = 0; n < N; ++n) sums[n][p][i] = bias;
    }
  }
  for (std::size_t segment = 0; segment < work.segments; ++segment) {
    V scales[P][kV];
    if constexpr (Type::kScaled)
      REGRAIN_UNROLL for (unsigned p = 0; p < P; ++p)
        REGRAIN_UNROLL for (unsigned i = 0; i < kV; ++i)
          scales[p][i] = Isa::load(work.scales[p] + segment * kPanelRows + i * kLanes);
    const auto step = [&](std::size_t e, unsigned u) __attribute__((always_inline)) {
      const float* tokens = x + (Listed ? work.list[e] : e) * N;
      V weights[P][kV];
      REGRAIN_UNROLL for (unsigned p = 0; p < P; ++p)
        REGRAIN_UNROLL for (unsigned i = 0; i < kV; ++i) {
          weights[p][i] = entry<Type>(values[p], i, u);
          if constexpr (Type::kScaled) weights[p][i] = Isa::mul(weights[p][i], scales[p][i]);
        }
      REGRAIN_UNROLL for (unsigned n = 0; n < N; ++n) {
        const V token = Isa::broadcast(tokens + n);
        REGRAIN_UNROLL for (unsigned p = 0; p < P; ++p)
          REGRAIN_UNROLL for (unsigned i = 0; i < kV; ++i)
            sums[n][p][i] = Isa::fma(weights[p][i], token, sums[n][p][i]);
      }
    };
    std::size_t e = work.starts[segment];
    const std::size_t end = work.starts[segment + 1];
    for (; e + Type::kEntries <= end; e += Type::kEntries) {
      REGRAIN_UNROLL for (unsigned u = 0; u < Type::kEntries; ++u) step(e + u, u);
      REGRAIN_UNROLL for (unsigned p = 0; p < P; ++p) {
        if constexpr (Type::kScaled && N <= kFetching) __builtin_prefetch(values[p] + ahead);
        values[p] += Type::kBytes;
      }
    }
  }
  REGRAIN_UNROLL for (unsigned n = 0; n < N; ++n) put<Isa, P>(sums[n], y + n * y_stride, rows);
}

template <class Isa, template <class> class TypeOf, unsigned P, bool Listed, unsigned N = Listed ? Isa::kWide : Isa::kStrip>
void multiply_strip(const PanelWork& work, const float* x, unsigned tokens, float* y, std::size_t y_stride,
                    std::size_t rows) {
  if constexpr (N > 1) {
    if (tokens == N) multiply_tile<Isa, TypeOf, P, N, Listed>(work, x, y, y_stride, rows);
    else multiply_strip<Isa, TypeOf, P, Listed, N - 1>(work, x, tokens, y, y_stride, rows);
  }
}

template <class Isa, template <class> class TypeOf>
void multiply_type(const PanelWork& work, unsigned panels, const float* x, unsigned tokens, float* y,
                   std::size_t y_stride, std::size_t rows) {
  if (tokens == 1) {
    if (work.list != nullptr) multiply_one<Isa, TypeOf, 1, true>(work, x, y, rows);
    else if (panels == Isa::kSingle) multiply_one<Isa, TypeOf, Isa::kSingle, false>(work, x, y, rows);
    else multiply_one<Isa, TypeOf, 1, false>(work, x, y, rows);
  } else if (work.list != nullptr) {
    multiply_strip<Isa, TypeOf, 1, true>(work, x, tokens, y, y_stride, rows);
  } else if (panels == Isa::kTogether) {
    multiply_strip<Isa, TypeOf, Isa::kTogether, false>(work, x, tokens, y, y_stride, rows);
  } else {
    multiply_strip<Isa, TypeOf, 1, false>(work, x, tokens, y, y_stride, rows);
  }
}

template <class Isa>
void multiply_panels(PanelValue type, const PanelWork& work, unsigned panels, const float* strip, unsigned tokens,
                     float* y, std::size_t y_stride, std::size_t rows) {
  switch (type) {
    case PanelValue::f32: return multiply_type<Isa, F32>(work, panels, strip, tokens, y, y_stride, rows);
    case PanelValue::f16: return multiply_type<Isa, F16>(work, panels, strip, tokens, y, y_stride, rows);
    case PanelValue::i8: return multiply_type<Isa, I8>(work, panels, strip, tokens, y, y_stride, rows);
    case PanelValue::i4: return multiply_type<Isa, I4>(work, panels, strip, tokens, y, y_stride, rows);
  }
}

template <unsigned N>
void pack_tokens(const float* x, std::size_t stride, const std::uint16_t* list, std::size_t count, float* out) {
  std::size_t c = 0;
  if (list == nullptr)
    for (; c + 4 <= count; c += 4, out += 4 * N) {
      REGRAIN_UNROLL for (unsigned n = 0; n < N / 4 * 4; n += 4) transpose_four(x + n * stride + c, stride, out + n, N);
      REGRAIN_UNROLL for (unsigned n = N / 4 * 4; n < N; ++n)
        REGRAIN_UNROLL for (unsigned k = 0; k < 4; ++k) out[k * N + n] = x[n * stride + c + k];
    }
  for (; c < count; ++c, out += N) {
    const float* from = x + (list != nullptr ? list[c] : c);
    REGRAIN_UNROLL for (unsigned n = 0; n < N; ++n) out[n] = from[n * stride];
  }
}

template <unsigned N>
void pack_strip(const float* x, std::size_t stride, unsigned tokens, const std::uint16_t* list, std::size_t count,
                float* out) {
  if constexpr (N > 0) {
    if (tokens == N) pack_tokens<N>(x, stride, list, count, out);
    else pack_strip<N - 1>(x, stride, tokens, list, count, out);
  }
}
