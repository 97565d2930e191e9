// One coded block on its way to words: checked, laid out, decoded in chunks that stay in the first-level cache.
#pragma once

#include <vector>

#include "isa/kernels.h"
#include "regrain/codec.h"

namespace regrain {

inline constexpr std::size_t kChunkSteps = 64;  // steps decoded before their words are put together: 4096 words
inline constexpr std::size_t kMaxSteps = kMaxBlockWords / kStep;

// A head with what decoding needs beside it.
struct OpenPayload {
  Head head;
  std::vector<AliasTable> tables;
};

// Where a block's words [first, last) go, or the weights that they stand for.
struct Target {
  std::uint8_t* out;    // word `first`
  std::uint64_t first;  // within the block
  std::uint64_t last;
  const Grid* grid;         // null: words go out as they are
  std::uint64_t element;  // of the matrix, that is word 0 of the block
};

// Decodes one block. Used for block after block, so that it allocates once.
class BlockDecoder {
 public:
  BlockDecoder();
  // Checks the block's checksum and layout. `entry.kind` must be coded.
  Fault open(const OpenPayload& payload, const std::uint8_t* bytes, const BlockEntry& entry, std::uint64_t words,
             const Target& target);
  std::size_t steps_left() const { return steps_needed_ - step_; }
  // Starts fetching the lines that the next `steps` will write: a store that misses waits, a prefetch does not.
  void prefetch_target(std::size_t steps) const;
  // The next `steps` (at most kChunkSteps) as one member of a lockstep call.
  RansWork work();
  // After the call: makes words of the symbols decoded. Checks the end when the last step is done.
  Fault emit(std::size_t steps);

 private:
  struct Run {                // consecutive rows with the same raw width
    std::size_t first, last;  // steps of the block
    std::uint8_t raw_bits;
    RawPlanes planes;  // at the run's first step
  };

  Fault read_classes(const std::uint8_t* at, std::size_t rows);
  Fault lay_out_planes(const std::uint8_t*& at, const std::uint8_t* end);
  Fault finish();
  Fault emit_words(std::size_t steps);
  std::uint8_t* place(std::uint64_t word) const { return words_out_ + (word - words_from_) * layout_.word_bytes; }
  void emit_steps(const Run& run, std::size_t from, std::size_t to);
  void emit_through_scratch(const Run& run, std::size_t step);
  Fault patch_escapes(std::size_t steps);

  const OpenPayload* payload_ = nullptr;
  WordLayout layout_{};
  Target target_{};
  std::uint8_t* words_out_ = nullptr;  // where word `words_from_` goes: to the target, or to indices_
  std::uint64_t words_from_ = 0;
  std::uint64_t words_ = 0;       // in the block
  std::size_t steps_ = 0;         // in the block
  std::size_t steps_needed_ = 0;  // for the target
  std::size_t step_ = 0;          // next to decode
  unsigned field_limit_ = 256;    // escaped field values are below it
  bool carries_ = false;          // the final states hold the last 64 bytes of byte plane 0
  const std::uint8_t* escape_ = nullptr;
  const std::uint8_t* escapes_end_ = nullptr;
  AliasTable own_{};
  std::vector<Run> runs_;
  std::size_t run_ = 0;  // holds step_
  std::vector<const AliasTable*> step_tables_;
  RansStream stream_{};
  alignas(64) std::uint8_t symbols_[kChunkSteps * kStep];
  alignas(64) std::uint8_t indices_[kChunkSteps * kStep * 2];  // of a chunk
};

}  // namespace regrain
