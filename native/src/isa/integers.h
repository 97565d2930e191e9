// Products of integers. An instruction set is a struct `Isa` with
//   V, F, kVectors            vectors of 32-bit integers and of floats, and how many of them are 16 rows
//   kParts, kBytes            parts that the four columns of a block are multiplied in, and bytes of four quantized inputs
//   kStrip, kWide, kTogether, kSingle     see IntegerKernels
//   zero(), weights<H, I>(p)              part H of vector I of a block
//   token<H>(p), dot(sum, weights, token) part H of a token's four inputs for every row; sum + their products with the weights
//   row(sums, scales, bias)               what of these belongs to a vector
//   finish(sum, token, row), store(p, v)  floats, see regrain/integers.h
//   range(x, inputs)                      the least and the greatest, or 0, and whether no number is NaN
//   quantize_four(x, scalers, out, room)  kColumns inputs of four tokens; their groups are room * kBytes apart
//   quantize_one(x, scaler, out)          kColumns inputs of one token, groups without gaps
// Included into an anonymous namespace, so that no instantiation is shared between instruction sets.

template <unsigned Count, class Body>
[[gnu::always_inline]] inline void each(const Body& body) {
  [&]<unsigned... I>(std::integer_sequence<unsigned, I...>) __attribute__((always_inline)) {
    (body.template operator()<I>(), ...);
  }(std::make_integer_sequence<unsigned, Count>{});
}

[[maybe_unused]] void choose(const float* x, const Chosen& chosen, float* out) {
  for (std::size_t i = 0; i < chosen.count; ++i) out[i] = x[chosen.list[i]];
}

struct Range {
  float low, high;
  bool numbers;
};

struct Scaler {
  float inverse;
  std::int32_t zero;
};

[[gnu::always_inline]] inline float rounded(float x) {  // ties to even, |x| < 2^22
  return (x + 0x1.8p23f) - 0x1.8p23f;
}

inline TokenScale token_scale(const Range& range, Scaler& scaler) {
  const float scale = range.high / 255.0f - range.low / 255.0f;
  scaler = {0, 0};
  if (!range.numbers || !(scale <= __FLT_MAX__)) return {__builtin_nanf(""), 0};
  if (scale < __FLT_MIN__) return {0, 0};
  scaler.inverse = 1.0f / scale;
  scaler.zero = static_cast<std::int32_t>(rounded(-range.low * scaler.inverse));
  return {scale, scaler.zero};
}

template <class Isa, unsigned Tokens>
void quantize_tokens(const float* const (&x)[Tokens], std::size_t inputs, const Scaler (&scalers)[Tokens],
                     std::uint8_t* out, std::size_t room) {
  constexpr std::size_t kColumns = Isa::kColumns;
  const auto some = [&](const float* const (&from)[Tokens], std::uint8_t* to, std::size_t apart)
                        __attribute__((always_inline)) {
    if constexpr (Tokens == 1) Isa::quantize_one(from[0], scalers[0], to);
    else Isa::quantize_four(from, scalers, to, apart);
  };
  const float* at[Tokens];
  std::size_t column = 0;
  for (; column + kColumns <= inputs; column += kColumns) {
    each<Tokens>([&]<unsigned n>() __attribute__((always_inline)) { at[n] = x[n] + column; });
    some(at, out + column / kBlockColumns * room * Isa::kBytes, room);
  }
  if (column == inputs) return;
  float last[Tokens][kColumns] = {};
  std::uint8_t quantized[Tokens * kColumns / kBlockColumns * Isa::kBytes];
  each<Tokens>([&]<unsigned n>() __attribute__((always_inline)) {
    __builtin_memcpy(last[n], x[n] + column, (inputs - column) * sizeof(float));
    at[n] = last[n];
  });
  some(at, quantized, Tokens);
  for (std::size_t group = 0; column + group * kBlockColumns < inputs; ++group)
    __builtin_memcpy(out + (column / kBlockColumns + group) * room * Isa::kBytes, quantized + group * Tokens * Isa::kBytes,
                     Tokens * Isa::kBytes);
}

template <class Isa>
void quantize_strip(const float* x, std::size_t stride, unsigned tokens, std::size_t inputs, std::uint8_t* strip,
                    TokenScale* scales) {
  Scaler scalers[Isa::kWide];
  for (unsigned n = 0; n < tokens; ++n) scales[n] = token_scale(Isa::range(x + n * stride, inputs), scalers[n]);
  if (tokens == 1) return quantize_tokens<Isa, 1>({x}, inputs, {scalers[0]}, strip, 1);
  const std::size_t room = (tokens + kTokenGroup - 1) / kTokenGroup * kTokenGroup;
  for (unsigned first = 0; first < tokens; first += kTokenGroup) {
    const float* at[kTokenGroup];
    Scaler by[kTokenGroup];
    each<kTokenGroup>([&]<unsigned n>() __attribute__((always_inline)) {
      const unsigned token = first + n < tokens ? first + n : first;  // one again where there is none
      at[n] = x + token * stride;
      by[n] = scalers[token];
    });
    quantize_tokens<Isa, kTokenGroup>(at, inputs, by, strip + first * Isa::kBytes, room);
  }
}

// Rows of a tile go out as they are, or those that exist of the last panel.
template <class Isa, unsigned N, unsigned P>
[[gnu::always_inline]] inline void put(const typename Isa::V (&sums)[N][P][Isa::kVectors], const IntegerWork& work,
                                       const TokenScale* tokens, float* y, std::size_t y_stride, std::size_t rows) {
  constexpr std::size_t kRows = P * kBlockRows, kLanes = kBlockRows / Isa::kVectors;
  float last[N * kRows];
  float* const out = rows == kRows ? y : last;
  const std::size_t stride = rows == kRows ? y_stride : kRows;
  each<P>([&]<unsigned p>() __attribute__((always_inline)) {
    each<Isa::kVectors>([&]<unsigned i>() __attribute__((always_inline)) {
      constexpr std::size_t kRow = i * kLanes;
      const auto row = Isa::row(work.sums[p] + kRow, work.scales[p] + kRow, work.bias[p] + kRow);
      each<N>([&]<unsigned n>() __attribute__((always_inline)) {
        Isa::store(out + n * stride + p * kBlockRows + kRow, Isa::finish(sums[n][p][i], tokens[n], row));
      });
    });
  });
  if (out == last)
    for (unsigned n = 0; n < N; ++n) __builtin_memcpy(y + n * y_stride, last + n * kRows, rows * sizeof(float));
}

// One token: sums run in several accumulators for each row.
template <class Isa, unsigned P, bool Listed>
void multiply_one(const IntegerWork& work, const std::uint8_t* x, const TokenScale& token, float* y, std::size_t rows) {
  using V = typename Isa::V;
  constexpr unsigned kV = Isa::kVectors, kOver = 8 / (P * kV), kWays = kOver < 1 ? 1 : kOver;
  V parts[kWays][P][kV], sums[1][P][kV];
  const std::int8_t* values[P];
  each<P>([&]<unsigned p>() __attribute__((always_inline)) {
    values[p] = work.values[p];
    each<kWays>([&]<unsigned u>() __attribute__((always_inline)) {
      each<kV>([&]<unsigned i>() __attribute__((always_inline)) { parts[u][p][i] = Isa::zero(); });
    });
  });
  const auto step = [&]<unsigned U>(std::size_t e) __attribute__((always_inline)) {
    const std::uint8_t* group = x + (Listed ? work.list[e] : e) * Isa::kBytes;
    each<Isa::kParts>([&]<unsigned h>() __attribute__((always_inline)) {
      const V four = Isa::template token<h>(group);
      each<P>([&]<unsigned p>() __attribute__((always_inline)) {
        each<kV>([&]<unsigned i>() __attribute__((always_inline)) {
          parts[U][p][i] = Isa::dot(parts[U][p][i], Isa::template weights<h, i>(values[p] + U * 64), four);
        });
      });
    });
  };
  std::size_t e = 0;
  for (; e + kWays <= work.blocks; e += kWays) {
    each<kWays>([&]<unsigned u>() __attribute__((always_inline)) { step.template operator()<u>(e + u); });
    each<P>([&]<unsigned p>() __attribute__((always_inline)) { values[p] += kWays * 64; });
  }
  for (; e < work.blocks; ++e) {
    step.template operator()<0>(e);
    each<P>([&]<unsigned p>() __attribute__((always_inline)) { values[p] += 64; });
  }
  each<P>([&]<unsigned p>() __attribute__((always_inline)) {
    each<kV>([&]<unsigned i>() __attribute__((always_inline)) {
      sums[0][p][i] = parts[0][p][i];
      each<kWays - 1>([&]<unsigned u>() __attribute__((always_inline)) {
        sums[0][p][i] = Isa::add(sums[0][p][i], parts[u + 1][p][i]);
      });
    });
  });
  put<Isa>(sums, work, &token, y, 0, rows);
}

// N tokens of a strip: each part of a block is made once for all of them.
template <class Isa, unsigned P, unsigned N, bool Listed>
void multiply_tile(const IntegerWork& work, const std::uint8_t* x, const TokenScale* tokens, float* y,
                   std::size_t y_stride, std::size_t rows) {
  using V = typename Isa::V;
  constexpr unsigned kV = Isa::kVectors, kRoom = (N + kTokenGroup - 1) / kTokenGroup * kTokenGroup;
  V sums[N][P][kV];
  const std::int8_t* values[P];
  each<P>([&]<unsigned p>() __attribute__((always_inline)) { values[p] = work.values[p]; });
  each<N>([&]<unsigned n>() __attribute__((always_inline)) {
    each<P>([&]<unsigned p>() __attribute__((always_inline)) {
      each<kV>([&]<unsigned i>() __attribute__((always_inline)) { sums[n][p][i] = Isa::zero(); });
    });
  });
  const std::size_t ahead = P * work.blocks * 64;  // the same place of the next panels; beyond the last there is nothing
  const auto step = [&](std::size_t e) __attribute__((always_inline)) {
    const std::uint8_t* group = x + (Listed ? work.list[e] : e) * (kRoom * Isa::kBytes);
    each<Isa::kParts>([&]<unsigned h>() __attribute__((always_inline)) {
      V weights[P][kV];
      each<P>([&]<unsigned p>() __attribute__((always_inline)) {
        each<kV>([&]<unsigned i>() __attribute__((always_inline)) { weights[p][i] = Isa::template weights<h, i>(values[p]); });
      });
      each<N>([&]<unsigned n>() __attribute__((always_inline)) {
        const V four = Isa::template token<h>(group + n * Isa::kBytes);
        each<P>([&]<unsigned p>() __attribute__((always_inline)) {
          each<kV>([&]<unsigned i>() __attribute__((always_inline)) { sums[n][p][i] = Isa::dot(sums[n][p][i], weights[p][i], four); });
        });
      });
    });
    each<P>([&]<unsigned p>() __attribute__((always_inline)) {
      __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<std::uintptr_t>(values[p]) + ahead));
      values[p] += 64;
    });
  };
  for (std::size_t e = 0; e < work.blocks; ++e) step(e);
  put<Isa>(sums, work, tokens, y, y_stride, rows);
}

template <class Isa, unsigned P, bool Listed, unsigned N = Listed ? Isa::kWide : Isa::kStrip>
void multiply_strip(const IntegerWork& work, const std::uint8_t* x, const TokenScale* scales, unsigned tokens, float* y,
                    std::size_t y_stride, std::size_t rows) {
  if constexpr (N > 1) {
    if (tokens == N) multiply_tile<Isa, P, N, Listed>(work, x, scales, y, y_stride, rows);
    else multiply_strip<Isa, P, Listed, N - 1>(work, x, scales, tokens, y, y_stride, rows);
  }
}

template <class Isa>
void multiply_integers(const IntegerWork& work, unsigned panels, const std::uint8_t* strip, const TokenScale* scales,
                       unsigned tokens, float* y, std::size_t y_stride, std::size_t rows) {
  if (tokens == 1) {
    if (work.list != nullptr) multiply_one<Isa, 1, true>(work, strip, *scales, y, rows);
    else if (panels == Isa::kSingle) multiply_one<Isa, Isa::kSingle, false>(work, strip, *scales, y, rows);
    else multiply_one<Isa, 1, false>(work, strip, *scales, y, rows);
  } else if (work.list != nullptr) {
    multiply_strip<Isa, 1, true>(work, strip, scales, tokens, y, y_stride, rows);
  } else if (panels == Isa::kTogether) {
    multiply_strip<Isa, Isa::kTogether, false>(work, strip, scales, tokens, y, y_stride, rows);
  } else {
    multiply_strip<Isa, 1, false>(work, strip, scales, tokens, y, y_stride, rows);
  }
}
