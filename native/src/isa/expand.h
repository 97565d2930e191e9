// Kept values and zeros from a mask: `Isa::expand_some<Bytes>` does Isa::kExpand words at once and reads as many values,
// kept or not. What is left over goes one by one.
// Included into an anonymous namespace, so that no instantiation is shared between instruction sets.

template <class Isa, std::size_t Bytes>
const std::uint8_t* expand_words(const std::uint8_t* mask, std::uint64_t count, const std::uint8_t* values,
                                 const std::uint8_t* end, std::uint8_t* out) {
  constexpr std::size_t kSize = Isa::kExpand * Bytes;
  for (; count >= Isa::kExpand && static_cast<std::size_t>(end - values) >= kSize;
       count -= Isa::kExpand, mask += Isa::kExpand, out += kSize)
    values += Bytes * Isa::template expand_some<Bytes>(mask, values, out);
  for (; count != 0; --count, ++mask, out += Bytes) {
    if (*mask != 0) {
      __builtin_memcpy(out, values, Bytes);
      values += Bytes;
    } else {
      __builtin_memset(out, 0, Bytes);
    }
  }
  return values;
}

template <class Isa>
const std::uint8_t* expand(std::size_t word_bytes, const std::uint8_t* mask, std::uint64_t count,
                           const std::uint8_t* values, const std::uint8_t* end, std::uint8_t* out) {
  if (word_bytes == 1) return expand_words<Isa, 1>(mask, count, values, end, out);
  if (word_bytes == 2) return expand_words<Isa, 2>(mask, count, values, end, out);
  return expand_words<Isa, 4>(mask, count, values, end, out);
}
