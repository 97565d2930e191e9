// The portable path: no intrinsics, right on any little-endian machine.
#include "kernels.h"
#include "integer_kernels.h"
#include "map_kernels.h"
#include "moment_kernels.h"
#include "panel_kernels.h"
#include "row_kernels.h"
#include "skip_kernels.h"

#include <cstring>

namespace regrain {
namespace {

#include "combine.h"
#include "dequantize.h"
#include "expand.h"
#include "rans_encode.h"
#include "rans_scalar.h"
#include "survey.h"
#include "feedback.h"

struct Portable {
  static constexpr int kVectorBytes = 16;
  static constexpr std::size_t kExpand = 8;
  template <std::size_t Bytes>
  static std::size_t expand_some(const std::uint8_t* mask, const std::uint8_t* values, std::uint8_t* out) {
    typename WordOf<Bytes>::type word;
    std::size_t kept = 0;
    for (std::size_t i = 0; i < kExpand; ++i) {  // no branch: nothing could predict it
      std::memcpy(&word, values + kept * Bytes, Bytes);
      const std::size_t keep = mask[i] != 0;
      word = static_cast<decltype(word)>(word & (0 - keep));
      std::memcpy(out + i * Bytes, &word, Bytes);
      kept += keep;
    }
    return kept;
  }
  static void lookup(const std::uint8_t* table, const std::uint8_t* symbols, std::uint8_t* out) {
    for (std::size_t i = 0; i < kStep; ++i) out[i] = table[symbols[i]];
  }
  // Bit i: byte i of 64 equals `value`.
  static std::uint64_t equal_mask(const std::uint8_t* from, std::uint8_t value) {
    std::uint64_t mask = 0;
    for (std::size_t i = 0; i < kStep; ++i) mask |= static_cast<std::uint64_t>(from[i] == value) << i;
    return mask;
  }
  // How many of 64 * steps bytes equal `value`.
  static std::uint32_t count_equal(const std::uint8_t* from, std::size_t steps, std::uint8_t value) {
    std::uint32_t count = 0;
    for (std::size_t s = 0; s < steps; ++s, from += kStep) {
      std::uint8_t here = 0;  // a byte is enough for a step, and sixteen of them are summed at once
      for (std::size_t i = 0; i < kStep; ++i) here = static_cast<std::uint8_t>(here + (from[i] == value));
      count += here;
    }
    return count;
  }
  // The inverse of spread1, from bit `shift` of each byte.
  static void gather1(const std::uint8_t* from, int shift, std::uint8_t* out) {
    for (std::size_t j = 0; j < 8; ++j) {
      unsigned packed = 0;
      for (std::size_t bit = 0; bit < 8; ++bit) packed |= (from[8 * j + bit] >> shift & 1u) << bit;
      out[j] = static_cast<std::uint8_t>(packed);
    }
  }
  // Where the smallest of 16 numbers stands; the first on ties.
  static unsigned smallest(const std::uint32_t* numbers) {
    unsigned best = 0;
    for (unsigned i = 1; i < 16; ++i) best = numbers[i] < numbers[best] ? i : best;
    return best;
  }
  template <int Bytes>
  static auto widen(const std::uint8_t* from) {
    typedef typename WordOf<Bytes>::type Wide __attribute__((vector_size(kVectorBytes)));
    Wide words;
    for (int i = 0; i < kVectorBytes / Bytes; ++i) words[i] = from[i];
    return words;
  }
  // The 4-, 2- and 1-bit planes of a step, one byte a word.
  static void spread4(const std::uint8_t* from, std::uint8_t* out) {
    for (std::size_t j = 0; j < 32; ++j) {
      out[j] = from[j] & 15;
      out[j + 32] = from[j] >> 4;
    }
  }
  static void spread2(const std::uint8_t* from, std::uint8_t* out) {
    for (std::size_t q = 0; q < 4; ++q)
      for (std::size_t j = 0; j < 16; ++j) out[16 * q + j] = from[j] >> (2 * q) & 3;
  }
  static void spread1(const std::uint8_t* from, std::uint8_t* out) {
    for (std::size_t i = 0; i < kStep; ++i) out[i] = from[i / 8] >> (i % 8) & 1;
  }
  template <Weight Type, int IndexBytes>
  static void weights16(const std::uint8_t* indices, float scale, std::uint8_t* out) {
    weights_one_by_one<Type, IndexBytes>(indices, scale, 16, out);
  }
};

struct PortableSteps {
  // The states stand in a local array, which bytes of the stream and of the symbols can't alias.
  static void run_one(const RansWork& work, std::size_t from, std::size_t count) {
    RansStream& stream = *work.stream;
    std::uint32_t x[kStep];
    for (std::size_t lane = 0; lane < kStep; ++lane) x[lane] = stream.low[lane] | unsigned{stream.high[lane]} << 8;
    const std::uint8_t* next = stream.next;
    for (std::size_t s = from; s < from + count; ++s) {
      const std::uint32_t* slots = work.tables[s]->slot;
      std::uint8_t* symbols = work.symbols + kStep * s;
#pragma GCC unroll 8
      for (std::size_t lane = 0; lane < kStep; ++lane) {
        const std::uint32_t entry = slots[x[lane] & 255];
        const std::uint32_t y = (entry >> 8 & 255) * (x[lane] >> 8) + (entry >> 16);
        const std::uint32_t refill = (y - 256) >> 31;  // no branch: nothing could predict it
        symbols[lane] = static_cast<std::uint8_t>(entry);
        x[lane] = y << (8 * refill) | (*next & (0u - refill));
        next += refill;
      }
    }
    for (std::size_t lane = 0; lane < kStep; ++lane) {
      stream.low[lane] = static_cast<std::uint8_t>(x[lane]);
      stream.high[lane] = static_cast<std::uint8_t>(x[lane] >> 8);
    }
    stream.next = next;
  }

  template <unsigned Streams>
  static void run(const RansWork* work, std::size_t from, std::size_t count) {
    for (unsigned k = 0; k < Streams; ++k) run_one(work[k], from, count);
  }
};

// CRC-32C a byte at a time through eight tables (slicing by 8; Kounavis and Berry, 2005).
struct CrcTables {
  std::uint32_t at[8][256];
  constexpr CrcTables() : at() {
    for (std::uint32_t i = 0; i < 256; ++i) {
      std::uint32_t c = i;
      for (int bit = 0; bit < 8; ++bit) c = (c & 1) != 0 ? 0x82F63B78u ^ c >> 1 : c >> 1;
      at[0][i] = c;
    }
    for (int t = 1; t < 8; ++t)
      for (std::uint32_t i = 0; i < 256; ++i) at[t][i] = at[0][at[t - 1][i] & 255] ^ at[t - 1][i] >> 8;
  }
};
constexpr CrcTables kCrc;

std::uint32_t crc32c_sliced(std::uint32_t crc, const std::uint8_t* data, std::size_t size) {
  for (; size >= 8; size -= 8, data += 8) {
    std::uint32_t low, high;
    std::memcpy(&low, data, 4);
    std::memcpy(&high, data + 4, 4);
    low ^= crc;
    crc = kCrc.at[7][low & 255] ^ kCrc.at[6][low >> 8 & 255] ^ kCrc.at[5][low >> 16 & 255] ^ kCrc.at[4][low >> 24] ^
          kCrc.at[3][high & 255] ^ kCrc.at[2][high >> 8 & 255] ^ kCrc.at[1][high >> 16 & 255] ^ kCrc.at[0][high >> 24];
  }
  for (; size != 0; --size) crc = kCrc.at[0][(crc ^ *data++) & 255] ^ crc >> 8;
  return crc;
}

}  // namespace

const Kernels kPortableKernels = {
    "portable", 1, crc32c_sliced, rans_decode<PortableSteps>, combine<Portable>, find_symbol<Portable>, split<Portable>, count_fields<Portable>, rank_fields<Portable>,
    assign_rows<Portable>, rans_encode, dequantize<Portable>, expand<Portable>, subtract_rows, round_row, &kPortablePanels, &kPortableIntegers, &kPortableRows, &kPortableMoments, &kPortableSkipping, &kPortableMaps};

}  // namespace regrain
