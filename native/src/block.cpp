#include "block.h"

#include <algorithm>
#include <cstring>

#include "bytes.h"
#include "head.h"
#include "planes.h"

namespace regrain {
BlockDecoder::BlockDecoder() : step_tables_(kMaxSteps) {}

Fault BlockDecoder::read_classes(const std::uint8_t* at, std::size_t rows) {
  const Head& head = payload_->head;
  const std::size_t row_words = head.row_words;
  std::size_t step = 0;
  for (std::size_t row = 0; row < rows; ++row) {
    const unsigned row_class = at[row / 2] >> (4 * (row % 2)) & 15;
    if (row_class >= head.tables_count) return Fault::classes;
    const AliasTable* table = &payload_->tables[row_class];
    const std::size_t first = step, behind = (row + 1) * row_words;
    while (step < steps_ && kStep * step < behind) step_tables_[step++] = table;
    const std::uint8_t raw_bits = head.tables[row_class].raw_bits;
    if (runs_.empty() || runs_.back().raw_bits != raw_bits)
      runs_.push_back({first, step, raw_bits, {}});
    else
      runs_.back().last = step;
  }
  if (rows % 2 != 0 && at[rows / 2] >> 4 != 0) return Fault::padding;
  return Fault::none;
}

Fault BlockDecoder::lay_out_planes(const std::uint8_t*& at, const std::uint8_t* end) {
  carries_ = runs_.back().raw_bits >= 8;
  std::size_t raw = 0;
  for (const Run& run : runs_) raw += planes_size(run.raw_bits, run.last - run.first);
  if (carries_) raw -= kStep;
  if (static_cast<std::size_t>(end - at) < raw) return Fault::stream;
  at = end - raw;
  const std::uint8_t* plane = at;
  for (Run& run : runs_)
    run.planes = take_planes(plane, run.raw_bits, run.last - run.first, carries_ && &run == &runs_.back() ? kStep : 0);
  return Fault::none;
}

Fault BlockDecoder::open(const OpenPayload& payload, const std::uint8_t* bytes, const BlockEntry& entry,
                         std::uint64_t words, const Target& target) {
  payload_ = &payload;
  target_ = target;
  words_out_ = target.out;
  words_from_ = target.first;
  words_ = words;
  steps_ = (words + kStep - 1) / kStep;
  steps_needed_ = target.last == words ? steps_ : (target.last + kStep - 1) / kStep;
  step_ = 0;
  run_ = 0;
  runs_.clear();
  const Head& head = payload.head;
  layout_ = {head.family, head.word_bytes, head.mantissa_bits, 0, head.base, {}};
  std::memcpy(layout_.values, head.values, kSymbols);
  field_limit_ = field_limit(head);

  const std::uint8_t* at = bytes;
  const std::uint8_t* end = bytes + entry.length;
  const std::size_t rows = head.tables_count > 1 ? words / head.row_words : 0;
  const std::size_t front = head.tables_count == 0 ? kTableBytes : (rows + 1) / 2;
  if (entry.length < front + 2 * kStep + entry.escapes) return Fault::stream;
  if (head.tables_count == 0) {
    const Table own = read_table(at);
    if (const Fault fault = check_table(head, own); fault != Fault::none) return fault;
    build_alias(own.freq, own_);
    runs_.push_back({0, steps_, own.raw_bits, {}});
    std::fill_n(step_tables_.begin(), steps_, &own_);
  } else if (head.tables_count == 1) {
    runs_.push_back({0, steps_, head.tables[0].raw_bits, {}});
    std::fill_n(step_tables_.begin(), steps_, &payload.tables[0]);
  } else if (const Fault fault = read_classes(at, rows); fault != Fault::none) {
    return fault;
  }
  at += front;
  for (std::size_t lane = 0; lane < kStep; ++lane) {
    stream_.low[lane] = at[2 * lane];
    stream_.high[lane] = at[2 * lane + 1];
    if (stream_.high[lane] == 0) return Fault::stream;
  }
  at += 2 * kStep;
  escapes_end_ = end;
  escape_ = end - entry.escapes;
  const std::uint8_t* raw = at;
  if (const Fault fault = lay_out_planes(raw, escape_); fault != Fault::none) return fault;
  stream_.next = at;
  stream_.end = raw;
  stream_.readable = end;
  stream_.overrun = false;
  return Fault::none;
}

void BlockDecoder::prefetch_target(std::size_t steps) const {
  const std::uint64_t from = std::max<std::uint64_t>(kStep * step_, target_.first);
  const std::uint64_t to = std::min<std::uint64_t>(kStep * (step_ + steps), target_.last);
  if (from >= to) return;
  const std::size_t size = target_.grid != nullptr ? weight_bytes(target_.grid->type) : layout_.word_bytes;
  const std::uint8_t* line = target_.out + (from - target_.first) * size;
  const std::uint8_t* const end = target_.out + (to - target_.first) * size;
  for (; line < end; line += 64) __builtin_prefetch(line, 1, 3);
}

RansWork BlockDecoder::work() { return {&stream_, step_tables_.data() + step_, symbols_}; }

// One step whose words don't all go out, or whose first byte plane is in the final states.
void BlockDecoder::emit_through_scratch(const Run& run, std::size_t step) {
  alignas(64) std::uint8_t scratch[kStep * 8];
  RawPlanes planes = advance(run.planes, step - run.first);
  if (carries_ && step + 1 == steps_) planes.bytes[0] = stream_.low;
  kernels().combine(layout_, symbols_ + kStep * (step - step_), planes, 1, scratch);
  const std::uint64_t here = kStep * step;
  const std::uint64_t from = std::max(here, target_.first), to = std::min(here + kStep, target_.last);
  if (from < to)
    std::memcpy(place(from), scratch + (from - here) * layout_.word_bytes, (to - from) * layout_.word_bytes);
}

void BlockDecoder::emit_steps(const Run& run, std::size_t from, std::size_t to) {
  layout_.raw_bits = run.raw_bits;
  from = std::max<std::size_t>(from, target_.first / kStep);
  while (from < to && (kStep * from < target_.first)) emit_through_scratch(run, from++);
  // whole steps, except the block's last, go straight to their place
  const std::size_t direct = std::min<std::size_t>(to, std::min<std::size_t>(target_.last / kStep, steps_ - 1));
  if (from < direct) {
    kernels().combine(layout_, symbols_ + kStep * (from - step_), advance(run.planes, from - run.first), direct - from,
                      place(kStep * from));
    from = direct;
  }
  for (; from < to; ++from) emit_through_scratch(run, from);
}

// Words of escaped symbols got the field value 0; their real ones stand in word order behind the planes.
Fault BlockDecoder::patch_escapes(std::size_t steps) {
  const std::uint64_t start = kStep * step_;
  const std::size_t words = static_cast<std::size_t>(std::min<std::uint64_t>(kStep * steps, words_ - start));
  std::uint16_t places[kChunkSteps * kStep];
  const std::size_t found = kernels().find_symbol(symbols_, words, 15, places);
  if (found > static_cast<std::size_t>(escapes_end_ - escape_)) return Fault::escapes;
  for (std::size_t i = 0; i < found; ++i) {
    const std::uint8_t field = *escape_++;
    if (field >= field_limit_) return Fault::escapes;
    const std::uint64_t word = start + places[i];
    if (word < target_.first || word >= target_.last) continue;
    std::uint8_t* to = place(word);
    const std::uint64_t value = std::uint64_t{field} << layout_.shift;
    switch (layout_.word_bytes) {  // the field's bits are 0: adding is the same as setting
      case 1: write_le(to, static_cast<std::uint8_t>(read_le<std::uint8_t>(to) + value)); break;
      case 2: write_le(to, static_cast<std::uint16_t>(read_le<std::uint16_t>(to) + value)); break;
      case 4: write_le(to, static_cast<std::uint32_t>(read_le<std::uint32_t>(to) + value)); break;
      default: write_le(to, read_le<std::uint64_t>(to) + value);
    }
  }
  return Fault::none;
}

Fault BlockDecoder::finish() {
  if (stream_.next != stream_.end) return Fault::stream;
  for (std::size_t lane = 0; lane < kStep; ++lane)
    if (stream_.high[lane] != 1 || (!carries_ && stream_.low[lane] != 0)) return Fault::final_state;
  return Fault::none;
}

Fault BlockDecoder::emit(std::size_t steps) {
  if (target_.grid == nullptr) return emit_words(steps);
  const std::uint64_t from = std::max<std::uint64_t>(kStep * step_, target_.first);
  const std::uint64_t to = std::min<std::uint64_t>(kStep * (step_ + steps), target_.last);
  words_out_ = indices_;
  words_from_ = from;
  if (const Fault fault = emit_words(steps); fault != Fault::none || from >= to) return fault;
  dequantize(*target_.grid, indices_, layout_.word_bytes, target_.element + from, to - from,
             target_.out + (from - target_.first) * weight_bytes(target_.grid->type));
  return Fault::none;
}

Fault BlockDecoder::emit_words(std::size_t steps) {
  const std::size_t behind = step_ + steps;
  if (stream_.overrun || stream_.next > stream_.end) return Fault::stream;  // steps that read ahead do not check
  if (behind == steps_)
    if (const Fault fault = finish(); fault != Fault::none) return fault;
  for (std::size_t from = step_; from < behind;) {
    while (runs_[run_].last <= from) ++run_;
    const std::size_t to = std::min(behind, runs_[run_].last);
    emit_steps(runs_[run_], from, to);
    from = to;
  }
  if (payload_->head.escape)
    if (const Fault fault = patch_escapes(steps); fault != Fault::none) return fault;
  if (behind == steps_ && escape_ != escapes_end_) return Fault::escapes;
  step_ = behind;
  return Fault::none;
}

}  // namespace regrain
