// Weights from indices: an integer to float32, times a scale, to the weight's type.
// `Isa::weights16` does 16 at once; what is left over goes one by one.
// Included into an anonymous namespace, so that no instantiation is shared between instruction sets.

inline std::uint16_t to_bf16(float weight) {
  std::uint32_t bits;
  __builtin_memcpy(&bits, &weight, 4);
  return static_cast<std::uint16_t>((bits + 0x7FFFu + (bits >> 16 & 1)) >> 16);
}

// Never NaN: an index times a finite scale is finite or infinite.
inline std::uint16_t to_f16(float weight) {
  std::uint32_t bits;
  __builtin_memcpy(&bits, &weight, 4);
  const std::uint32_t magnitude = bits & 0x7FFFFFFFu;
  // below 2^-14 adding 1/2 makes the unit in the last place 2^-24, which is that of a subnormal, and rounds to it
  float shifted;
  __builtin_memcpy(&shifted, &magnitude, 4);
  shifted += 0.5f;
  std::uint32_t small;
  __builtin_memcpy(&small, &shifted, 4);
  small -= 0x3F000000u;
  const std::uint32_t normal = (magnitude - (112u << 23) + 0xFFFu + (magnitude >> 13 & 1)) >> 13;
  std::uint32_t half = magnitude < 0x38800000u ? small : normal;
  half = magnitude >= 0x477FF000u ? 0x7C00u : half;
  return static_cast<std::uint16_t>(half | (bits >> 16 & 0x8000u));
}

template <class T>
inline T load_as(const std::uint8_t* from) {
  T value;
  __builtin_memcpy(&value, from, sizeof value);
  return value;
}

template <Weight Type, int IndexBytes>
inline void weights_one_by_one(const std::uint8_t* indices, float scale, std::size_t count, std::uint8_t* out) {
  for (std::size_t i = 0; i < count; ++i) {
    const float index = IndexBytes == 1 ? static_cast<float>(static_cast<std::int8_t>(indices[i]))
                                        : static_cast<float>(load_as<std::int16_t>(indices + 2 * i));
    const float weight = index * scale;
    if constexpr (Type == Weight::f32) {
      __builtin_memcpy(out + 4 * i, &weight, 4);
    } else {
      const std::uint16_t half = Type == Weight::bf16 ? to_bf16(weight) : to_f16(weight);
      __builtin_memcpy(out + 2 * i, &half, 2);
    }
  }
}

// Whole runs of 16 * Vectors elements, as many as `count` holds; moves everything behind them.
template <class Isa, Weight Type, int IndexBytes, unsigned Vectors>
inline void short_runs(const std::uint8_t*& indices, const float*& scales, std::uint64_t& count, std::uint8_t*& out) {
  constexpr std::size_t kSize = Type == Weight::f32 ? 4 : 2;
  for (; count >= 16 * Vectors; count -= 16 * Vectors, ++scales)
#pragma GCC unroll 2
    for (unsigned v = 0; v < Vectors; ++v, indices += 16 * IndexBytes, out += 16 * kSize)
      Isa::template weights16<Type, IndexBytes>(indices, *scales, out);
}

template <class Isa, Weight Type, int IndexBytes>
void dequantize_runs(const std::uint8_t* indices, const float* scales, std::uint64_t run, std::uint64_t skip,
                     std::uint64_t count, std::uint8_t* out) {
  constexpr std::size_t kSize = Type == Weight::f32 ? 4 : 2;
  while (count != 0) {
    if (skip == 0 && run == 16) short_runs<Isa, Type, IndexBytes, 1>(indices, scales, count, out);
    if (skip == 0 && run == 32) short_runs<Isa, Type, IndexBytes, 2>(indices, scales, count, out);
    if (count == 0) return;
    std::uint64_t here = run - skip < count ? run - skip : count;
    count -= here;
    skip = 0;
    const float scale = *scales++;
    for (; here >= 16; here -= 16, indices += 16 * IndexBytes, out += 16 * kSize)
      Isa::template weights16<Type, IndexBytes>(indices, scale, out);
    weights_one_by_one<Type, IndexBytes>(indices, scale, here, out);
    indices += here * IndexBytes;
    out += here * kSize;
  }
}

template <class Isa>
void dequantize(Weight type, const std::uint8_t* indices, std::size_t index_bytes, const float* scales,
                std::uint64_t run, std::uint64_t skip, std::uint64_t count, std::uint8_t* out) {
  const auto go = [&](auto* runs) { runs(indices, scales, run, skip, count, out); };
  switch (type) {
    case Weight::bf16:
      return go(index_bytes == 1 ? &dequantize_runs<Isa, Weight::bf16, 1> : &dequantize_runs<Isa, Weight::bf16, 2>);
    case Weight::f16:
      return go(index_bytes == 1 ? &dequantize_runs<Isa, Weight::f16, 1> : &dequantize_runs<Isa, Weight::f16, 2>);
    case Weight::f32:
      return go(index_bytes == 1 ? &dequantize_runs<Isa, Weight::f32, 1> : &dequantize_runs<Isa, Weight::f32, 2>);
  }
}
