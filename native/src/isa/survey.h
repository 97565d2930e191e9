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
  for (unsigned s = 0; s < named; ++s) counts[s] += Isa::count_equal(fields, steps, values[s]);
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
