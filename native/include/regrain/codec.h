// The coded payload of one tensor: public interface of the native core. Knows no Python.
// The format is docs/format.md; names here are the names there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "regrain/grid.h"

namespace regrain {

inline constexpr std::size_t kStep = 64;                // words a step: one for each rANS state
inline constexpr std::uint32_t kMaxBlockWords = 65536;  // words
inline constexpr std::size_t kSymbols = 16;
inline constexpr std::size_t kHeadBytes = 52;           // fixed part of the head
inline constexpr std::size_t kTableBytes = 17;          // raw width, 16 frequencies
inline constexpr std::size_t kIndexBytes = 12;          // one block's entry
inline constexpr std::uint32_t kHeadBlock = 0xFFFFFFFFu;

enum class Family : std::uint8_t { floating = 0, integer = 1 };
enum class BlockKind : std::uint8_t { coded = 0, stored = 1, constant = 2 };

// Why a payload is refused. `describe` gives the sentence.
enum class Fault : std::uint8_t {
  none,
  truncated,
  magic,
  family,
  word_bytes,
  alphabet,
  count,
  base,
  block_words,
  row_words,
  values,
  table,
  width,
  reserved,
  index,
  length,
  head_checksum,
  block_checksum,
  classes,
  stream,
  final_state,
  escapes,
  padding,
  range,
  out_of_memory,
  unreadable,
};
const char* describe(Fault fault);

// What is wrong and where. `block` is -1 for the head.
struct Outcome {
  Fault fault = Fault::none;
  std::int64_t block = -1;
  std::size_t job = 0;
  explicit operator bool() const { return fault != Fault::none; }
};

struct Table {
  std::uint8_t raw_bits = 0;
  std::uint8_t freq[kSymbols] = {};  // sums to 256
};

struct BlockEntry {
  std::uint64_t offset = 0;  // bytes from the payload's start
  std::uint32_t length = 0;  // bytes
  std::uint32_t checksum = 0;
  std::uint16_t escapes = 0;
  BlockKind kind = BlockKind::coded;
};

// The parsed and checked head of a payload.
struct Head {
  Family family = Family::floating;
  std::uint8_t word_bytes = 0;
  std::uint8_t mantissa_bits = 0;  // floats: M; integers: k
  std::uint8_t alphabet = 0;       // symbols in use, the escape included
  bool escape = false;             // symbol 15 is the escape
  std::uint64_t count = 0;         // words
  std::uint64_t base = 0;          // integers only
  std::uint32_t block_words = 0;
  std::uint32_t row_words = 0;  // 0 unless rows have classes
  std::uint8_t values[kSymbols] = {};
  std::uint8_t tables_count = 0;  // 0: each block brings its own
  Table tables[kSymbols];
  std::vector<BlockEntry> blocks;

  std::uint64_t words_in_block(std::uint64_t block) const {
    const std::uint64_t start = block * block_words;
    return count - start < block_words ? count - start : block_words;
  }
};

// CRC-32C (Castagnoli); continues from `crc`, 0 to start.
std::uint32_t crc32c(std::uint32_t crc, const void* data, std::size_t size);
// The checksum of one part of a tensor: CRC-32C over seed, block number and bytes.
std::uint32_t seeded_crc(std::uint32_t seed, std::uint32_t block, const void* data, std::size_t size);

// Bytes that stand in memory, or in an open file from `offset` on, which are read when they are needed: a file that is
// cut short meanwhile is an error then, where a mapping of it would be a signal.
struct Bytes {
  const std::uint8_t* memory = nullptr;
  int file = -1;
  std::uint64_t offset = 0;
  std::size_t size = 0;
};

// Bytes of the head of a payload of `size` bytes that starts with `fixed` (kHeadBytes); 0 if it can't be one.
std::size_t head_size(const std::uint8_t* fixed, std::size_t size);
// Reads and checks the head; `head_bytes` must have head_size() of them. Allocates at most in proportion to that.
Fault parse_head(const std::uint8_t* head_bytes, std::size_t size, std::uint32_t seed, Head& head);
// Fetches and parses the head of a payload.
Fault read_head(const Bytes& payload, std::uint32_t seed, Head& head);

// One piece of work: words [first, first + count) of a payload into `out` (count words).
struct DecodeJob {
  Bytes payload;
  std::uint32_t seed = 0;
  std::uint8_t word_bytes = 0;  // what the caller expects; must equal the head's
  std::uint8_t* out = nullptr;
  std::uint64_t first = 0;
  std::uint64_t count = 0;
  bool whole = true;  // the payload must hold exactly `count` words
  const Grid* grid = nullptr;  // if any, the words are signed indices, and `out` is for their weights
};
// Decodes all jobs, threaded over their blocks. On a fault the contents of `out` are unspecified.
Outcome decode(std::span<const DecodeJob> jobs, unsigned threads);

struct EncodeRequest {
  const std::uint8_t* words = nullptr;
  std::uint64_t count = 0;      // words, at least 1
  std::uint8_t word_bytes = 0;  // 1, 2, 4, 8
  Family family = Family::floating;
  std::uint8_t mantissa_bits = 0;  // floats only
  std::uint64_t row_words = 0;     // words in one slice of the first axis; divides count
  std::uint32_t seed = 0;
};
// Largest payload that `encode` can write for `count` words, and the space it needs to work in.
std::size_t bound(std::uint64_t count, std::size_t word_bytes);
// Writes the payload to `out` (bound() bytes); gives its size, or 0 where the words don't fit the
// format (integers whose range is over 32 bits).
std::size_t encode(const EncodeRequest& request, std::uint8_t* out, unsigned threads);

// Instruction sets this build has and this machine runs, best last.
std::vector<const char*> instruction_sets();
bool use_instruction_set(const char* name);  // false: not available here
const char* instruction_set();

// Bench and test hook: the rANS kernel alone, `blocks` (1, 2 or 4) payload blocks in lockstep, symbols only.
// Gives symbols decoded, 0 on a fault.
std::uint64_t decode_symbols(const std::uint8_t* payload, std::size_t size, std::uint32_t seed,
                             unsigned lockstep, std::uint8_t* symbols);

}  // namespace regrain
