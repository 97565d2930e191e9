// Writing payloads: the plan, then every block by itself, then the head in front of them.
#include <algorithm>
#include <cstring>

#include "bytes.h"
#include "planes.h"
#include "plan.h"
#include "pool.h"

namespace regrain {
namespace {

void build_encoder(const Table& table, EncoderTable& encoder) {
  AliasTable alias;
  build_alias(table.freq, alias);
  unsigned start = 0;
  encoder.filler = 0;
  for (unsigned s = 0; s < kSymbols; ++s) {
    const std::uint32_t f = table.freq[s];
    const std::uint32_t reciprocal16 = f < 2 ? 65535 : 65536 / f;
    encoder.freq[s] = static_cast<std::uint8_t>(f);
    encoder.start[s] = static_cast<std::uint8_t>(start);
    encoder.reciprocal[s] = f == 0 ? 0 : ((1u << 24) + f - 1) / f;
    encoder.reciprocal16[0][s] = static_cast<std::uint8_t>(reciprocal16);
    encoder.reciprocal16[1][s] = static_cast<std::uint8_t>(reciprocal16 >> 8);
    encoder.kept[s] = static_cast<std::uint8_t>(f == 0 ? 15 : s);
    if (f > table.freq[encoder.filler]) encoder.filler = static_cast<std::uint8_t>(s);
    start += f;
  }
  for (unsigned slot = 0; slot < 256; ++slot) {
    const std::uint32_t entry = alias.slot[slot];
    encoder.slot[encoder.start[entry & 255] + (entry >> 16)] = static_cast<std::uint8_t>(slot);
  }
}

struct Piece {  // consecutive steps with the same raw width
  std::size_t first, last;
  std::uint8_t raw_bits;
};

// Encodes blocks one after the other. Each thread keeps one, so that it allocates once.
class BlockEncoder {
 public:
  BlockEncoder()
      : fields_(kMaxBlockWords), symbols_(kMaxBlockWords), planes_(kMaxBlockWords * 3 + kStep), stream_(kMaxBlockWords + kStep),
        tables_(kMaxBlockWords / kStep) {
    escapes_.reserve(kMaxBlockWords);
    places_.resize(kMaxBlockWords);
    pieces_.reserve(kMaxBlockWords / kStep);
  }

  // Writes block `block` to `out`, which has room for its plain words: a block that would be larger is stored.
  BlockEntry encode(const EncodeRequest& request, const Plan& plan, const std::vector<EncoderTable>& shared,
                    std::uint64_t block, std::uint8_t* out) {
    const Head& head = plan.head;
    const std::uint64_t start = block * head.block_words, words = head.words_in_block(block);
    const std::uint8_t* from = request.words + start * head.word_bytes;
    const std::size_t plain = words * head.word_bytes;
    BlockEntry entry;
    if (plan.constant[block]) {
      entry.kind = BlockKind::constant;
      entry.length = head.word_bytes;
      std::memcpy(out, from, entry.length);
    } else if (!code(plan, shared, block, from, words, plain, out, entry)) {
      entry.kind = BlockKind::stored;
      entry.escapes = 0;
      entry.length = static_cast<std::uint32_t>(plain);
      std::memcpy(out, from, plain);
    }
    entry.checksum = seeded_crc(request.seed, static_cast<std::uint32_t>(block), out, entry.length);
    return entry;
  }

 private:
  bool code(const Plan& plan, const std::vector<EncoderTable>& shared, std::uint64_t block,
            const std::uint8_t* from, std::uint64_t words, std::size_t plain, std::uint8_t* out, BlockEntry& entry) {
    const Head& head = plan.head;
    const std::size_t steps = (words + kStep - 1) / kStep;
    std::uint8_t front[kTableBytes + kMaxBlockWords / kStep];
    const std::size_t front_size = lay_out(plan, shared, block, words, steps, front);
    split(head, from, words, steps);
    if (!rank(plan, words, steps, entry)) return false;
    std::uint16_t states[kStep];
    for (std::size_t lane = 0; lane < kStep; ++lane) states[lane] = static_cast<std::uint16_t>(0x100 | carried_[lane]);
    std::uint8_t* const stream_end = stream_.data() + kStep * (steps + 1);
    const std::uint8_t* stream = kernels().rans_encode(tables_.data(), symbols_.data(), steps, states, stream_end);
    const std::size_t stream_size = static_cast<std::size_t>(stream_end - stream);
    const std::size_t size = front_size + 2 * kStep + stream_size + planes_used_ + escapes_.size();
    if (size >= plain) return false;
    std::uint8_t* to = out;
    const auto put = [&to](const void* data, std::size_t bytes) {
      std::memcpy(to, data, bytes);
      to += bytes;
    };
    put(front, front_size);
    put(states, sizeof states);
    put(stream, stream_size);
    put(planes_.data(), planes_used_);
    if (!escapes_.empty()) put(escapes_.data(), escapes_.size());
    entry.kind = BlockKind::coded;
    entry.length = static_cast<std::uint32_t>(size);
    return true;
  }

  // The table of every step, the pieces of equal width, and what stands before the states.
  std::size_t lay_out(const Plan& plan, const std::vector<EncoderTable>& shared, std::uint64_t block, std::uint64_t words,
                      std::size_t steps, std::uint8_t* front) {
    const Head& head = plan.head;
    pieces_.clear();
    if (head.tables_count == 0) {
      const Table& own = plan.own[block];
      build_encoder(own, own_);
      front[0] = own.raw_bits;
      std::memcpy(front + 1, own.freq, kSymbols);
      pieces_.push_back({0, steps, own.raw_bits});
      std::fill_n(tables_.begin(), steps, &own_);
      return kTableBytes;
    }
    if (head.tables_count == 1) {
      pieces_.push_back({0, steps, head.tables[0].raw_bits});
      std::fill_n(tables_.begin(), steps, shared.data());
      return 0;
    }
    const std::size_t rows = words / head.row_words;
    const std::uint8_t* classes = plan.row_class.data() + block * (head.block_words / head.row_words);
    std::memset(front, 0, (rows + 1) / 2);
    std::size_t step = 0;
    for (std::size_t row = 0; row < rows; ++row) {
      front[row / 2] = static_cast<std::uint8_t>(front[row / 2] | classes[row] << (4 * (row % 2)));
      const std::size_t first = step;
      while (step < steps && kStep * step < (row + 1) * head.row_words) tables_[step++] = &shared[classes[row]];
      const std::uint8_t raw_bits = head.tables[classes[row]].raw_bits;
      if (pieces_.empty() || pieces_.back().raw_bits != raw_bits)
        pieces_.push_back({first, step, raw_bits});
      else
        pieces_.back().last = step;
    }
    return (rows + 1) / 2;
  }

  // Fields to fields_, raw bits to planes_, the last 64 bytes of byte plane 0 to carried_.
  void split(const Head& head, const std::uint8_t* from, std::uint64_t words, std::size_t steps) {
    WordLayout layout{head.family, head.word_bytes, head.mantissa_bits, 0, head.base, {}};
    std::uint8_t* at = planes_.data();
    std::memset(carried_, 0, sizeof carried_);
    for (const Piece& piece : pieces_) {
      layout.raw_bits = piece.raw_bits;
      const bool last = &piece == &pieces_.back();
      const bool carries = last && piece.raw_bits >= 8;
      const RawSinks sinks = take_planes(at, piece.raw_bits, piece.last - piece.first, carries ? kStep : 0);
      const std::size_t direct = piece.last - piece.first - (last ? 1 : 0);
      if (direct != 0)
        kernels().split(layout, from + kStep * piece.first * head.word_bytes, direct, fields_.data() + kStep * piece.first,
                        sinks);
      if (!last) continue;
      // the block's last step: padded with words whose raw bits are 0
      alignas(64) std::uint8_t padded[kStep * 8];
      const std::size_t rest = words - kStep * (steps - 1);
      for (std::size_t i = 0; i < kStep; ++i) std::memcpy(padded + i * head.word_bytes, &head.base, head.word_bytes);
      std::memcpy(padded, from + kStep * (steps - 1) * head.word_bytes, rest * head.word_bytes);
      RawSinks end = advance(sinks, direct);
      if (carries) end.bytes[0] = carried_;
      kernels().split(layout, padded, 1, fields_.data() + kStep * (steps - 1), end);
    }
    planes_used_ = static_cast<std::size_t>(at - planes_.data());
  }

  // Fields become symbols; those of escaped symbols are kept. False: too many of them.
  bool rank(const Plan& plan, std::uint64_t words, std::size_t steps, BlockEntry& entry) {
    const Head& head = plan.head;
    const unsigned named = head.alphabet - (head.escape ? 1u : 0u);
    kernels().rank_fields(fields_.data(), steps, head.values, named, tables_.data(), symbols_.data());
    for (std::size_t i = words; i < kStep * steps; ++i) symbols_[i] = tables_[steps - 1]->filler;
    escapes_.clear();
    if (head.escape) {
      const std::size_t found = kernels().find_symbol(symbols_.data(), words, 15, places_.data());
      for (std::size_t i = 0; i < found; ++i) escapes_.push_back(fields_[places_[i]]);
    }
    if (escapes_.size() > 0xFFFF) return false;
    entry.escapes = static_cast<std::uint16_t>(escapes_.size());
    return true;
  }

  std::vector<std::uint8_t> fields_, symbols_, planes_, stream_, escapes_;
  std::vector<std::uint16_t> places_;
  std::vector<const EncoderTable*> tables_;
  std::vector<Piece> pieces_;
  EncoderTable own_{};
  std::uint8_t carried_[kStep] = {};
  std::size_t planes_used_ = 0;
};

void write_head(const Head& head, std::uint32_t seed, std::uint8_t* out) {
  std::memset(out, 0, kHeadBytes);
  std::memcpy(out, "rgP1", 4);
  out[4] = static_cast<std::uint8_t>(head.family);
  out[5] = head.word_bytes;
  out[6] = head.mantissa_bits;
  out[7] = static_cast<std::uint8_t>(head.alphabet | (head.escape ? 0x80 : 0));
  write_le(out + 8, head.count);
  write_le(out + 16, head.base);
  write_le(out + 24, head.block_words);
  write_le(out + 28, head.row_words);
  std::memcpy(out + 32, head.values, kSymbols);
  out[48] = head.tables_count;
  std::uint8_t* at = out + kHeadBytes;
  for (unsigned t = 0; t < head.tables_count; ++t, at += kTableBytes) {
    at[0] = head.tables[t].raw_bits;
    std::memcpy(at + 1, head.tables[t].freq, kSymbols);
  }
  for (const BlockEntry& entry : head.blocks) {
    write_le(at, entry.length);
    write_le(at + 4, entry.checksum);
    write_le(at + 8, entry.escapes);
    at[10] = static_cast<std::uint8_t>(entry.kind);
    at[11] = 0;
    at += kIndexBytes;
  }
  write_le(at, seeded_crc(seed, kHeadBlock, out, static_cast<std::size_t>(at - out)));
}

}  // namespace

std::size_t bound(std::uint64_t count, std::size_t word_bytes) {
  const std::uint64_t blocks = count / (kMaxBlockWords / 4) + 1;  // cut_blocks makes none smaller but the only one
  return kHeadBytes + kSymbols * kTableBytes + blocks * kIndexBytes + 4 + count * word_bytes + 7;
}

std::size_t encode(const EncodeRequest& request, std::uint8_t* out, unsigned threads) {
  Plan plan;
  if (!make_plan(request, threads, plan)) return 0;
  Head& head = plan.head;
  const std::uint64_t blocks = (head.count - 1) / head.block_words + 1;
  std::vector<EncoderTable> shared(head.tables_count);
  for (unsigned t = 0; t < head.tables_count; ++t) build_encoder(head.tables[t], shared[t]);
  head.blocks.resize(blocks);
  std::uint8_t* const first = out + kHeadBytes + head.tables_count * kTableBytes + blocks * kIndexBytes + 4;
  // With several threads every block goes to the place where it would be stored plainly; then all are moved together.
  const bool alone = threads <= 1;
  std::uint8_t* end = first;
  parallel_for(blocks, threads, [&](std::size_t block, unsigned) {
    static thread_local BlockEncoder encoder;
    std::uint8_t* place = alone ? end : first + block * std::uint64_t{head.block_words} * head.word_bytes;
    head.blocks[block] = encoder.encode(request, plan, shared, block, place);
    if (alone) end += head.blocks[block].length;
  });
  for (std::uint64_t block = 0; block < blocks && !alone; ++block) {
    std::memmove(end, first + block * head.block_words * head.word_bytes, head.blocks[block].length);
    end += head.blocks[block].length;
  }
  while ((end - out) % 8 != 0) *end++ = 0;
  write_head(head, request.seed, out);
  return static_cast<std::size_t>(end - out);
}

}  // namespace regrain
