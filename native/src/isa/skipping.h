// Sums of columns. An instruction set is a struct `Isa` with
//   V, kLanes                            a vector of floats, and how many it has
//   kTogether                            columns whose factors for two tokens stay in registers
//   load(p), store(p, v), broadcast(p), fma(a, b, c) = a * b + c, mul(a, b), add(a, b)
//   halves(p), bytes(p)                  a vector of halves, of int8
//   kCompresses                          whether it can also do these:
//   Mask, above(v, norm, threshold)      where not |v| * norm <= threshold
//   sub(a, b), either(m, n), bits(m), only(m, v)
//   compress(bits, v, p), compress_from(bits, c, p)   what the bits name of v, or of c, c + 1, ...
// Included into an anonymous namespace, so that no instantiation is shared between instruction sets.

template <class Isa>
struct F32 {
  static constexpr std::size_t kBytes = 4;
  static constexpr bool kAhead = false;
  static typename Isa::V load(const std::uint8_t* p) { return Isa::load(reinterpret_cast<const float*>(p)); }
};

template <class Isa>
struct F16 {
  static constexpr std::size_t kBytes = 2;
  static constexpr bool kAhead = true;
  static typename Isa::V load(const std::uint8_t* p) { return Isa::halves(p); }
};

template <class Isa>
struct I8 {
  static constexpr std::size_t kBytes = 1;
  static constexpr bool kAhead = true;
  static typename Isa::V load(const std::uint8_t* p) { return Isa::bytes(p); }
};

template <unsigned Count, class Body>
[[gnu::always_inline]] inline void each(const Body& body) {
  [&]<unsigned... I>(std::integer_sequence<unsigned, I...>) __attribute__((always_inline)) {
    (body.template operator()<I>(), ...);
  }(std::make_integer_sequence<unsigned, Count>{});
}

template <class Isa, unsigned Tokens>
void choose_columns(const Skipping& skipping, const float* x, std::size_t x_stride, SkipChoice& choice) {
  std::size_t c = 0, count = 0, kept = 0;
  if constexpr (Isa::kCompresses)
    for (; c + Isa::kLanes <= skipping.columns; c += Isa::kLanes) {
      typename Isa::V away[Tokens];
      typename Isa::Mask has[Tokens];
      each<Tokens>([&]<unsigned n>() {
        away[n] = Isa::sub(Isa::load(x + n * x_stride + c), Isa::load(skipping.mean + c));
        has[n] = Isa::above(away[n], Isa::load(skipping.norm + c), skipping.threshold);
        kept += static_cast<std::size_t>(__builtin_popcount(Isa::bits(has[n])));
      });
      const unsigned any = Isa::bits(Isa::either(has[0], has[Tokens - 1]));
      Isa::compress_from(any, static_cast<std::uint32_t>(c), choice.list + count);
      each<Tokens>([&]<unsigned n>() {
        Isa::compress(any, Isa::only(has[n], away[n]), choice.factors + n * choice.plane + count);
      });
      count += static_cast<std::size_t>(__builtin_popcount(any));
    }
  for (; c < skipping.columns; ++c) {  // no branch: nothing could predict it
    unsigned any = 0;
    for (unsigned n = 0; n < Tokens; ++n) {
      const float away = x[n * x_stride + c] - skipping.mean[c];
      const unsigned has = !(__builtin_fabsf(away) * skipping.norm[c] <= skipping.threshold);
      const float factors[] = {0.0f, away};
      choice.factors[n * choice.plane + count] = factors[has];
      kept += has;
      any |= has;
    }
    choice.list[count] = static_cast<std::uint32_t>(c);
    count += any;
  }
  choice.count = count;
  choice.kept = kept;
}

template <class Isa>
void choose_skipping(const Skipping& skipping, unsigned tokens, const float* x, std::size_t x_stride,
                     SkipChoice& choice) {
  if (tokens == 1) choose_columns<Isa, 1>(skipping, x, x_stride, choice);
  else choose_columns<Isa, 2>(skipping, x, x_stride, choice);
}

constexpr std::size_t kAheadBytes = 12 << 10;  // short columns are over before the next ones come: those after them are asked for

// `Columns` columns at a time for all rows: their factors stay in registers, sums in the first-level cache. Columns of
// small types are over before the CPU sees where they lead, so those that come next are fetched beside them.
template <class Isa, template <class> class TypeOf, unsigned Tokens, unsigned Columns>
void add_columns(std::size_t stride, const SkipChoice& choice, const std::uint8_t* values, std::size_t lines,
                 float* sums) {
  using V = typename Isa::V;
  using Type = TypeOf<Isa>;
  constexpr std::size_t kLineRows = kSkipLine / Type::kBytes;
  const std::size_t rows = lines * kLineRows;
  const std::size_t ahead = Columns * (1 + kAheadBytes / (Columns * lines * kSkipLine));
  for (std::size_t k = 0; k < choice.count; k += Columns) {
    const std::size_t following = k + ahead < choice.count ? k + ahead : k;
    const std::uint8_t *from[Columns], *next[Columns];
    V factors[Tokens][Columns];
    each<Columns>([&]<unsigned c>() {
      from[c] = values + choice.list[k + c] * stride;
      next[c] = values + choice.list[following + c] * stride;
      each<Tokens>([&]<unsigned n>() { factors[n][c] = Isa::broadcast(choice.factors + n * choice.plane + k + c); });
    });
    for (std::size_t row = 0; row < rows;) {
      if constexpr (Type::kAhead)
        each<Columns>([&]<unsigned c>() { __builtin_prefetch(next[c] + row * Type::kBytes); });
      for (const std::size_t end = row + kLineRows; row < end; row += Isa::kLanes) {
        V even[Tokens], odd[Tokens];
        each<Tokens>([&]<unsigned n>() { even[n] = Isa::load(sums + n * rows + row); });
        each<Columns>([&]<unsigned c>() {
          const V weights = Type::load(from[c] + row * Type::kBytes);
          each<Tokens>([&]<unsigned n>() {
            if constexpr (c == 1) odd[n] = Isa::mul(weights, factors[n][c]);
            else if constexpr (c % 2 == 1) odd[n] = Isa::fma(weights, factors[n][c], odd[n]);
            else even[n] = Isa::fma(weights, factors[n][c], even[n]);
          });
        });
        each<Tokens>([&]<unsigned n>() { Isa::store(sums + n * rows + row, Isa::add(even[n], odd[n])); });
      }
    }
  }
}

template <class Isa, template <class> class TypeOf>
void add_type(std::size_t stride, unsigned tokens, const SkipChoice& choice, const std::uint8_t* values,
              std::size_t lines, float* sums) {
  if (tokens == 1) add_columns<Isa, TypeOf, 1, kSkipGroup>(stride, choice, values, lines, sums);
  else add_columns<Isa, TypeOf, 2, Isa::kTogether>(stride, choice, values, lines, sums);
}

template <class Isa>
void add_skipping(const Skipping& skipping, unsigned tokens, const SkipChoice& choice, const std::uint8_t* values,
                  std::size_t lines, float* sums) {
  switch (skipping.type) {
    case SkipValue::f32: return add_type<Isa, F32>(skipping.stride, tokens, choice, values, lines, sums);
    case SkipValue::f16: return add_type<Isa, F16>(skipping.stride, tokens, choice, values, lines, sums);
    case SkipValue::i8: return add_type<Isa, I8>(skipping.stride, tokens, choice, values, lines, sums);
  }
}
