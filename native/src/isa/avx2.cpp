// AVX2 (x86-64-v3). A step of 64 lanes is two registers of 32 bytes for the low halves of the states and two for the
// high halves; every table look-up is a byte shuffle.
#include "kernels.h"
#include "integer_kernels.h"
#include "map_kernels.h"
#include "moment_kernels.h"
#include "panel_kernels.h"
#include "row_kernels.h"
#include "skip_kernels.h"

#include <cstring>
#include <immintrin.h>

namespace regrain {
namespace {

#include "combine.h"
#include "crc_x86.h"
#include "dequantize.h"
#include "expand.h"
#include "rans_scalar.h"
#include "survey.h"
#include "feedback.h"

// Shuffle controls that put the next bytes (of a stream) or values into the lanes (of eight) whose mask bit is set.
// `high` is for lanes 8 to 15 of a register whose upper half holds their bytes. Other lanes get 0x80: zero.
struct ExpandTable {
  alignas(64) std::uint8_t low[256][8];
  alignas(64) std::uint8_t high[256][8];
  constexpr ExpandTable() : low(), high() {
    for (int mask = 0; mask < 256; ++mask) {
      std::uint8_t taken = 0;
      for (int lane = 0; lane < 8; ++lane) {
        const bool set = (mask >> lane & 1) != 0;
        low[mask][lane] = set ? taken : 0x80;
        high[mask][lane] = set ? static_cast<std::uint8_t>(taken + 8) : 0x80;
        taken = static_cast<std::uint8_t>(taken + set);
      }
    }
  }
};
constexpr ExpandTable kSpread;

struct Avx2 {
  static constexpr int kVectorBytes = 32;
  static constexpr std::size_t kExpand = 8;
  template <std::size_t Bytes>
  static std::size_t expand_some(const std::uint8_t* mask, const std::uint8_t* values, std::uint8_t* out) {
    const __m128i dropped = _mm_cmpeq_epi8(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(mask)), _mm_setzero_si128());
    const unsigned bits = ~static_cast<unsigned>(_mm_movemask_epi8(dropped)) & 255;
    const __m128i from = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(kSpread.low[bits]));
    if constexpr (Bytes == 1) {
      const __m128i eight = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(values));
      _mm_storel_epi64(reinterpret_cast<__m128i*>(out), _mm_shuffle_epi8(eight, from));
    } else if constexpr (Bytes == 2) {  // byte 2i and 2i + 1; 0x80 stays above 0x7F
      const __m128i low = _mm_adds_epu8(from, from), high = _mm_adds_epu8(low, _mm_set1_epi8(1));
      const __m128i eight = _mm_loadu_si128(reinterpret_cast<const __m128i*>(values));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm_shuffle_epi8(eight, _mm_unpacklo_epi8(low, high)));
    } else {
      const __m256i wide = _mm256_cvtepi8_epi32(from);  // negative where it is dropped
      const __m256i eight = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(values));
      const __m256i placed = _mm256_permutevar8x32_epi32(eight, wide);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm256_andnot_si256(_mm256_srai_epi32(wide, 31), placed));
    }
    return static_cast<std::size_t>(_mm_popcnt_u32(bits));
  }
  static void lookup(const std::uint8_t* table, const std::uint8_t* symbols, std::uint8_t* out) {
    const __m256i t = _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(table)));
    for (int h = 0; h < 64; h += 32) {
      const __m256i s = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(symbols + h));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + h), _mm256_shuffle_epi8(t, s));
    }
  }
  static std::uint64_t equal_mask(const std::uint8_t* from, std::uint8_t value) {
    const __m256i wanted = _mm256_set1_epi8(static_cast<char>(value));
    const auto half = [&](const std::uint8_t* at) {
      const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
      return static_cast<std::uint32_t>(_mm256_movemask_epi8(_mm256_cmpeq_epi8(bytes, wanted)));
    };
    return half(from) | std::uint64_t{half(from + 32)} << 32;
  }
  static std::uint32_t count_equal(const std::uint8_t* from, std::size_t steps, std::uint8_t value) {
    const __m256i wanted = _mm256_set1_epi8(static_cast<char>(value)), zero = _mm256_setzero_si256();
    __m256i total = zero;
    for (std::size_t s = 0; s < steps; ++s, from += kStep) {
      const __m256i first = _mm256_cmpeq_epi8(wanted, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
      const __m256i second = _mm256_cmpeq_epi8(wanted, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + 32)));
      const __m256i both = _mm256_sub_epi8(_mm256_sub_epi8(zero, first), second);  // 0, 1 or 2 a lane
      total = _mm256_add_epi64(total, _mm256_sad_epu8(both, zero));
    }
    const __m128i sum = _mm_add_epi64(_mm256_castsi256_si128(total), _mm256_extracti128_si256(total, 1));
    return static_cast<std::uint32_t>(_mm_cvtsi128_si64(sum) + _mm_extract_epi64(sum, 1));
  }
  static void gather1(const std::uint8_t* from, int shift, std::uint8_t* out) {
    for (int h = 0; h < 2; ++h) {
      const __m256i bytes = _mm256_load_si256(reinterpret_cast<const __m256i*>(from + 32 * h));
      const int mask = _mm256_movemask_epi8(_mm256_sll_epi16(bytes, _mm_cvtsi32_si128(7 - shift)));
      std::memcpy(out + 4 * h, &mask, 4);
    }
  }
  static unsigned smallest(const std::uint32_t* numbers) {
    const __m256i a = _mm256_load_si256(reinterpret_cast<const __m256i*>(numbers));
    const __m256i b = _mm256_load_si256(reinterpret_cast<const __m256i*>(numbers + 8));
    __m256i least = _mm256_min_epu32(a, b);
    least = _mm256_min_epu32(least, _mm256_permute2x128_si256(least, least, 1));
    least = _mm256_min_epu32(least, _mm256_shuffle_epi32(least, 0x4E));
    least = _mm256_min_epu32(least, _mm256_shuffle_epi32(least, 0xB1));
    const unsigned in_a = static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpeq_epi32(a, least))));
    const unsigned in_b = static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpeq_epi32(b, least))));
    return static_cast<unsigned>(__builtin_ctz(in_a | in_b << 8));
  }
  template <int Bytes>
  static __m256i widen(const std::uint8_t* from) {
    if constexpr (Bytes == 2) return _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
    if constexpr (Bytes == 4) return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
    if constexpr (Bytes == 8) return _mm256_cvtepu8_epi64(_mm_loadu_si32(from));
  }
  static void spread4(const std::uint8_t* from, std::uint8_t* out) {
    const __m256i packed = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)), nibble = _mm256_set1_epi8(15);
    _mm256_store_si256(reinterpret_cast<__m256i*>(out), _mm256_and_si256(packed, nibble));
    _mm256_store_si256(reinterpret_cast<__m256i*>(out + 32), _mm256_and_si256(_mm256_srli_epi16(packed, 4), nibble));
  }
  static void spread2(const std::uint8_t* from, std::uint8_t* out) {
    const __m256i packed = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
    const __m256i three = _mm256_set1_epi8(3);
    const __m256i low = _mm256_srlv_epi32(packed, _mm256_setr_epi32(0, 0, 0, 0, 2, 2, 2, 2));
    const __m256i high = _mm256_srlv_epi32(packed, _mm256_setr_epi32(4, 4, 4, 4, 6, 6, 6, 6));
    _mm256_store_si256(reinterpret_cast<__m256i*>(out), _mm256_and_si256(low, three));
    _mm256_store_si256(reinterpret_cast<__m256i*>(out + 32), _mm256_and_si256(high, three));
  }
  static void spread1(const std::uint8_t* from, std::uint8_t* out) {
    const __m256i byte_of = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i bit_of = _mm256_set1_epi64x(static_cast<long long>(0x8040201008040201u));
    for (int h = 0; h < 2; ++h) {
      const __m256i four = _mm256_set1_epi32(_mm_cvtsi128_si32(_mm_loadu_si32(from + 4 * h)));
      const __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(_mm256_shuffle_epi8(four, byte_of), bit_of), bit_of);
      _mm256_store_si256(reinterpret_cast<__m256i*>(out + 32 * h), _mm256_and_si256(set, _mm256_set1_epi8(1)));
    }
  }
  template <Weight Type, int IndexBytes>
  static void weights16(const std::uint8_t* indices, float scale, std::uint8_t* out) {
    const __m256 scales = _mm256_set1_ps(scale);
    __m256 weights[2];
    for (int h = 0; h < 2; ++h) {
      const __m256i wide =
          IndexBytes == 1 ? _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(indices + 8 * h)))
                          : _mm256_cvtepi16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(indices + 16 * h)));
      weights[h] = _mm256_mul_ps(_mm256_cvtepi32_ps(wide), scales);
    }
    if constexpr (Type == Weight::f32) {
      _mm256_storeu_ps(reinterpret_cast<float*>(out), weights[0]);
      _mm256_storeu_ps(reinterpret_cast<float*>(out + 32), weights[1]);
    } else if constexpr (Type == Weight::bf16) {
      __m256i halves[2];
      for (int h = 0; h < 2; ++h) {
        const __m256i bits = _mm256_castps_si256(weights[h]);
        const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
        halves[h] = _mm256_srli_epi32(_mm256_add_epi32(bits, _mm256_add_epi32(_mm256_set1_epi32(0x7FFF), odd)), 16);
      }
      const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(halves[0], halves[1]), 0xD8);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), packed);
    } else {
      for (int h = 0; h < 2; ++h)
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 16 * h),
                         _mm256_cvtps_ph(weights[h], _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    }
  }
};

inline __m128i load_two(const std::uint8_t* low, const std::uint8_t* high) {
  const __m128i first = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(low));
  return _mm_castps_si128(_mm_loadh_pi(_mm_castsi128_ps(first), reinterpret_cast<const __m64*>(high)));
}

inline __m256i table_of(const std::uint8_t* table) {
  return _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(table)));
}

// 32 lanes of one stream, one step.
__attribute__((always_inline)) inline __m256i rans_half(__m256i& low, __m256i& high, const std::uint8_t*& next,
                                                        const AliasTable& table) {
  const __m256i nibble = _mm256_set1_epi8(15), even = _mm256_set1_epi16(255), zero = _mm256_setzero_si256();
  const __m256i bucket = _mm256_and_si256(_mm256_srli_epi16(low, 4), nibble);
  const __m256i inside = _mm256_and_si256(low, nibble);
  const __m256i is_a = _mm256_cmpgt_epi8(_mm256_shuffle_epi8(table_of(table.threshold), bucket), inside);
  const __m256i symbol = _mm256_blendv_epi8(_mm256_shuffle_epi8(table_of(table.symbol + 16), bucket),
                                            _mm256_shuffle_epi8(table_of(table.symbol), bucket), is_a);
  const __m256i position =
      _mm256_add_epi8(inside, _mm256_blendv_epi8(_mm256_shuffle_epi8(table_of(table.offset + 16), bucket),
                                                 _mm256_shuffle_epi8(table_of(table.offset), bucket), is_a));
  const __m256i freq = _mm256_shuffle_epi8(table_of(table.freq), symbol);
  // x = freq * high + position in 16 bits, even and odd lanes apart
  const __m256i x_even = _mm256_add_epi16(_mm256_mullo_epi16(_mm256_and_si256(freq, even), _mm256_and_si256(high, even)),
                                          _mm256_and_si256(position, even));
  const __m256i x_odd = _mm256_add_epi16(_mm256_mullo_epi16(_mm256_srli_epi16(freq, 8), _mm256_srli_epi16(high, 8)),
                                         _mm256_srli_epi16(position, 8));
  const __m256i x_low = _mm256_blendv_epi8(_mm256_slli_epi16(x_odd, 8), x_even, even);
  const __m256i x_high = _mm256_blendv_epi8(x_odd, _mm256_srli_epi16(x_even, 8), even);
  // lanes below 256 shift their byte up and take the next one of the stream
  const __m256i refill = _mm256_cmpeq_epi8(x_high, zero);
  const std::uint32_t mask = static_cast<std::uint32_t>(_mm256_movemask_epi8(refill));
  const std::uint8_t* at1 = next + __builtin_popcount(mask & 0xFF);
  const std::uint8_t* at2 = next + __builtin_popcount(mask & 0xFFFF);
  const std::uint8_t* at3 = next + __builtin_popcount(mask & 0xFFFFFF);
  const __m256i bytes = _mm256_set_m128i(load_two(at2, at3), load_two(next, at1));
  const __m256i order =
      _mm256_set_m128i(load_two(kSpread.low[mask >> 16 & 255], kSpread.high[mask >> 24]),
                       load_two(kSpread.low[mask & 255], kSpread.high[mask >> 8 & 255]));
  next += __builtin_popcount(mask);
  low = _mm256_blendv_epi8(x_low, _mm256_shuffle_epi8(bytes, order), refill);
  high = _mm256_blendv_epi8(x_high, x_low, refill);
  return symbol;
}

// Shuffle controls that move the bytes (of eight) whose mask bit is set to the upper end, in their order; `high` for the
// upper half of a register.
struct CompressTable {
  alignas(64) std::uint8_t low[256][8];
  alignas(64) std::uint8_t high[256][8];
  constexpr CompressTable() : low(), high() {
    for (int mask = 0; mask < 256; ++mask) {
      int place = 8;
      for (int lane = 7; lane >= 0; --lane)
        if ((mask >> lane & 1) != 0) {
          --place;
          low[mask][place] = static_cast<std::uint8_t>(lane);
          high[mask][place] = static_cast<std::uint8_t>(lane + 8);
        }
      while (place-- > 0) low[mask][place] = high[mask][place] = 0x80;
    }
  }
};
constexpr CompressTable kCompress;

// Puts the bytes whose mask bit is set right below `next`, in their order. What it stores below them is overwritten later.
__attribute__((always_inline)) inline std::uint8_t* emit_bytes(__m128i bytes, std::uint32_t mask, std::uint8_t* next) {
  const std::uint32_t low = mask & 255, high = mask >> 8;
  const __m128i packed = _mm_shuffle_epi8(bytes, load_two(kCompress.low[low], kCompress.high[high]));
  _mm_storeh_pi(reinterpret_cast<__m64*>(next - 8), _mm_castsi128_ps(packed));
  next -= __builtin_popcount(high);
  _mm_storel_epi64(reinterpret_cast<__m128i*>(next - 8), packed);
  return next - __builtin_popcount(low);
}

// 256 entries: sixteen look-ups of 16, each of which gives 0 unless the index is its own.
__attribute__((always_inline)) inline __m256i look_up_256(const std::uint8_t* table, __m256i index) {
  __m256i found = _mm256_setzero_si256();
#pragma GCC unroll 16
  for (int t = 0; t < 16; ++t) {
    const __m256i mine = _mm256_xor_si256(index, _mm256_set1_epi8(static_cast<char>(16 * t)));  // below 16 if so
    const __m256i control = _mm256_adds_epu8(mine, _mm256_set1_epi8(0x70));                      // else its top bit is set
    found = _mm256_or_si256(found, _mm256_shuffle_epi8(table_of(table + 16 * t), control));
  }
  return found;
}

// x / f and x % f for 16 lanes of 16 bits, x < 256 f: the quotient by a reciprocal is at most one too small.
__attribute__((always_inline)) inline __m256i divide(__m256i x, __m256i freq, __m256i reciprocal, __m256i& rest) {
  const __m256i quotient = _mm256_mulhi_epu16(x, reciprocal);
  rest = _mm256_sub_epi16(x, _mm256_mullo_epi16(quotient, freq));
  const __m256i exact = _mm256_cmpgt_epi16(freq, rest);  // both are below 512
  rest = _mm256_sub_epi16(rest, _mm256_andnot_si256(exact, freq));
  return _mm256_add_epi16(quotient, _mm256_add_epi16(exact, _mm256_set1_epi16(1)));
}

// 32 lanes of one stream, one step back.
__attribute__((always_inline)) inline std::uint8_t* encode_half(__m256i& low, __m256i& high, __m256i symbol,
                                                                const EncoderTable& table, std::uint8_t* next) {
  const __m256i even = _mm256_set1_epi16(255);
  const __m256i freq = _mm256_shuffle_epi8(table_of(table.freq), symbol);
  const __m256i emit = _mm256_cmpeq_epi8(_mm256_max_epu8(high, freq), high);  // x >= f << 8
  const std::uint32_t mask = static_cast<std::uint32_t>(_mm256_movemask_epi8(emit));
  next = emit_bytes(_mm256_extracti128_si256(low, 1), mask >> 16, next);
  next = emit_bytes(_mm256_castsi256_si128(low), mask & 0xFFFF, next);
  const __m256i kept_low = _mm256_blendv_epi8(low, high, emit), kept_high = _mm256_andnot_si256(emit, high);
  const __m256i r_low = _mm256_shuffle_epi8(table_of(table.reciprocal16[0]), symbol);
  const __m256i r_high = _mm256_shuffle_epi8(table_of(table.reciprocal16[1]), symbol);
  const auto even_lanes = [&](__m256i l, __m256i h) { return _mm256_or_si256(_mm256_and_si256(l, even), _mm256_slli_epi16(h, 8)); };
  const auto odd_lanes = [&](__m256i l, __m256i h) { return _mm256_or_si256(_mm256_srli_epi16(l, 8), _mm256_andnot_si256(even, h)); };
  __m256i even_rest, odd_rest;
  const __m256i even_quotient =
      divide(even_lanes(kept_low, kept_high), _mm256_and_si256(freq, even), even_lanes(r_low, r_high), even_rest);
  const __m256i odd_quotient =
      divide(odd_lanes(kept_low, kept_high), _mm256_srli_epi16(freq, 8), odd_lanes(r_low, r_high), odd_rest);
  const __m256i rest = _mm256_or_si256(even_rest, _mm256_slli_epi16(odd_rest, 8));
  low = look_up_256(table.slot, _mm256_add_epi8(rest, _mm256_shuffle_epi8(table_of(table.start), symbol)));
  high = _mm256_or_si256(even_quotient, _mm256_slli_epi16(odd_quotient, 8));
  return next;
}

// The rANS encoder: 32 lanes at once, the upper half of a step first.
std::uint8_t* rans_encode(const EncoderTable* const* tables, const std::uint8_t* symbols, std::size_t steps,
                          std::uint16_t* states, std::uint8_t* next) {
  alignas(32) std::uint8_t low_bytes[kStep], high_bytes[kStep];
  for (std::size_t lane = 0; lane < kStep; ++lane) {
    low_bytes[lane] = static_cast<std::uint8_t>(states[lane]);
    high_bytes[lane] = static_cast<std::uint8_t>(states[lane] >> 8);
  }
  const auto at = [](std::uint8_t* bytes) { return reinterpret_cast<__m256i*>(bytes); };
  __m256i low[2] = {_mm256_load_si256(at(low_bytes)), _mm256_load_si256(at(low_bytes + 32))};
  __m256i high[2] = {_mm256_load_si256(at(high_bytes)), _mm256_load_si256(at(high_bytes + 32))};
  for (std::size_t step = steps; step-- > 0;)
#pragma GCC unroll 2
    for (int h = 1; h >= 0; --h) {
      const std::uint8_t* from = symbols + kStep * step + 32 * static_cast<std::size_t>(h);
      next = encode_half(low[h], high[h], _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)), *tables[step], next);
    }
#pragma GCC unroll 2
  for (int h = 0; h < 2; ++h) {
    _mm256_store_si256(at(low_bytes + 32 * h), low[h]);
    _mm256_store_si256(at(high_bytes + 32 * h), high[h]);
  }
  for (std::size_t lane = 0; lane < kStep; ++lane)
    states[lane] = static_cast<std::uint16_t>(low_bytes[lane] | high_bytes[lane] << 8);
  return next;
}

struct FoldXmm {
  typedef __m128i Vector;
  static constexpr unsigned kVectors = 8;
  static Vector load(const std::uint8_t* from) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from)); }
  static Vector first(std::uint32_t crc) { return _mm_cvtsi32_si128(static_cast<int>(crc)); }
  static Vector add(Vector a, Vector b) { return _mm_xor_si128(a, b); }
  static Vector constants(__m128i lane) { return lane; }
  static Vector fold(Vector v, Vector constants) { return crc_fold_lane(v, constants); }
};

inline __m256i load(const std::uint8_t* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }
inline void store(std::uint8_t* to, __m256i v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), v); }

struct Avx2Steps {
  template <unsigned Streams>
  static void run(const RansWork* work, std::size_t from, std::size_t count) {
    __m256i low[Streams][2], high[Streams][2];
    const std::uint8_t* next[Streams];
#pragma GCC unroll 4
    for (unsigned k = 0; k < Streams; ++k) {
      next[k] = work[k].stream->next;
#pragma GCC unroll 2
      for (int h = 0; h < 2; ++h) {
        low[k][h] = load(work[k].stream->low + 32 * h);
        high[k][h] = load(work[k].stream->high + 32 * h);
      }
    }
    for (std::size_t s = from; s < from + count; ++s) {
#pragma GCC unroll 4
      for (unsigned k = 0; k < Streams; ++k) {
        const AliasTable& table = *work[k].tables[s];
#pragma GCC unroll 2
        for (int h = 0; h < 2; ++h)
          store(work[k].symbols + kStep * s + 32 * h, rans_half(low[k][h], high[k][h], next[k], table));
      }
    }
#pragma GCC unroll 4
    for (unsigned k = 0; k < Streams; ++k) {
      work[k].stream->next = next[k];
#pragma GCC unroll 2
      for (int h = 0; h < 2; ++h) {
        store(work[k].stream->low + 32 * h, low[k][h]);
        store(work[k].stream->high + 32 * h, high[k][h]);
      }
    }
  }
};

}  // namespace

const Kernels kAvx2Kernels = {
    "avx2", 2, crc32c_folded<FoldXmm>, rans_decode<Avx2Steps>, combine<Avx2>, find_symbol<Avx2>, split<Avx2>, count_fields<Avx2>, rank_fields<Avx2>,
    assign_rows<Avx2>, rans_encode, dequantize<Avx2>, expand<Avx2>, subtract_rows, round_row, &kAvx2Panels, &kAvx2Integers, &kAvx2Rows, &kAvx2Moments, &kAvx2Skipping, &kAvx2Maps};

}  // namespace regrain
