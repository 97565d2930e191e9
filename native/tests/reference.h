// A reader that follows docs/format.md word for word, and nothing else: slow, and shares no code with the decoder but
// the checksum. Decoder and fuzzer are compared with it: the same payloads refused, the same words read.
#pragma once

#include "forge.h"

namespace regrain::testing {

// Reads a whole payload. `refused` says which rule of section 3 it broke; 0 for none.
class Reference {
 public:
  Reference(const Buffer& payload, std::uint32_t seed) : p_(payload), seed_(seed) { refused = read(); }

  int refused = 0;
  Buffer words;

 private:
  struct Slot {
    unsigned symbol, rest;
  };

  std::uint64_t number(std::size_t at, unsigned bytes) const {
    std::uint64_t value = 0;
    for (unsigned b = 0; b < bytes; ++b) value |= std::uint64_t{p_[at + b]} << (8 * b);
    return value;
  }

  std::uint32_t checksum(std::uint32_t part, std::size_t from, std::size_t to) const {
    return seeded_crc(seed_, part, p_.data() + from, to - from);
  }

  int read() {
    if (p_.size() < 56) return 1;
    if (std::memcmp(p_.data(), "rgP1", 4) != 0) return 2;
    tables_ = p_[48];
    count_ = number(8, 8);
    block_words_ = number(24, 4);
    if (tables_ > 16 || count_ == 0 || block_words_ < 1 || block_words_ > 65536) return 3;
    const std::uint64_t blocks = (count_ - 1) / block_words_ + 1;
    if (blocks >= 0xFFFFFFFF) return 3;
    const std::size_t index = 52 + 17 * tables_;
    if (blocks > p_.size() / 12 || index + 12 * blocks + 4 > p_.size()) return 1;
    const std::size_t sealed = index + 12 * blocks;
    if (checksum(0xFFFFFFFF, 0, sealed) != number(sealed, 4)) return 4;
    if (const int rule = read_fields()) return rule;
    for (unsigned t = 0; t < tables_; ++t)
      if (!table_is_sound(52 + 17 * t) || (p_[52 + 17 * t] != p_[52] && row_words_ % 64 != 0)) return 12;
    std::uint64_t at = sealed + 4;
    for (std::uint64_t i = 0; i < blocks; ++i) {
      const std::size_t entry = index + 12 * i;
      const std::uint64_t length = number(entry, 4), n = words_in(i);
      if (p_[entry + 10] > 2 || p_[entry + 11] != 0) return 13;
      if (p_[entry + 10] != 0 && number(entry + 8, 2) != 0) return 14;
      if (p_[entry + 10] == 0 && length > 1024 + 256 * ((n + 63) / 64) + number(entry + 8, 2)) return 15;
      if ((p_[entry + 10] == 1 && length != n * B_) || (p_[entry + 10] == 2 && length != B_)) return 15;
      at += length;
    }
    if ((at + 7) / 8 * 8 != p_.size()) return 16;
    for (; at < p_.size(); ++at)
      if (p_[at] != 0) return 17;
    at = sealed + 4;
    for (std::uint64_t i = 0; i < blocks; ++i) {
      const std::size_t entry = index + 12 * i, from = at;
      at += number(entry, 4);
      if (checksum(static_cast<std::uint32_t>(i), from, at) != number(entry + 4, 4)) return 17;
      if (const int rule = read_block(p_[entry + 10], from, at, number(entry + 8, 2), words_in(i))) return rule;
    }
    return 0;
  }

  std::uint64_t words_in(std::uint64_t block) const { return std::min(block_words_, count_ - block * block_words_); }

  int read_fields() {
    if (p_[49] != 0 || p_[50] != 0 || p_[51] != 0) return 5;
    if (p_[4] > 1) return 6;
    float_ = p_[4] == 0;
    B_ = p_[5];
    bits_ = p_[6];
    if (float_) {
      if (!((B_ == 1 && bits_ == 2) || (B_ == 1 && bits_ == 3) || (B_ == 2 && bits_ == 7) || (B_ == 2 && bits_ == 10) ||
            (B_ == 4 && bits_ == 23)))
        return 7;
    } else if ((B_ != 1 && B_ != 2 && B_ != 4 && B_ != 8) || bits_ > std::min(24u, 8 * B_)) {
      return 7;
    }
    base_ = number(16, 8);
    if (float_ ? base_ != 0 : B_ < 8 && base_ >> (8 * B_) != 0) return 8;
    const unsigned A = p_[7] & 0x1F;
    alphabet_ = A;
    escape_ = p_[7] >= 0x80;
    if (A < 1 || A > 16 || (escape_ && A != 16) || (p_[7] & 0x60) != 0) return 9;
    limit_ = 1u << (float_ ? 8 * B_ - 1 - bits_ : std::min(8u, 8 * B_ - bits_));
    for (unsigned s = 0; s < 16; ++s) {
      const bool named = s < A && !(escape_ && s == 15);
      if (named ? p_[32 + s] >= limit_ : p_[32 + s] != 0) return 10;
      for (unsigned other = 0; named && other < s; ++other)
        if (p_[32 + other] == p_[32 + s]) return 10;
    }
    row_words_ = number(28, 4);
    if (tables_ <= 1 ? row_words_ != 0 : row_words_ < 64 || block_words_ % row_words_ != 0 || count_ % row_words_ != 0)
      return 11;
    return 0;
  }

  bool table_is_sound(std::size_t at) const {
    unsigned sum = 0;
    for (unsigned s = 0; s < 16; ++s) {
      sum += p_[at + 1 + s];
      if (s >= alphabet_ && p_[at + 1 + s] != 0) return false;
    }
    return sum == 256 && (float_ ? p_[at] <= bits_ + 1 : p_[at] == bits_);
  }

  // Section 2.4.
  void fill_slots(std::size_t table, Slot (&slots)[256]) const {
    unsigned rest[16], used[16] = {};
    for (unsigned s = 0; s < 16; ++s) rest[s] = p_[table + 1 + s];
    for (unsigned b = 0; b < 16; ++b) {
      unsigned s = 16, L = 0;
      for (unsigned i = 0; i < 16; ++i)
        if (rest[i] != 0 && (s == 16 || rest[i] < rest[s])) s = i;
      const unsigned t = std::min(rest[s], 16u);
      for (unsigned l = 0; l < t; ++l) slots[16 * b + l] = {s, used[s] + l};
      used[s] += t;
      rest[s] -= t;
      if (t == 16) continue;
      for (unsigned i = 0; i < 16; ++i)
        if (rest[i] > rest[L]) L = i;
      for (unsigned l = t; l < 16; ++l) slots[16 * b + l] = {L, used[L] + l - t};
      used[L] += 16 - t;
      rest[L] -= 16 - t;
    }
  }

  int read_block(unsigned kind, std::size_t at, std::size_t end, std::uint64_t escapes, std::uint64_t n) {
    if (kind != 0) {
      for (std::uint64_t i = 0; i < n * B_; ++i) words.push_back(p_[at + (kind == 2 ? i % B_ : i)]);
      return 0;
    }
    const std::uint64_t rows = tables_ > 1 ? n / row_words_ : 0, steps = (n + 63) / 64;
    std::uint64_t front = tables_ == 0 ? 17 : (rows + 1) / 2;
    if (end - at < front + 128 + escapes) return 20;
    if (tables_ == 0 && !table_is_sound(at)) return 18;
    Buffer classes;
    for (std::uint64_t row = 0; row < rows; ++row) {
      classes.push_back(p_[at + row / 2] >> (row % 2 * 4) & 15);
      if (classes.back() >= tables_) return 19;
    }
    if (rows % 2 != 0 && p_[at + rows / 2] >> 4 != 0) return 19;
    // where the table of a word's own row stands
    const auto table_at = [&](std::uint64_t word) {
      return tables_ == 0 ? at : 52 + 17 * (tables_ == 1 ? 0 : std::size_t{classes[word / row_words_]});
    };
    // the planes: each run of words with equal raw bits
    struct Run {
      std::uint64_t from, to, w;
    };
    std::vector<Run> runs;
    for (std::uint64_t i = 0; i < n; i += tables_ > 1 ? row_words_ : n) {
      const std::uint64_t w = p_[table_at(i)], to = tables_ > 1 ? i + row_words_ : n;
      if (runs.empty() || runs.back().w != w) runs.push_back({i, to, w});
      runs.back().to = to;
    }
    const bool carries = runs.back().w >= 8;
    std::uint64_t planes = 0;
    for (const Run& run : runs) planes += 8 * run.w * ((run.to - run.from + 63) / 64);
    if (carries) planes -= 64;
    if (end - at < front + 128 + escapes + planes) return 20;
    const std::size_t states_at = at + front, stream_end = end - escapes - planes;
    std::size_t stream = states_at + 128, escape = end - escapes, plane = stream_end;
    unsigned state[64];
    for (unsigned lane = 0; lane < 64; ++lane)
      if ((state[lane] = static_cast<unsigned>(number(states_at + 2 * lane, 2))) < 256) return 21;
    // section 2.3
    std::vector<unsigned> values;
    Slot slots[256];
    for (std::uint64_t step = 0; step < steps; ++step) {
      fill_slots(table_at(64 * step), slots);
      for (unsigned lane = 0; lane < 64; ++lane) {
        const Slot slot = slots[state[lane] % 256];
        state[lane] = p_[table_at(64 * step) + 1 + slot.symbol] * (state[lane] / 256) + slot.rest;
        if (state[lane] < 256) {
          if (stream == stream_end) return 22;
          state[lane] = 256 * state[lane] + p_[stream++];
        }
        if (values.size() == n) continue;
        if (escape_ && slot.symbol == 15) {
          if (escape == end) return 24;
          if (p_[escape] >= limit_) return 25;
          values.push_back(p_[escape++]);
        } else {
          values.push_back(p_[32 + slot.symbol]);
        }
      }
    }
    if (stream != stream_end) return 22;
    if (escape != end) return 24;
    for (const unsigned x : state)
      if (x < 0x100 || x > (carries ? 0x1FFu : 0x100u)) return 23;
    // section 2.5
    for (const Run& run : runs) {
      const std::uint64_t m = run.to - run.from, Z = (m + 63) / 64;
      std::vector<std::uint64_t> R(m);
      for (unsigned j = 0; j < run.w / 8; ++j)
        for (std::uint64_t i = 0; i < 64 * Z; ++i) {
          const bool carried = carries && run.to == n && j == 0 && i / 64 == Z - 1;
          const std::uint64_t byte = carried ? state[i % 64] - 0x100 : p_[plane++];
          if (i < m) R[i] |= byte << (8 * j);
        }
      unsigned done = static_cast<unsigned>(run.w / 8 * 8);
      for (const unsigned bits : {4u, 2u, 1u}) {
        if ((run.w & bits) == 0) continue;
        for (std::uint64_t i = 0; i < m; ++i) {
          const unsigned j = i % 64, byte = bits == 1 ? j / 8 : j % (8 * bits),
                         from = bits == 1 ? j % 8 : bits * (j / (8 * bits));
          R[i] |= std::uint64_t{p_[plane + i / 64 * 8 * bits + byte] >> from & ((1u << bits) - 1)} << done;
        }
        plane += 8 * bits * Z;
        done += bits;
      }
      for (std::uint64_t i = 0; i < m; ++i) put_word(values[run.from + i], R[i], static_cast<unsigned>(run.w));
    }
    return 0;
  }

  // Section 2.6.
  void put_word(std::uint64_t v, std::uint64_t R, unsigned w) {
    std::uint64_t word = v << bits_;
    if (!float_)
      word = base_ + (v << bits_ | R);
    else if (w >= 1)
      word |= R >> (w - 1) << (8 * B_ - 1) | (R & ((std::uint64_t{1} << (w - 1)) - 1)) << (bits_ + 1 - w);
    for (unsigned b = 0; b < B_; ++b) words.push_back(static_cast<std::uint8_t>(word >> (8 * b)));
  }

  const Buffer& p_;
  const std::uint32_t seed_;
  bool float_ = false, escape_ = false;
  unsigned B_ = 0, bits_ = 0, tables_ = 0, alphabet_ = 0, limit_ = 0;
  std::uint64_t count_ = 0, base_ = 0, block_words_ = 0, row_words_ = 0;
};

}  // namespace regrain::testing
