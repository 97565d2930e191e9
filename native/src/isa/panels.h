// Products in panels. An instruction set is a struct `Isa` with
//   V, kVectors                    a vector of floats, and how many of them are 16 rows
//   kStrip, kWide, kTogether, kSingle     see PanelKernels
//   zero(), load(p), store(p, v), broadcast(p), fma(a, b, c) = a * b + c, mul(a, b), add(a, b)
//   halves(p), bytes(p), low(p), high(p)   vector number I of 16 halves, int8, low and high nibbles less 8
// Included into an anonymous namespace, after transpose.h, so that no instantiation is shared between instruction sets.

template <class Isa>
struct F32 {
  static constexpr bool kScaled = false;
  static constexpr std::size_t kEntries = 1, kBytes = 64;  // entries that share bytes, and those
  template <unsigned I, unsigned E>
  static typename Isa::V load(const std::uint8_t* p) {
    return Isa::load(reinterpret_cast<const float*>(p) + I * (kPanelRows / Isa::kVectors));
  }
};

template <class Isa>
struct F16 {
  static constexpr bool kScaled = false;
  static constexpr std::size_t kEntries = 1, kBytes = 32;
  template <unsigned I, unsigned E>
  static typename Isa::V load(const std::uint8_t* p) {
    return Isa::template halves<I>(p);
  }
};

template <class Isa>
struct I8 {
  static constexpr bool kScaled = true;
  static constexpr std::size_t kEntries = 1, kBytes = 16;
  template <unsigned I, unsigned E>
  static typename Isa::V load(const std::uint8_t* p) {
    return Isa::template bytes<I>(p);
  }
};

template <class Isa>
struct I4 {
  static constexpr bool kScaled = true;
  static constexpr std::size_t kEntries = 2, kBytes = 16;
  template <unsigned I, unsigned E>
  static typename Isa::V load(const std::uint8_t* p) {
    if constexpr (E == 0) return Isa::template low<I>(p);
    else return Isa::template high<I>(p);
  }
};

// Vector I of entry E of those that start at p: E may be beyond the entries that share bytes.
template <class Type, unsigned I, unsigned E>
auto entry(const std::uint8_t* p) {
  return Type::template load<I, E % Type::kEntries>(p + E / Type::kEntries * Type::kBytes);
}

template <unsigned Count, class Body>
[[gnu::always_inline]] inline void each(const Body& body) {
  [&]<unsigned... I>(std::integer_sequence<unsigned, I...>) __attribute__((always_inline)) {
    (body.template operator()<I>(), ...);
  }(std::make_integer_sequence<unsigned, Count>{});
}

// Rows of a tile go out as they are, or those that exist of the last panel.
template <class Isa, unsigned P>
[[gnu::always_inline]] inline void put(const typename Isa::V (&sums)[P][Isa::kVectors], float* y, std::size_t rows) {
  constexpr std::size_t kLanes = kPanelRows / Isa::kVectors;
  if (rows == P * kPanelRows) {
    each<P>([&]<unsigned p>() {
      each<Isa::kVectors>([&]<unsigned i>() { Isa::store(y + p * kPanelRows + i * kLanes, sums[p][i]); });
    });
  } else {
    alignas(64) float whole[P * kPanelRows];
    each<P>([&]<unsigned p>() {
      each<Isa::kVectors>([&]<unsigned i>() { Isa::store(whole + p * kPanelRows + i * kLanes, sums[p][i]); });
    });
    __builtin_memcpy(y, whole, rows * sizeof(float));
  }
}

// One token: sums of a segment run in several accumulators for each row, and are scaled once.
template <class Isa, template <class> class TypeOf, unsigned P, bool Listed>
void multiply_one(const PanelWork& work, const float* x, float* y, std::size_t rows) {
  using V = typename Isa::V;
  using Type = TypeOf<Isa>;
  constexpr unsigned kV = Isa::kVectors, kOver = 8 / (P * kV), kWays = kOver < 2 ? 2 : kOver;
  constexpr std::size_t kLanes = kPanelRows / kV;
  V sums[P][kV];
  const std::uint8_t* values[P];
  each<P>([&]<unsigned p>() {
    values[p] = work.values[p];
    each<kV>([&]<unsigned i>() { sums[p][i] = Isa::load(work.bias[p] + i * kLanes); });
  });
  for (std::size_t segment = 0; segment < work.segments; ++segment) {
    V parts[kWays][P][kV];
    each<kWays>([&]<unsigned u>() {
      each<P>([&]<unsigned p>() { each<kV>([&]<unsigned i>() { parts[u][p][i] = Isa::zero(); }); });
    });
    std::size_t e = work.starts[segment];
    const std::size_t end = work.starts[segment + 1];
    for (; e + kWays <= end; e += kWays) {
      each<kWays>([&]<unsigned u>() {
        const V token = Isa::broadcast(x + (Listed ? work.list[e + u] : e + u));
        each<P>([&]<unsigned p>() {
          each<kV>([&]<unsigned i>() {
            parts[u][p][i] = Isa::fma(entry<Type, i, u>(values[p]), token, parts[u][p][i]);
          });
        });
      });
      each<P>([&]<unsigned p>() { values[p] += kWays / Type::kEntries * Type::kBytes; });
    }
    for (; e < end; e += Type::kEntries) {
      each<Type::kEntries>([&]<unsigned u>() {
        const V token = Isa::broadcast(x + (Listed ? work.list[e + u] : e + u));
        each<P>([&]<unsigned p>() {
          each<kV>([&]<unsigned i>() {
            parts[u][p][i] = Isa::fma(entry<Type, i, u>(values[p]), token, parts[u][p][i]);
          });
        });
      });
      each<P>([&]<unsigned p>() { values[p] += Type::kBytes; });
    }
    each<P>([&]<unsigned p>() {
      each<kV>([&]<unsigned i>() {
        V part = parts[0][p][i];
        each<kWays - 1>([&]<unsigned u>() { part = Isa::add(part, parts[u + 1][p][i]); });
        if constexpr (Type::kScaled)
          sums[p][i] = Isa::fma(part, Isa::load(work.scales[p] + segment * kPanelRows + i * kLanes), sums[p][i]);
        else
          sums[p][i] = Isa::add(sums[p][i], part);
      });
    });
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
  V sums[N][P][kV];
  const std::uint8_t* values[P];
  each<P>([&]<unsigned p>() {
    values[p] = work.values[p];
    each<kV>([&]<unsigned i>() {
      const V bias = Isa::load(work.bias[p] + i * kLanes);
      each<N>([&]<unsigned n>() { sums[n][p][i] = bias; });
    });
  });
  for (std::size_t segment = 0; segment < work.segments; ++segment) {
    V scales[P][kV];
    if constexpr (Type::kScaled)
      each<P>([&]<unsigned p>() {
        each<kV>([&]<unsigned i>() { scales[p][i] = Isa::load(work.scales[p] + segment * kPanelRows + i * kLanes); });
      });
    const auto step = [&]<unsigned E>(std::size_t e) __attribute__((always_inline)) {
      const float* tokens = x + (Listed ? work.list[e] : e) * N;
      V weights[P][kV];
      each<P>([&]<unsigned p>() {
        each<kV>([&]<unsigned i>() {
          weights[p][i] = entry<Type, i, E>(values[p]);
          if constexpr (Type::kScaled) weights[p][i] = Isa::mul(weights[p][i], scales[p][i]);
        });
      });
      each<N>([&]<unsigned n>() {
        const V token = Isa::broadcast(tokens + n);
        each<P>([&]<unsigned p>() {
          each<kV>([&]<unsigned i>() { sums[n][p][i] = Isa::fma(weights[p][i], token, sums[n][p][i]); });
        });
      });
    };
    std::size_t e = work.starts[segment];
    const std::size_t end = work.starts[segment + 1];
    for (; e + 2 <= end; e += 2) {
      step.template operator()<0>(e);
      step.template operator()<1>(e + 1);
      each<P>([&]<unsigned p>() { values[p] += 2 / Type::kEntries * Type::kBytes; });
    }
    if constexpr (Type::kEntries == 1)
      if (e < end) {
        step.template operator()<0>(e);
        each<P>([&]<unsigned p>() { values[p] += Type::kBytes; });
      }
  }
  each<N>([&]<unsigned n>() { put<Isa, P>(sums[n], y + n * y_stride, rows); });
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
      each<N / 4>([&]<unsigned n>() { transpose_four(x + 4 * n * stride + c, stride, out + 4 * n, N); });
      each<N % 4>([&]<unsigned r>() {
        constexpr unsigned n = N / 4 * 4 + r;
        each<4>([&]<unsigned k>() { out[k * N + n] = x[n * stride + c + k]; });
      });
    }
  for (; c < count; ++c, out += N) {
    const float* from = x + (list != nullptr ? list[c] : c);
    each<N>([&]<unsigned n>() { out[n] = from[n * stride]; });
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
