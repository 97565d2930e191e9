// What the encoder asks of fields and rows, in the compiler's generic vectors of `Isa::kVectorBytes`.
// Included into an anonymous namespace.

template <class Isa>
struct ByteLanes {
  typedef std::uint8_t Vector __attribute__((vector_size(Isa::kVectorBytes)));
  static constexpr std::size_t kCount = Isa::kVectorBytes;
  static Vector load(const std::uint8_t* from) {
    Vector v;
    __builtin_memcpy(&v, from, sizeof v);
    return v;
  }
  static Vector all(std::uint8_t value) { return Vector{} + value; }
};

// Adds to counts[s] how many of 64 * steps fields equal values[s], s < named.
template <class Isa>
void count_fields(const std::uint8_t* fields, std::size_t steps, const std::uint8_t* values, unsigned named,
                  std::uint32_t* counts) {
  typedef ByteLanes<Isa> B;
  const std::size_t vectors = kStep * steps / B::kCount;
  for (std::size_t first = 0; first < vectors; first += 255) {  // a lane counts to 255
    const std::size_t last = first + 255 < vectors ? first + 255 : vectors;
    for (unsigned s = 0; s < named; s += 4) {  // four at a time stay in registers
      typename B::Vector value[4], sum[4] = {};
      for (unsigned k = 0; k < 4; ++k) value[k] = B::all(values[s + k]);
      for (std::size_t v = first; v < last; ++v) {
        const typename B::Vector field = B::load(fields + B::kCount * v);
        for (unsigned k = 0; k < 4; ++k) sum[k] -= (typename B::Vector)(field == value[k]);
      }
      for (unsigned k = 0; k < 4 && s + k < named; ++k) {
        std::uint32_t total = 0;
        for (std::size_t lane = 0; lane < B::kCount; ++lane) total += sum[k][lane];
        counts[s + k] += total;
      }
    }
  }
}

template <class Isa>
void rank_fields(const std::uint8_t* fields, std::size_t steps, const std::uint8_t* values, unsigned named,
                 const EncoderTable* const* tables, std::uint8_t* symbols) {
  typedef ByteLanes<Isa> B;
  typedef typename B::Vector Vector;
  for (std::size_t step = 0; step < steps; ++step) {
    alignas(64) std::uint8_t ranks[kStep];
    for (std::size_t at = 0; at < kStep; at += B::kCount) {
      const Vector field = B::load(fields + kStep * step + at);
      Vector rank = B::all(15);
      for (unsigned s = 0; s < named; ++s)  // a field equals one value at most
        rank -= (Vector)(field == B::all(values[s])) & B::all(static_cast<std::uint8_t>(15 - s));
      __builtin_memcpy(ranks + at, &rank, sizeof rank);
    }
    Isa::lookup(tables[step]->kept, ranks, symbols + kStep * step);
  }
}

// For each row the class whose costs it pays least: rows of kSymbols counts, costs[16 s + c] of symbol s in class c; sums below 2^32.
template <class Isa>
void assign_rows(const std::uint32_t* rows, std::size_t count, const std::uint32_t* costs, std::uint8_t* class_of) {
  typedef std::uint32_t Vector __attribute__((vector_size(Isa::kVectorBytes)));
  constexpr std::size_t kLanes = Isa::kVectorBytes / 4, kVectors = kSymbols / kLanes;
  for (std::size_t row = 0; row < count; ++row) {
    Vector sum[kVectors] = {};
    for (std::size_t s = 0; s < kSymbols; ++s)
      for (std::size_t v = 0; v < kVectors; ++v) {
        Vector cost;
        __builtin_memcpy(&cost, costs + kSymbols * s + kLanes * v, sizeof cost);
        sum[v] += cost * rows[kSymbols * row + s];
      }
    alignas(64) std::uint32_t total[kSymbols];
    __builtin_memcpy(total, sum, sizeof total);
    class_of[row] = static_cast<std::uint8_t>(Isa::smallest(total));
  }
}
