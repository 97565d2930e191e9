// AVX-512 with byte permutes and expands (VBMI, VBMI2: Ice Lake and Zen 4 on). A step of 64 lanes is one register for
// the low halves of the states and one for the high halves.
#include "kernels.h"
#include "integer_kernels.h"
#include "map_kernels.h"
#include "moment_kernels.h"
#include "panel_kernels.h"
#include "row_kernels.h"
#include "skip_kernels.h"

#include <cstring>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC bug 105593, in its own header
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
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

struct Avx512 {
  static constexpr int kVectorBytes = 64;
  static void lookup(const std::uint8_t* table, const std::uint8_t* symbols, std::uint8_t* out) {
    const __m512i t = _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(table)));
    _mm512_storeu_si512(out, _mm512_shuffle_epi8(t, _mm512_loadu_si512(symbols)));
  }
  static std::uint64_t equal_mask(const std::uint8_t* from, std::uint8_t value) {
    return _mm512_cmpeq_epi8_mask(_mm512_loadu_si512(from), _mm512_set1_epi8(static_cast<char>(value)));
  }
  static std::uint32_t count_equal(const std::uint8_t* from, std::size_t steps, std::uint8_t value) {
    std::uint64_t count = 0;
    for (std::size_t s = 0; s < steps; ++s)
      count += static_cast<std::uint64_t>(_mm_popcnt_u64(equal_mask(from + kStep * s, value)));
    return static_cast<std::uint32_t>(count);
  }
  static void gather1(const std::uint8_t* from, int shift, std::uint8_t* out) {
    const __mmask64 mask = _mm512_test_epi8_mask(_mm512_load_si512(from), _mm512_set1_epi8(static_cast<char>(1 << shift)));
    std::memcpy(out, &mask, 8);
  }
  static unsigned smallest(const std::uint32_t* numbers) {
    const __m512i all = _mm512_load_si512(numbers);
    const __m512i least = _mm512_set1_epi32(static_cast<int>(_mm512_reduce_min_epu32(all)));
    return static_cast<unsigned>(__builtin_ctz(_mm512_cmpeq_epi32_mask(all, least)));
  }
  template <int Bytes>
  static __m512i widen(const std::uint8_t* from) {
    if constexpr (Bytes == 2) return _mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
    if constexpr (Bytes == 4) return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
    if constexpr (Bytes == 8) return _mm512_cvtepu8_epi64(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
  }
  static void spread4(const std::uint8_t* from, std::uint8_t* out) {
    const __m256i packed = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)), nibble = _mm256_set1_epi8(15);
    const __m256i high = _mm256_and_si256(_mm256_srli_epi16(packed, 4), nibble);
    _mm512_store_si512(out, _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_and_si256(packed, nibble)), high, 1));
  }
  static void spread2(const std::uint8_t* from, std::uint8_t* out) {
    const __m512i packed = _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
    const __m512i by = _mm512_setr_epi32(0, 0, 0, 0, 2, 2, 2, 2, 4, 4, 4, 4, 6, 6, 6, 6);
    _mm512_store_si512(out, _mm512_and_si512(_mm512_srlv_epi32(packed, by), _mm512_set1_epi8(3)));
  }
  static void spread1(const std::uint8_t* from, std::uint8_t* out) {
    std::uint64_t mask;
    std::memcpy(&mask, from, 8);
    _mm512_store_si512(out, _mm512_maskz_set1_epi8(mask, 1));
  }
  static constexpr std::size_t kExpand = 16;
  template <std::size_t Bytes>
  static std::size_t expand_some(const std::uint8_t* mask, const std::uint8_t* values, std::uint8_t* out) {
    const __m128i kept = _mm_loadu_si128(reinterpret_cast<const __m128i*>(mask));
    const __mmask16 bits = _mm_test_epi8_mask(kept, kept);
    // The empty statements keep the loads apart: expanding straight from memory is less than half as fast on AMD (Zen 4).
    if constexpr (Bytes == 1) {
      __m128i next = _mm_loadu_si128(reinterpret_cast<const __m128i*>(values));
      __asm__("" : "+v"(next));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm_maskz_expand_epi8(bits, next));
    } else if constexpr (Bytes == 2) {
      __m256i next = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(values));
      __asm__("" : "+v"(next));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm256_maskz_expand_epi16(bits, next));
    } else {
      __m512i next = _mm512_loadu_si512(values);
      __asm__("" : "+v"(next));
      _mm512_storeu_si512(out, _mm512_maskz_expand_epi32(bits, next));
    }
    return static_cast<std::size_t>(_mm_popcnt_u32(bits));
  }
  template <Weight Type, int IndexBytes>
  static void weights16(const std::uint8_t* indices, float scale, std::uint8_t* out) {
    const __m512i wide =
        IndexBytes == 1 ? _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(indices)))
                        : _mm512_cvtepi16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(indices)));
    const __m512 weights = _mm512_mul_ps(_mm512_cvtepi32_ps(wide), _mm512_set1_ps(scale));
    if constexpr (Type == Weight::f32) {
      _mm512_storeu_ps(out, weights);
    } else {
      __m256i halves;
      if constexpr (Type == Weight::f16) {
        halves = _mm512_cvtps_ph(weights, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
      } else {
        const __m512i bits = _mm512_castps_si512(weights);
        const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
        const __m512i half_up = _mm512_add_epi32(_mm512_set1_epi32(0x7FFF), odd);
        halves = _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_add_epi32(bits, half_up), 16));
      }
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), halves);
    }
  }
};

inline __m512i pair_table(const std::uint8_t* table) {  // 32 entries; indices stay below 32
  return _mm512_castsi256_si512(_mm256_load_si256(reinterpret_cast<const __m256i*>(table)));
}

// 64 lanes of one stream, one step.
__attribute__((always_inline)) inline __m512i rans_lanes(__m512i& low, __m512i& high, const std::uint8_t*& next,
                                                         const AliasTable& table) {
  const __m512i nibble = _mm512_set1_epi8(15), even = _mm512_set1_epi16(255);
  const __m512i bucket = _mm512_and_si512(_mm512_srli_epi16(low, 4), nibble);
  const __m512i inside = _mm512_and_si512(low, nibble);
  const __m512i threshold = _mm512_shuffle_epi8(
      _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(table.threshold))), bucket);
  const __mmask64 is_b = _mm512_cmple_epu8_mask(threshold, inside);
  const __m512i index = _mm512_mask_add_epi8(bucket, is_b, bucket, _mm512_set1_epi8(16));
  const __m512i symbol = _mm512_permutexvar_epi8(index, pair_table(table.symbol));
  const __m512i freq = _mm512_permutexvar_epi8(index, pair_table(table.pair_freq));
  const __m512i position = _mm512_add_epi8(inside, _mm512_permutexvar_epi8(index, pair_table(table.offset)));
  const __m512i x_even = _mm512_add_epi16(_mm512_mullo_epi16(_mm512_and_si512(freq, even), _mm512_and_si512(high, even)),
                                          _mm512_and_si512(position, even));
  const __m512i x_odd = _mm512_add_epi16(_mm512_mullo_epi16(_mm512_srli_epi16(freq, 8), _mm512_srli_epi16(high, 8)),
                                         _mm512_srli_epi16(position, 8));
  const __mmask64 odd = 0xAAAAAAAAAAAAAAAAu;
  const __m512i x_low = _mm512_mask_blend_epi8(odd, x_even, _mm512_slli_epi16(x_odd, 8));
  const __m512i x_high = _mm512_mask_blend_epi8(odd, _mm512_srli_epi16(x_even, 8), x_odd);
  const __mmask64 refill = _mm512_testn_epi8_mask(x_high, x_high);
  low = _mm512_mask_expand_epi8(x_low, refill, _mm512_loadu_si512(next));
  high = _mm512_mask_blend_epi8(refill, x_high, x_low);
  next += _mm_popcnt_u64(refill);
  return symbol;
}

inline __m512i table16(const std::uint8_t* table) {
  return _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(table)));
}

// 256 entries: two look-ups of 128, then the half that the top bit of the index names.
struct Table256 {
  __m512i part[4];
  explicit Table256(const std::uint8_t* from) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) part[i] = _mm512_load_si512(from + 64 * i);
  }
  __m512i at(__m512i index) const {
    return _mm512_mask_blend_epi8(_mm512_movepi8_mask(index), _mm512_permutex2var_epi8(part[0], index, part[1]),
                                  _mm512_permutex2var_epi8(part[2], index, part[3]));
  }
};

// x / f and x % f for 32 lanes of 16 bits, x < 256 f: the quotient by a reciprocal is at most one too small.
inline __m512i divide(__m512i x, __m512i freq, __m512i reciprocal, __m512i& rest) {
  const __m512i quotient = _mm512_mulhi_epu16(x, reciprocal);
  rest = _mm512_sub_epi16(x, _mm512_mullo_epi16(quotient, freq));
  const __mmask32 short_by_one = _mm512_cmpge_epu16_mask(rest, freq);
  rest = _mm512_mask_sub_epi16(rest, short_by_one, rest, freq);
  return _mm512_mask_add_epi16(quotient, short_by_one, quotient, _mm512_set1_epi16(1));
}

// The rANS encoder: all 64 lanes at once. Lanes that give up a byte put it into the stream in their order.
std::uint8_t* rans_encode(const EncoderTable* const* tables, const std::uint8_t* symbols, std::size_t steps,
                          std::uint16_t* states, std::uint8_t* next) {
  const __m512i byte = _mm512_set1_epi16(255), zero = _mm512_setzero_si512();
  const __mmask64 odd = 0xAAAAAAAAAAAAAAAAu;
  // even and odd lanes apart, as 16-bit numbers
  const __m512i first = _mm512_loadu_si512(states), second = _mm512_loadu_si512(states + 32);
  const __m512i low_words = _mm512_set1_epi32(0xFFFF);
  const __m512i gather = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
  const auto halves = [&](__m512i a, __m512i b) { return _mm512_permutexvar_epi64(gather, _mm512_packus_epi32(a, b)); };
  __m512i even_x = halves(_mm512_and_si512(first, low_words), _mm512_and_si512(second, low_words));
  __m512i odd_x = halves(_mm512_srli_epi32(first, 16), _mm512_srli_epi32(second, 16));
  alignas(64) std::uint8_t numbers[kStep];
  for (std::size_t lane = 0; lane < kStep; ++lane) numbers[lane] = static_cast<std::uint8_t>(lane);
  const __m512i lane_numbers = _mm512_load_si512(numbers);
  for (std::size_t step = steps; step-- > 0;) {
    const EncoderTable* table = tables[step];
    const __m512i symbol = _mm512_loadu_si512(symbols + kStep * step);
    const __m512i freq = _mm512_shuffle_epi8(table16(table->freq), symbol);
    const __m512i even_freq = _mm512_and_si512(freq, byte), odd_freq = _mm512_srli_epi16(freq, 8);
    // lanes at or above f << 8 emit their low byte
    const __m512i low = _mm512_mask_blend_epi8(odd, even_x, _mm512_slli_epi16(odd_x, 8));
    const __m512i high = _mm512_mask_blend_epi8(odd, _mm512_srli_epi16(even_x, 8), odd_x);
    const __mmask64 emit = _mm512_cmpge_epu8_mask(high, freq);
    // ... which end up right below `next`; what is stored below them will be overwritten
    const int count = static_cast<int>(_mm_popcnt_u64(emit));
    const __m512i to_end = _mm512_add_epi8(lane_numbers, _mm512_set1_epi8(static_cast<char>(count)));
    _mm512_storeu_si512(next - kStep, _mm512_permutexvar_epi8(to_end, _mm512_maskz_compress_epi8(emit, low)));
    next -= count;
    const __m512i kept_low = _mm512_mask_blend_epi8(emit, low, high);
    const __m512i kept_high = _mm512_mask_blend_epi8(emit, high, zero);
    const __m512i even_kept = _mm512_mask_blend_epi8(odd, kept_low, _mm512_slli_epi16(kept_high, 8));
    const __m512i odd_kept = _mm512_mask_blend_epi8(odd, _mm512_srli_epi16(kept_low, 8), kept_high);
    const __m512i r_low = _mm512_shuffle_epi8(table16(table->reciprocal16[0]), symbol);
    const __m512i r_high = _mm512_shuffle_epi8(table16(table->reciprocal16[1]), symbol);
    __m512i even_rest, odd_rest;
    const __m512i even_quotient = divide(even_kept, even_freq, _mm512_mask_blend_epi8(odd, r_low, _mm512_slli_epi16(r_high, 8)), even_rest);
    const __m512i odd_quotient = divide(odd_kept, odd_freq, _mm512_mask_blend_epi8(odd, _mm512_srli_epi16(r_low, 8), r_high), odd_rest);
    const __m512i rest = _mm512_mask_blend_epi8(odd, even_rest, _mm512_slli_epi16(odd_rest, 8));
    const __m512i index = _mm512_add_epi8(rest, _mm512_shuffle_epi8(table16(table->start), symbol));
    const __m512i slot = Table256(table->slot).at(index);
    even_x = _mm512_mask_blend_epi8(odd, slot, _mm512_slli_epi16(even_quotient, 8));
    odd_x = _mm512_mask_blend_epi8(odd, _mm512_srli_epi16(slot, 8), _mm512_slli_epi16(odd_quotient, 8));
  }
  // back to the lanes' order
  const __m512i back_low = _mm512_unpacklo_epi16(even_x, odd_x), back_high = _mm512_unpackhi_epi16(even_x, odd_x);
  const __m512i low_order = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), high_order = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
  _mm512_storeu_si512(states, _mm512_permutex2var_epi64(back_low, low_order, back_high));
  _mm512_storeu_si512(states + 32, _mm512_permutex2var_epi64(back_low, high_order, back_high));
  return next;
}

struct FoldZmm {
  typedef __m512i Vector;
  static constexpr unsigned kVectors = 4;
  static Vector load(const std::uint8_t* from) { return _mm512_loadu_si512(from); }
  static Vector first(std::uint32_t crc) { return _mm512_zextsi128_si512(_mm_cvtsi32_si128(static_cast<int>(crc))); }
  static Vector add(Vector a, Vector b) { return _mm512_xor_si512(a, b); }
  static Vector constants(__m128i lane) { return _mm512_broadcast_i32x4(lane); }
  static Vector fold(Vector v, Vector constants) {
    return _mm512_xor_si512(_mm512_clmulepi64_epi128(v, constants, 0x00), _mm512_clmulepi64_epi128(v, constants, 0x11));
  }
};

struct Avx512Steps {
  template <unsigned Streams>
  static void run(const RansWork* work, std::size_t from, std::size_t count) {
    __m512i low[Streams], high[Streams];
    const std::uint8_t* next[Streams];
#pragma GCC unroll 4
    for (unsigned k = 0; k < Streams; ++k) {
      next[k] = work[k].stream->next;
      low[k] = _mm512_load_si512(work[k].stream->low);
      high[k] = _mm512_load_si512(work[k].stream->high);
    }
    for (std::size_t s = from; s < from + count; ++s)
#pragma GCC unroll 4
      for (unsigned k = 0; k < Streams; ++k)
        _mm512_storeu_si512(work[k].symbols + kStep * s, rans_lanes(low[k], high[k], next[k], *work[k].tables[s]));
#pragma GCC unroll 4
    for (unsigned k = 0; k < Streams; ++k) {
      work[k].stream->next = next[k];
      _mm512_store_si512(work[k].stream->low, low[k]);
      _mm512_store_si512(work[k].stream->high, high[k]);
    }
  }
};

}  // namespace

const Kernels kAvx512Kernels = {
    "avx512", 4, crc32c_folded<FoldZmm>, rans_decode<Avx512Steps>, combine<Avx512>, find_symbol<Avx512>, split<Avx512>, count_fields<Avx512>, rank_fields<Avx512>,
    assign_rows<Avx512>, rans_encode, dequantize<Avx512>, expand<Avx512>, subtract_rows, round_row, &kAvx512Panels, &kAvx512Integers, &kAvx512Rows, &kAvx512Moments, &kAvx512Skipping, &kAvx512Maps};

}  // namespace regrain
