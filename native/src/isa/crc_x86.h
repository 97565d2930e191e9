// CRC-32C by folding (Gopal et al., "Fast CRC Computation Using PCLMULQDQ", Intel 2009): several vectors of 16-byte lanes
// run down the data; each lane is carried over a distance of D bytes by two carry-less multiplications,
//   lane * x^(8 D)  =  first half * x^(8 D + 64)  +  second half * x^(8 D)   (mod P),
// with the constants below in the reflected order of bits. What is left, 16 bytes, goes through the SSE 4.2
// instruction. Needs `Fold`: the vector, its load, xor, and the two multiplications. Included into an anonymous namespace.

constexpr std::uint32_t crc_power(std::size_t bits) {  // x^bits mod P, reflected: bit 31 is x^0
  std::uint32_t value = 0x80000000u;
  for (std::size_t i = 0; i < bits; ++i) value = (value & 1) != 0 ? 0x82F63B78u ^ value >> 1 : value >> 1;
  return value;
}

// The multipliers of a lane's low half (the first bytes: the higher powers) and high half for a distance of `bytes`.
// A product of a reflected 64-bit half and a reflected 32-bit constant has 32 + 1 places too few: hence + 31 and - 33.
struct CrcDistance {
  std::uint64_t low, high;
  constexpr explicit CrcDistance(std::size_t bytes) : low(crc_power(8 * bytes + 31)), high(crc_power(8 * bytes - 33)) {}
};

inline std::uint64_t load_word(const std::uint8_t* from) {
  std::uint64_t word;
  std::memcpy(&word, from, 8);
  return word;
}

inline std::uint32_t crc_serial(std::uint32_t crc, const std::uint8_t* data, std::size_t size) {
  std::uint64_t wide = crc;
  for (; size >= 8; size -= 8, data += 8) wide = _mm_crc32_u64(wide, load_word(data));
  crc = static_cast<std::uint32_t>(wide);
  for (; size != 0; --size) crc = _mm_crc32_u8(crc, *data++);
  return crc;
}

inline __m128i crc_fold_lane(__m128i lane, __m128i constants) {
  return _mm_xor_si128(_mm_clmulepi64_si128(lane, constants, 0x00), _mm_clmulepi64_si128(lane, constants, 0x11));
}

inline __m128i crc_constants(const CrcDistance& distance) {
  return _mm_set_epi64x(static_cast<long long>(distance.high), static_cast<long long>(distance.low));
}

template <class Fold>
std::uint32_t crc32c_folded(std::uint32_t crc, const std::uint8_t* data, std::size_t size) {
  typedef typename Fold::Vector Vector;
  constexpr unsigned kLanes = Fold::kVectors;
  constexpr std::size_t kBytes = sizeof(Vector), kRound = kLanes * kBytes;
  if (size < 2 * kRound) return crc_serial(crc, data, size);
  constexpr CrcDistance kFar(kRound), kNear(16);
  const Vector far = Fold::constants(crc_constants(kFar));
  Vector sum[kLanes];
#pragma GCC unroll 8
  for (unsigned v = 0; v < kLanes; ++v) sum[v] = Fold::load(data + v * kBytes);
  sum[0] = Fold::add(sum[0], Fold::first(crc));
  data += kRound;
  size -= kRound;
  for (; size >= kRound; size -= kRound, data += kRound)
#pragma GCC unroll 8
    for (unsigned v = 0; v < kLanes; ++v) sum[v] = Fold::add(Fold::fold(sum[v], far), Fold::load(data + v * kBytes));
  // join the lanes in order, each 16 bytes nearer to the end
  const __m128i near = crc_constants(kNear);
  alignas(64) std::uint8_t lanes[kRound];
#pragma GCC unroll 8
  for (unsigned v = 0; v < kLanes; ++v) std::memcpy(lanes + v * kBytes, &sum[v], kBytes);
  __m128i rest = _mm_load_si128(reinterpret_cast<const __m128i*>(lanes));
  for (std::size_t at = 16; at < kRound; at += 16)
    rest = _mm_xor_si128(crc_fold_lane(rest, near), _mm_load_si128(reinterpret_cast<const __m128i*>(lanes + at)));
  std::uint64_t wide = _mm_crc32_u64(0, static_cast<std::uint64_t>(_mm_cvtsi128_si64(rest)));
  wide = _mm_crc32_u64(wide, static_cast<std::uint64_t>(_mm_extract_epi64(rest, 1)));
  return crc_serial(static_cast<std::uint32_t>(wide), data, size);
}
