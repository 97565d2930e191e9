// Convolutions on maps of eight bits. An instruction set is a struct `Isa` with
//   V, F, kVectors            vectors of 32-bit integers and of floats, and how many of them are 16 rows
//   kParts                    parts that the four inputs of a block are multiplied in
//   kStrip, kWide, kTogether  see MapKernels
//   zero(), weights<H, I>(p)              part H of vector I of a block
//   inputs<H>(p), dot(sum, weights, inputs)   part H of four numbers for every row; sum + their products with the weights
//   load(p), all(f), floats(sum), widened(numbers), mul(a, b), add(a, b)     floats; numbers are bytes
//   put(out, fs, low)                     16 rows of kVectors vectors as bytes: at least low, at most 255, to the nearest
// Included into an anonymous namespace, so that no instantiation is shared between instruction sets.

// Loops over accumulators must be unrolled whole, or the compiler keeps them in memory (GCC 12).
#define REGRAIN_UNROLL _Pragma("GCC unroll 32")

// N positions of P panels: each block's weights are loaded once for all of them.
template <class Isa, unsigned P, unsigned N>
void convolve_tile(const MapWork& work, const MapPlaces& places, std::size_t row) {
  using V = typename Isa::V;
  using F = typename Isa::F;
  constexpr unsigned kV = Isa::kVectors, kLanes = kMapRows / kV;
  V sums[N][P][kV];
  const std::int8_t* values[P];
  const std::uint8_t* from[N];
  REGRAIN_UNROLL for (unsigned p = 0; p < P; ++p) values[p] = work.values[p];
  REGRAIN_UNROLL for (unsigned n = 0; n < N; ++n) {
    from[n] = places.from[n];
    REGRAIN_UNROLL for (unsigned p = 0; p < P; ++p)
      REGRAIN_UNROLL for (unsigned i = 0; i < kV; ++i) sums[n][p][i] = Isa::zero();
  }
  for (std::size_t e = 0; e < work.blocks; ++e) {
    const std::size_t offset = work.offsets[e];
    REGRAIN_UNROLL for (unsigned h = 0; h < Isa::kParts; ++h) {
      V weights[P][kV];
      REGRAIN_UNROLL for (unsigned p = 0; p < P; ++p)
        REGRAIN_UNROLL for (unsigned i = 0; i < kV; ++i) weights[p][i] = Isa::weights(values[p], h, i);
      REGRAIN_UNROLL for (unsigned n = 0; n < N; ++n) {
        const V four = Isa::inputs(from[n] + offset, h);
        REGRAIN_UNROLL for (unsigned p = 0; p < P; ++p)
          REGRAIN_UNROLL for (unsigned i = 0; i < kV; ++i) sums[n][p][i] = Isa::dot(sums[n][p][i], weights[p][i], four);
      }
    }
    REGRAIN_UNROLL for (unsigned p = 0; p < P; ++p) values[p] += kMapRows * kMapGroup;
  }
  const F low = Isa::all(work.low), weight = Isa::all(work.weight);  // once: bytes that are written could be anything's
  const std::uint8_t* const* added = places.added;
  std::uint8_t* const* to = places.to;
  REGRAIN_UNROLL for (unsigned p = 0; p < P; ++p) {
    const std::size_t channel = row + p * kMapRows;
    F factors[kV], bias[kV];
    REGRAIN_UNROLL for (unsigned i = 0; i < kV; ++i) {
      factors[i] = Isa::load(work.factors + p * kMapRows + i * kLanes);
      bias[i] = Isa::load(work.bias + p * kMapRows + i * kLanes);
    }
    const auto put = [&](unsigned n, const std::uint8_t* numbers) __attribute__((always_inline)) {
      F found[kV];
      REGRAIN_UNROLL for (unsigned i = 0; i < kV; ++i) {
        found[i] = Isa::add(Isa::mul(Isa::floats(sums[n][p][i]), factors[i]), bias[i]);
        if (numbers != nullptr) found[i] = Isa::add(found[i], Isa::mul(Isa::widened(numbers + i * kLanes), weight));
      }
      Isa::put(to[n] + channel, found, low);
    };
    if (added != nullptr) {
      REGRAIN_UNROLL for (unsigned n = 0; n < N; ++n) put(n, added[n] + channel);
    } else {
      REGRAIN_UNROLL for (unsigned n = 0; n < N; ++n) put(n, nullptr);
    }
  }
}

template <class Isa, unsigned P, unsigned N = P == 1 ? Isa::kWide : Isa::kStrip>
void convolve_strip(const MapWork& work, const MapPlaces& places, unsigned positions, std::size_t row) {
  if constexpr (N > 0) {
    if (positions == N) convolve_tile<Isa, P, N>(work, places, row);
    else convolve_strip<Isa, P, N - 1>(work, places, positions, row);
  }
}

template <class Isa>
void convolve_maps(const MapWork& work, unsigned panels, const MapPlaces& places, unsigned positions, std::size_t row) {
  if (panels == Isa::kTogether) convolve_strip<Isa, Isa::kTogether>(work, places, positions, row);
  else convolve_strip<Isa, 1>(work, places, positions, row);
}
