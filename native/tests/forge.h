// Writes payloads straight from docs/format.md, sharing only the alias table with the coder: any blocks that a head
// allows, most of which no encoder would choose. For tests, and as seeds of the fuzzer.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "alias.h"
#include "bytes.h"
#include "random_head.h"
#include "regrain/codec.h"

namespace regrain::testing {

using Buffer = std::vector<std::uint8_t>;

inline Bytes in_memory(const Buffer& buffer) { return {buffer.data(), -1, 0, buffer.size()}; }

struct Forged {
  Buffer payload, words;
  std::uint8_t word_bytes = 0;
  std::uint32_t seed = 0;
  std::uint64_t count() const { return words.size() / word_bytes; }
};

// One block while it is written.
class BlockWriter {
 public:
  BlockWriter(const Head& head, std::uint64_t words, Random& random) : head_(head), words_(words), random_(random) {
    steps_ = static_cast<std::size_t>((words + kStep - 1) / kStep);
  }

  Buffer bytes, words;
  BlockEntry entry;

  void write(BlockKind kind) {
    entry.kind = kind;
    if (kind == BlockKind::coded) return code();
    for (std::uint64_t i = 0; i < words_ * head_.word_bytes; ++i)
      words.push_back(kind == BlockKind::constant && i >= head_.word_bytes ? words[i - head_.word_bytes]
                                                                           : static_cast<std::uint8_t>(random_.next()));
    bytes.assign(words.begin(), kind == BlockKind::constant ? words.begin() + head_.word_bytes : words.end());
  }

 private:
  const Table& table_of(std::uint64_t word) const {
    if (head_.tables_count == 0) return own_;
    return head_.tables[head_.tables_count == 1 ? 0 : classes_[word / head_.row_words]];
  }

  void code() {
    if (head_.tables_count == 0) {
      const unsigned width = head_.family == Family::integer ? head_.mantissa_bits
                                                             : static_cast<unsigned>(random_.between(0, widest(head_)));
      own_ = random_table(head_, width, random_);
      bytes.push_back(own_.raw_bits);
      bytes.insert(bytes.end(), own_.freq, own_.freq + kSymbols);
    } else if (head_.tables_count > 1) {
      for (std::uint64_t row = 0; row < words_ / head_.row_words; ++row) {
        classes_.push_back(static_cast<std::uint8_t>(random_.below(head_.tables_count)));
        if (row % 2 == 0)
          bytes.push_back(classes_.back());
        else
          bytes.back() = static_cast<std::uint8_t>(bytes.back() | classes_.back() << 4);
      }
    }
    choose();
    lay_planes();
    run_coder();
    bytes.insert(bytes.end(), planes_.begin(), planes_.end());
    bytes.insert(bytes.end(), escapes_.begin(), escapes_.end());
    entry.escapes = static_cast<std::uint16_t>(escapes_.size());
  }

  // Symbols as often as their table has them, any raw bits, any escaped value; padding is anything.
  void choose() {
    const unsigned field = field_bits(head_);
    for (std::size_t i = 0; i < kStep * steps_; ++i) {
      unsigned symbol = 0;
      const Table& table = table_of(i / kStep * kStep);
      for (std::uint64_t slot = random_.below(256); slot >= table.freq[symbol]; ++symbol) slot -= table.freq[symbol];
      symbols_.push_back(static_cast<std::uint8_t>(symbol));
      if (i >= words_) continue;
      std::uint64_t value = head_.values[symbol];
      if (head_.escape && symbol == 15) {
        value = random_.below(std::uint64_t{1} << field);
        escapes_.push_back(static_cast<std::uint8_t>(value));
      }
      const unsigned w = table_of(i).raw_bits;
      raw_.push_back(random_.next() & ((std::uint64_t{1} << w) - 1));
      const std::uint64_t word = word_of(value, raw_.back(), w);
      for (unsigned b = 0; b < head_.word_bytes; ++b) words.push_back(static_cast<std::uint8_t>(word >> (8 * b)));
    }
  }

  std::uint64_t word_of(std::uint64_t value, std::uint64_t raw, unsigned w) const {
    const unsigned m = head_.mantissa_bits;
    if (head_.family == Family::integer) return head_.base + (value << m | raw);
    if (w == 0) return value << m;
    const std::uint64_t sign = raw >> (w - 1), mantissa = raw & ((std::uint64_t{1} << (w - 1)) - 1);
    return sign << (8 * head_.word_bytes - 1) | value << m | mantissa << (m + 1 - w);
  }

  void lay_planes() {
    for (std::uint64_t from = 0, to = 0; from < words_; from = to) {
      const unsigned w = table_of(from).raw_bits;
      for (to = from; to < words_ && table_of(to).raw_bits == w;) ++to;
      lay_run(from, to, w);
    }
  }

  void lay_run(std::uint64_t from, std::uint64_t to, unsigned w) {
    const std::size_t steps = static_cast<std::size_t>((to - from + kStep - 1) / kStep);
    const auto raw = [&](std::uint64_t i) { return from + i < to ? raw_[from + i] : 0; };
    for (unsigned plane = 0; plane < w / 8; ++plane)
      for (std::size_t i = 0; i < kStep * steps; ++i) {
        const std::uint8_t byte = static_cast<std::uint8_t>(raw(i) >> (8 * plane));
        if (to == words_ && plane == 0 && i >= kStep * (steps - 1))
          carried_[i % kStep] = byte;
        else
          planes_.push_back(byte);
      }
    unsigned shift = w / 8 * 8;
    for (unsigned bits = 4; bits != 0; bits /= 2) {
      if ((w & bits) == 0) continue;
      for (std::size_t step = 0; step < steps; ++step) {
        std::uint8_t* plane = &*planes_.insert(planes_.end(), 8 * bits, 0);
        for (unsigned j = 0; j < kStep; ++j) {
          const unsigned part = static_cast<unsigned>(raw(kStep * step + j) >> shift) & ((1u << bits) - 1);
          const unsigned byte = bits == 4 ? j % 32 : bits == 2 ? j % 16 : j / 8;
          const unsigned bit = bits == 4 ? j / 32 * 4 : bits == 2 ? j / 16 * 2 : j % 8;
          plane[byte] = static_cast<std::uint8_t>(plane[byte] | part << bit);
        }
      }
      shift += bits;
    }
  }

  void find_slots(const Table& table) {
    AliasTable alias;
    build_alias(table.freq, alias);
    for (unsigned slot = 0; slot < 256; ++slot)
      slots_[alias.slot[slot] & 255][alias.slot[slot] >> 16] = static_cast<std::uint8_t>(slot);
  }

  void run_coder() {
    unsigned states[kStep];
    for (std::size_t lane = 0; lane < kStep; ++lane) states[lane] = 0x100u | carried_[lane];
    Buffer stream;  // backwards
    for (std::size_t i = kStep * steps_; i-- > 0;) {
      const Table& table = table_of(i / kStep * kStep);
      if (i % kStep == kStep - 1) find_slots(table);
      const unsigned symbol = symbols_[i], freq = table.freq[symbol];
      unsigned& x = states[i % kStep];
      if (x >= freq << 8) {
        stream.push_back(static_cast<std::uint8_t>(x));
        x >>= 8;
      }
      x = x / freq << 8 | slots_[symbol][x % freq];
    }
    for (const unsigned x : states) {
      bytes.push_back(static_cast<std::uint8_t>(x));
      bytes.push_back(static_cast<std::uint8_t>(x >> 8));
    }
    bytes.insert(bytes.end(), stream.rbegin(), stream.rend());
  }

  const Head& head_;
  const std::uint64_t words_;
  Random& random_;
  std::size_t steps_ = 0;
  Table own_;
  std::uint8_t slots_[kSymbols][256] = {};
  Buffer classes_, symbols_, planes_, escapes_;
  std::vector<std::uint64_t> raw_;
  std::uint8_t carried_[kStep] = {};
};

inline void put_head(const Head& head, std::uint32_t seed, Buffer& out) {
  out.assign(kHeadBytes, 0);
  std::memcpy(out.data(), "rgP1", 4);
  out[4] = static_cast<std::uint8_t>(head.family);
  out[5] = head.word_bytes;
  out[6] = head.mantissa_bits;
  out[7] = static_cast<std::uint8_t>(head.alphabet | (head.escape ? 0x80 : 0));
  write_le(out.data() + 8, head.count);
  write_le(out.data() + 16, head.base);
  write_le(out.data() + 24, head.block_words);
  write_le(out.data() + 28, head.row_words);
  std::memcpy(out.data() + 32, head.values, kSymbols);
  out[48] = head.tables_count;
  for (unsigned t = 0; t < head.tables_count; ++t) {
    out.push_back(head.tables[t].raw_bits);
    out.insert(out.end(), head.tables[t].freq, head.tables[t].freq + kSymbols);
  }
  for (const BlockEntry& entry : head.blocks) {
    std::uint8_t bytes[kIndexBytes] = {};
    write_le(bytes, entry.length);
    write_le(bytes + 4, entry.checksum);
    write_le(bytes + 8, entry.escapes);
    bytes[10] = static_cast<std::uint8_t>(entry.kind);
    out.insert(out.end(), bytes, bytes + kIndexBytes);
  }
  std::uint8_t checksum[4];
  write_le(checksum, seeded_crc(seed, kHeadBlock, out.data(), out.size()));
  out.insert(out.end(), checksum, checksum + 4);
}

// A valid payload for a head without its block index, and the words that it holds.
inline Forged forge(Head head, std::uint32_t seed, Random& random, bool all_coded = false) {
  Forged forged;
  forged.word_bytes = head.word_bytes;
  forged.seed = seed;
  Buffer blocks;
  const std::uint64_t count = (head.count - 1) / head.block_words + 1;
  for (std::uint64_t block = 0; block < count; ++block) {
    BlockWriter writer(head, head.words_in_block(block), random);
    const std::uint64_t kind = all_coded ? 0 : random.below(6);
    writer.write(head.alphabet < 2 || kind == 1 ? random.one_in(2) ? BlockKind::stored : BlockKind::constant
                                                : BlockKind::coded);
    writer.entry.length = static_cast<std::uint32_t>(writer.bytes.size());
    writer.entry.checksum =
        seeded_crc(seed, static_cast<std::uint32_t>(block), writer.bytes.data(), writer.bytes.size());
    head.blocks.push_back(writer.entry);
    blocks.insert(blocks.end(), writer.bytes.begin(), writer.bytes.end());
    forged.words.insert(forged.words.end(), writer.words.begin(), writer.words.end());
  }
  put_head(head, seed, forged.payload);
  forged.payload.insert(forged.payload.end(), blocks.begin(), blocks.end());
  forged.payload.resize((forged.payload.size() + 7) / 8 * 8, 0);
  return forged;
}

}  // namespace regrain::testing
