// What the native tests share: counting checks, and running them on every instruction set.
#pragma once

#include <cinttypes>
#include <cstdio>
#include <string>

#include "forge.h"

namespace regrain::testing {

inline constexpr std::uint32_t kSeed = 0x5EED1234;

inline unsigned passed = 0, failed = 0;

inline void check(bool good, const std::string& what) {
  ++(good ? passed : failed);
  if (!good) std::printf("FAILED on %s: %s\n", instruction_set(), what.c_str());
}

inline Outcome read(const Buffer& payload, std::uint32_t seed, unsigned word_bytes, std::uint64_t first,
                    std::uint64_t count, bool whole, Buffer& out, unsigned threads = 1) {
  out.assign(count * word_bytes, 0xA5);
  const DecodeJob job{in_memory(payload), seed, static_cast<std::uint8_t>(word_bytes), out.data(), first, count, whole};
  return decode({&job, 1}, threads);
}

inline std::string name(const Head& head) {
  char text[120];
  std::snprintf(text, sizeof text,
                "%s of %u bytes, bits %u, %u tables, alphabet %u%s, %" PRIu64 " words by %u, rows %u",
                head.family == Family::floating ? "floats" : "integers", head.word_bytes, head.mantissa_bits,
                head.tables_count, head.alphabet, head.escape ? "+" : "", head.count, head.block_words, head.row_words);
  return text;
}

// Calls `work` once for each instruction set; gives main's result.
template <class Work>
int on_every_instruction_set(const Work& work) {
  for (const char* set : instruction_sets()) {
    const unsigned before = passed + failed;
    check(use_instruction_set(set) && instruction_set() == std::string(set), "choosing it");
    work();
    std::printf("%s: %u checks\n", set, passed + failed - before);
  }
  std::printf("%u passed, %u failed\n", passed, failed);
  return failed == 0 ? 0 : 1;
}

}  // namespace regrain::testing
