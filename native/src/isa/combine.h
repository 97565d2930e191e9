// Words from field values and raw planes, and back, in the compiler's generic vectors of `Isa::kVectorBytes`.
// `Isa::lookup`, `Isa::widen` and `Isa::spread4/2/1` are the only parts written by hand for an instruction set.
// Included into an anonymous namespace, so that no instantiation is shared between instruction sets.

template <int Bytes>
struct WordOf;
template <>
struct WordOf<1> { typedef std::uint8_t type; };
template <>
struct WordOf<2> { typedef std::uint16_t type; };
template <>
struct WordOf<4> { typedef std::uint32_t type; };
template <>
struct WordOf<8> { typedef std::uint64_t type; };

// A word at any address.
template <int Bytes>
using Unaligned __attribute__((may_alias, aligned(1))) = typename WordOf<Bytes>::type;

// The bits of R above its whole bytes, one byte a word: 4-, 2- and 1-bit planes, in that order from the low end.
template <class Isa>
inline void unpack_partial(const RawPlanes& planes, std::size_t step, std::uint8_t* part) {
  typedef std::uint8_t Bytes __attribute__((vector_size(Isa::kVectorBytes), may_alias));
  Bytes* const sum = reinterpret_cast<Bytes*>(part);
  constexpr int kVectors = kStep / Isa::kVectorBytes;
  alignas(64) std::uint8_t more[kStep];
  const Bytes* const added = reinterpret_cast<const Bytes*>(more);
  int shift = 0;
  if (planes.four != nullptr) {
    Isa::spread4(planes.four + 32 * step, part);
    shift = 4;
  } else {
    for (int v = 0; v < kVectors; ++v) sum[v] = Bytes{};
  }
  if (planes.two != nullptr) {
    Isa::spread2(planes.two + 16 * step, more);
    for (int v = 0; v < kVectors; ++v) sum[v] |= added[v] << shift;
    shift += 2;
  }
  if (planes.one != nullptr) {
    Isa::spread1(planes.one + 8 * step, more);
    for (int v = 0; v < kVectors; ++v) sum[v] |= added[v] << shift;
  }
}

template <class Isa>
inline void pack_partial(const std::uint8_t* part, std::size_t step, const RawSinks& sinks) {
  int shift = 0;
  if (sinks.four != nullptr) {
    std::uint8_t* four = sinks.four + 32 * step;
    for (int j = 0; j < 32; ++j) four[j] = static_cast<std::uint8_t>((part[j] & 15) | part[j + 32] << 4);
    shift = 4;
  }
  if (sinks.two != nullptr) {
    typedef std::uint8_t Quarter __attribute__((vector_size(16)));
    Quarter packed = {};
    for (int q = 0; q < 4; ++q) {
      Quarter of;
      __builtin_memcpy(&of, part + 16 * q, sizeof of);
      packed |= (of >> shift & 3) << (2 * q);
    }
    __builtin_memcpy(sinks.two + 16 * step, &packed, sizeof packed);
    shift += 2;
  }
  if (sinks.one != nullptr) Isa::gather1(part, shift, sinks.one + 8 * step);
}

// Lanes of one word each, in vectors of the instruction set's width.
template <class Isa, int Bytes>
struct Lanes {
  static constexpr int kCount = Isa::kVectorBytes / Bytes;
  typedef typename WordOf<Bytes>::type Wide __attribute__((vector_size(Isa::kVectorBytes)));
  // kCount bytes, one to a lane
  static Wide load(const std::uint8_t* from) {
    if constexpr (Bytes == 1) {
      Wide words;
      __builtin_memcpy(&words, from, sizeof words);
      return words;
    } else {
      return (Wide)Isa::template widen<Bytes>(from);
    }
  }
  static void store(std::uint8_t* to, Wide words) { __builtin_memcpy(to, &words, sizeof words); }
};

// `Width` is the raw width where it is known when compiling, else -1.
template <class Isa, int Bytes, bool Float, int Planes, bool Part, int Width>
void combine_steps(const WordLayout& layout, const std::uint8_t* symbols, const RawPlanes& planes, std::size_t steps,
                   std::uint8_t* out) {
  typedef Lanes<Isa, Bytes> L;
  typedef typename L::Wide Wide;
  typedef typename WordOf<Bytes>::type Word;
  constexpr unsigned kBits = 8 * Bytes;
  const unsigned w = Width >= 0 ? Width : layout.raw_bits;
  const unsigned shift = Width == 8 ? 7 : Width == 11 ? 10 : Width == 24 ? 23 : layout.shift;
  const unsigned sign_up = w == 0 ? 0 : kBits - w;       // moves the sign, the top bit of R, to the top of the word
  const unsigned zeros = Float ? shift + 1u - w : 0;     // low mantissa bits that are always zero
  const Word sign_bit = static_cast<Word>(std::uint64_t{1} << (kBits - 1));
  const Word mantissa = static_cast<Word>((std::uint64_t{1} << (w == 0 ? 0 : w - 1)) - 1);
  const Word base = static_cast<Word>(layout.base);
  for (std::size_t s = 0; s < steps; ++s) {
    alignas(64) std::uint8_t field[kStep], part[kStep];
    Isa::lookup(layout.values, symbols + kStep * s, field);
    if constexpr (Part) unpack_partial<Isa>(planes, s, part);
    for (unsigned i = 0; i < kStep; i += L::kCount) {
      Wide r = {};
      if constexpr (Planes > 0) r = L::load(planes.bytes[0] + kStep * s + i);
      if constexpr (Planes > 1) r |= L::load(planes.bytes[1] + kStep * s + i) << 8;
      if constexpr (Planes > 2) r |= L::load(planes.bytes[2] + kStep * s + i) << 16;
      if constexpr (Part) r |= L::load(part + i) << (8 * Planes);
      const Wide v = L::load(field + i) << shift;
      if constexpr (Float)
        L::store(out + Bytes * (kStep * s + i), ((r << sign_up) & sign_bit) | v | (r & mantissa) << zeros);
      else
        L::store(out + Bytes * (kStep * s + i), (v | r) + base);
    }
  }
}

template <class Isa, int Bytes, bool Float, int Planes, bool Part>
void split_steps(const WordLayout& layout, const std::uint8_t* words, std::size_t steps, std::uint8_t* fields,
                 const RawSinks& sinks) {
  typedef typename WordOf<(Bytes > 4 ? 8 : 4)>::type Wide;
  const unsigned w = layout.raw_bits, shift = layout.shift;
  const unsigned sign_at = w == 0 ? 0 : w - 1;
  const unsigned zeros = layout.shift + 1u - w;
  const Wide man_mask = static_cast<Wide>((std::uint64_t{1} << shift) - 1);
  const Wide field_mask = Float ? static_cast<Wide>((std::uint64_t{1} << (8 * Bytes - 1 - shift)) - 1) : 255;
  const Wide word_mask = static_cast<Wide>(Bytes == 8 ? ~std::uint64_t{0} : (std::uint64_t{1} << (8 * (Bytes & 7))) - 1);
  const Wide base = static_cast<Wide>(layout.base);
  for (std::size_t s = 0; s < steps; ++s) {
    alignas(64) std::uint8_t part[kStep], unused[kStep];
    std::uint8_t* b0 = Planes > 0 ? sinks.bytes[0] + kStep * s : unused;
    std::uint8_t* b1 = Planes > 1 ? sinks.bytes[1] + kStep * s : unused;
    std::uint8_t* b2 = Planes > 2 ? sinks.bytes[2] + kStep * s : unused;
    std::uint8_t* field = fields + kStep * s;
    const Unaligned<Bytes>* from = reinterpret_cast<const Unaligned<Bytes>*>(words) + kStep * s;
    for (unsigned i = 0; i < kStep; ++i) {
      Wide word = from[i], r;
      if constexpr (Float) {
        field[i] = static_cast<std::uint8_t>(word >> shift & field_mask);
        r = w == 0 ? 0 : (word >> (8 * Bytes - 1)) << sign_at | (word & man_mask) >> zeros;
      } else {
        word = (word - base) & word_mask;
        field[i] = static_cast<std::uint8_t>(word >> shift);
        r = word & man_mask;
      }
      if constexpr (Planes > 0) b0[i] = static_cast<std::uint8_t>(r);
      if constexpr (Planes > 1) b1[i] = static_cast<std::uint8_t>(r >> 8);
      if constexpr (Planes > 2) b2[i] = static_cast<std::uint8_t>(r >> 16);
      if constexpr (Part) part[i] = static_cast<std::uint8_t>(r >> (8 * Planes));
    }
    if constexpr (Part) pack_partial<Isa>(part, s, sinks);
  }
}

// Calls `Op::run<Bytes, Float, Planes, Part>` for a layout. Widths that a word can't hold are never instantiated.
template <class Op, int Bytes, bool Float>
inline void for_planes(const WordLayout& layout, const typename Op::Args& args) {
  const unsigned planes = layout.raw_bits / 8;
  const bool part = layout.raw_bits % 8 != 0;
  if (planes == 0) return part ? Op::template run<Bytes, Float, 0, true>(layout, args)
                               : Op::template run<Bytes, Float, 0, false>(layout, args);
  if constexpr (Bytes == 1) {
    return Op::template run<Bytes, Float, 1, false>(layout, args);
  } else {
    if (planes == 1) return part ? Op::template run<Bytes, Float, 1, true>(layout, args)
                                 : Op::template run<Bytes, Float, 1, false>(layout, args);
    if constexpr (!(Float && Bytes == 2)) {
      if (planes == 2) return part ? Op::template run<Bytes, Float, 2, true>(layout, args)
                                   : Op::template run<Bytes, Float, 2, false>(layout, args);
      if constexpr (Bytes > 2) return Op::template run<Bytes, Float, 3, false>(layout, args);
    }
  }
}

template <class Op>
inline void for_layout(const WordLayout& layout, const typename Op::Args& args) {
  if (layout.family == Family::floating) {
    if (layout.word_bytes == 1) return for_planes<Op, 1, true>(layout, args);
    if (layout.word_bytes == 2) return for_planes<Op, 2, true>(layout, args);
    return for_planes<Op, 4, true>(layout, args);
  }
  if (layout.word_bytes == 1) return for_planes<Op, 1, false>(layout, args);
  if (layout.word_bytes == 2) return for_planes<Op, 2, false>(layout, args);
  if (layout.word_bytes == 4) return for_planes<Op, 4, false>(layout, args);
  return for_planes<Op, 8, false>(layout, args);
}

template <class Isa>
struct CombineOp {
  struct Args {
    const std::uint8_t* symbols;
    const RawPlanes& planes;
    std::size_t steps;
    std::uint8_t* out;
  };
  template <int Bytes, bool Float, int Planes, bool Part>
  static void run(const WordLayout& layout, const Args& a) {
    // the widths of bf16, fp16 and fp32 without constant bits
    constexpr int kUsual = Bytes == 2 ? (Part ? 11 : 8) : 24;
    if constexpr (Float && (Bytes == 2 ? Planes == 1 : Planes == 3))
      if (layout.raw_bits == kUsual && layout.shift == kUsual - 1)
        return combine_steps<Isa, Bytes, Float, Planes, Part, kUsual>(layout, a.symbols, a.planes, a.steps, a.out);
    combine_steps<Isa, Bytes, Float, Planes, Part, -1>(layout, a.symbols, a.planes, a.steps, a.out);
  }
};

template <class Isa>
struct SplitOp {
  struct Args {
    const std::uint8_t* words;
    std::size_t steps;
    std::uint8_t* fields;
    const RawSinks& sinks;
  };
  template <int Bytes, bool Float, int Planes, bool Part>
  static void run(const WordLayout& layout, const Args& a) {
    split_steps<Isa, Bytes, Float, Planes, Part>(layout, a.words, a.steps, a.fields, a.sinks);
  }
};

template <class Isa>
void combine(const WordLayout& layout, const std::uint8_t* symbols, const RawPlanes& planes, std::size_t steps,
             std::uint8_t* out) {
  for_layout<CombineOp<Isa>>(layout, {symbols, planes, steps, out});
}

template <class Isa>
void split(const WordLayout& layout, const std::uint8_t* words, std::size_t steps, std::uint8_t* fields,
           const RawSinks& sinks) {
  for_layout<SplitOp<Isa>>(layout, {words, steps, fields, sinks});
}

template <class Isa>
std::size_t find_symbol(const std::uint8_t* symbols, std::size_t count, std::uint8_t symbol, std::uint16_t* places) {
  std::size_t found = 0;
  for (std::size_t at = 0; at < count; at += kStep) {
    std::uint64_t mask = Isa::equal_mask(symbols + at, symbol);
    if (count - at < kStep) mask &= (std::uint64_t{1} << (count - at)) - 1;
    for (; mask != 0; mask &= mask - 1)
      places[found++] = static_cast<std::uint16_t>(at + static_cast<std::size_t>(__builtin_ctzll(mask)));
  }
  return found;
}
