// What an instruction set provides. One table of pointers each, filled by isa/<name>.cpp, chosen once from cpuid.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../alias.h"
#include "regrain/grid.h"

namespace regrain {

// Where one block's rANS decoder stands. States are kept as two planes of bytes.
struct RansStream {
  alignas(64) std::uint8_t low[kStep];
  alignas(64) std::uint8_t high[kStep];
  const std::uint8_t* next;      // the next renormalization byte
  const std::uint8_t* end;       // of the stream
  const std::uint8_t* readable;  // bytes before this may be read (not used): the block's end
  bool overrun;                  // the stream ended too early; symbols since then mean nothing
};

// One lockstep member: `steps` tables (one a step) and 64 * steps bytes for symbols.
struct RansWork {
  RansStream* stream;
  const AliasTable* const* tables;
  std::uint8_t* symbols;
};

struct IntegerKernels;
struct MapKernels;
struct MomentKernels;
struct PanelKernels;
struct RowKernels;
struct SkipKernels;

// How a word is put together from a field value and raw bits.
struct WordLayout {
  Family family;
  std::uint8_t word_bytes;
  std::uint8_t shift;           // of the field value: M or k
  std::uint8_t raw_bits;        // w
  std::uint64_t base;           // integers
  alignas(16) std::uint8_t values[kSymbols];
};

// The raw planes of a run, at some step: null where the width has no such plane.
template <class Byte>
struct Planes {
  Byte* bytes[3] = {};
  Byte* four = nullptr;
  Byte* two = nullptr;
  Byte* one = nullptr;
};
using RawPlanes = Planes<const std::uint8_t>;
using RawSinks = Planes<std::uint8_t>;

// The inverse of an alias table. x / f is a multiplication and a shift (docs/rans.md): exact with 24 bits, one too small
// at most with 16.
struct alignas(64) EncoderTable {
  std::uint8_t slot[256];      // slots of symbol 0, of symbol 1, ...
  std::uint8_t freq[kSymbols];
  std::uint8_t start[kSymbols];               // where a symbol's slots start
  std::uint8_t reciprocal16[2][kSymbols];     // low and high byte of min(65535, 2^16 / f)
  std::uint32_t reciprocal[kSymbols];         // ceil(2^24 / f)
  std::uint8_t kept[kSymbols];                // the symbol itself, or the escape where it has no frequency
  std::uint8_t filler;                        // the symbol that pads the last step
};

struct Kernels {
  const char* name;
  unsigned lockstep;  // blocks a thread should decode together
  std::uint32_t (*crc32c)(std::uint32_t state, const std::uint8_t* data, std::size_t size);  // no pre/post inversion
  // Decodes `steps` steps of 1 to 4 streams in lockstep. Never reads outside a block, whatever is in it.
  void (*rans_decode)(const RansWork* work, unsigned streams, std::size_t steps);
  // 64 * steps words from symbols and planes.
  void (*combine)(const WordLayout& layout, const std::uint8_t* symbols, const RawPlanes& planes, std::size_t steps,
                  std::uint8_t* out);
  // Writes where `symbol` stands among `count` symbols (at most 65536), ascending; gives how many. Reads whole steps.
  std::size_t (*find_symbol)(const std::uint8_t* symbols, std::size_t count, std::uint8_t symbol, std::uint16_t* places);
  // The inverse: planes and field values (before ranking) from 64 * steps words.
  void (*split)(const WordLayout& layout, const std::uint8_t* words, std::size_t steps, std::uint8_t* fields,
                const RawSinks& sinks);
  void (*count_fields)(const std::uint8_t* fields, std::size_t steps, const std::uint8_t* values, unsigned named,
                       std::uint32_t* counts);
  // Symbols of fields: s where the field is values[s], else 15; 15 too where the step's table has no frequency for s.
  void (*rank_fields)(const std::uint8_t* fields, std::size_t steps, const std::uint8_t* values, unsigned named,
                      const EncoderTable* const* tables, std::uint8_t* symbols);
  void (*assign_rows)(const std::uint32_t* rows, std::size_t count, const std::uint32_t* costs, std::uint8_t* class_of);
  // Encodes backwards; the stream grows down from `next`, which needs 64 bytes below for each step and 64 more.
  std::uint8_t* (*rans_encode)(const EncoderTable* const* tables, const std::uint8_t* symbols, std::size_t steps,
                               std::uint16_t* states, std::uint8_t* next);
  // Element i of `count` has scales[(skip + i) / run]; skip < run. See `dequantize` in regrain/grid.h.
  void (*dequantize)(Weight type, const std::uint8_t* indices, std::size_t index_bytes, const float* scales,
                     std::uint64_t run, std::uint64_t skip, std::uint64_t count, std::uint8_t* out);
  // Words of 1, 2 or 4 bytes: the next value where `mask` is not 0, else 0. Reads no value from `end` on, where the kept
  // ones end at the latest. Gives where the values go on.
  const std::uint8_t* (*expand)(std::size_t word_bytes, const std::uint8_t* mask, std::uint64_t count,
                                const std::uint8_t* values, const std::uint8_t* end, std::uint8_t* out);
  // isa/feedback.h
  void (*subtract_rows)(float* target, const float* rows, std::size_t columns, const float* factor, std::size_t stride,
                        std::size_t count);
  void (*round_row)(const float* wanted, float* target, const float* steps, std::size_t columns, const float* factor,
                    float dead_zone, std::int16_t* indices, float* error);
  // Tables of families that have files of their own: isa/<family>_<name>.cpp.
  const PanelKernels* panels;
  const IntegerKernels* integers;
  const RowKernels* rows;
  const MomentKernels* moments;
  const SkipKernels* skipping;
  const MapKernels* maps;
};

extern const Kernels kPortableKernels;
#if defined(__x86_64__)
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
#endif

const Kernels& kernels();  // the ones in use

}  // namespace regrain
