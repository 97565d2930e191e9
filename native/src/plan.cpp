#include "plan.h"

#include <bit>

#include "classes.h"
#include "cost.h"
#include "head.h"
#include "isa/kernels.h"
#include "pool.h"
#include "scan.h"

namespace regrain {
namespace {

constexpr std::uint64_t kSampleWords = 1 << 14;     // words looked at to name the symbols
constexpr std::uint64_t kUnit = 1 << 16;           // code lengths are in units of 2^-16 bit
constexpr std::uint64_t kFewRows = 2048;
constexpr std::uint64_t kClassesMustSave = 1024;   // row classes cost the reader time: they must save one part in this

class Planner {
 public:
  Planner(const EncodeRequest& request, unsigned threads, Plan& plan)
      : request_(request), threads_(threads), plan_(plan), head_(plan.head) {}

  bool run() {
    head_ = {};
    head_.family = request_.family;
    head_.word_bytes = request_.word_bytes;
    head_.count = request_.count;
    cut_blocks();
    if (request_.family == Family::floating) {
      head_.mantissa_bits = request_.mantissa_bits;
      name_symbols(sample(field_limit(head_) - 1));
    } else if (!fit_integers()) {
      return false;
    }
    count();
    choose_tables();
    return true;
  }

 private:
  // Whole rows where a row fits a block, and blocks of about the same size.
  void cut_blocks() {
    const std::uint64_t row = request_.row_words == 0 ? request_.count : request_.row_words;
    const std::uint64_t rows = request_.count / row;
    if (row <= kMaxBlockWords) {
      const std::uint64_t most = kMaxBlockWords / row, blocks = (rows + most - 1) / most;
      head_.block_words = static_cast<std::uint32_t>((rows + blocks - 1) / blocks * row);
      if (row >= kStep && rows > 1) unit_ = row;
    } else {
      const std::uint64_t blocks = (request_.count + kMaxBlockWords - 1) / kMaxBlockWords;
      const std::uint64_t even = (request_.count + blocks - 1) / blocks;
      head_.block_words = static_cast<std::uint32_t>((even + kStep - 1) / kStep * kStep);
    }
    by_row_ = unit_ != 0;
    if (!by_row_) unit_ = head_.block_words;
    units_ = (request_.count + unit_ - 1) / unit_;
    blocks_ = (request_.count + head_.block_words - 1) / head_.block_words;
    units_a_block_ = head_.block_words / unit_;
  }

  const std::uint8_t* unit_words(std::uint64_t unit) const { return request_.words + unit * unit_ * head_.word_bytes; }
  std::uint64_t unit_size(std::uint64_t unit) const { return std::min(unit_, request_.count - unit * unit_); }

  // How often each field occurs, in all of a small tensor or in every n-th unit of a large one: enough to name the
  // symbols, since what has no name goes through the escape.
  FieldCounts sample(unsigned mask) const {
    FieldCounts fields{};
    const std::uint64_t stride = std::max<std::uint64_t>(1, request_.count / kSampleWords);
    for (std::uint64_t u = 0; u < units_; u += stride)
      count_all_fields(unit_words(u), unit_size(u), head_.word_bytes, head_.base, head_.mantissa_bits,
                       static_cast<std::uint8_t>(mask), fields);
    return fields;
  }

  // The most frequent fields, and the escape for the others; no escape where 16 symbols name every field there can be.
  static unsigned rank_fields(const FieldCounts& fields, unsigned limit, std::uint8_t (&values)[kSymbols], bool& escape) {
    unsigned order[256];
    for (unsigned f = 0; f < limit; ++f) order[f] = f;
    std::stable_sort(order, order + limit, [&](unsigned a, unsigned b) { return fields[a] > fields[b]; });
    escape = limit > kSymbols;
    const unsigned named = escape ? kSymbols - 1 : limit;
    std::fill_n(values, kSymbols, std::uint8_t{0});
    for (unsigned s = 0; s < named; ++s) values[s] = static_cast<std::uint8_t>(order[s]);
    return named;
  }

  void name_symbols(const FieldCounts& fields) {
    named_ = rank_fields(fields, field_limit(head_), head_.values, head_.escape);
    head_.alphabet = static_cast<std::uint8_t>(named_ + head_.escape);
  }

  // Integers: base = the smallest, then the split between coded field and raw bits that costs least.
  bool fit_integers() {
    const Interval all = scan_interval(request_.words, request_.count, head_.word_bytes);
    head_.base = all.low;
    const unsigned range_bits = std::max(1, static_cast<int>(std::bit_width(all.length)));
    if (range_bits > 32) return false;
    const unsigned least_raw = range_bits > 8 ? range_bits - 8 : 0;
    head_.mantissa_bits = static_cast<std::uint8_t>(least_raw);
    FieldCounts fields = sample(255);
    std::uint64_t words = 0, best = ~std::uint64_t{0};
    for (const std::uint64_t n : fields) words += n;
    unsigned best_raw = least_raw;
    FieldCounts best_fields = fields;
    for (unsigned k = least_raw; k < range_bits && k <= 24; ++k) {
      head_.mantissa_bits = static_cast<std::uint8_t>(k);
      std::uint8_t values[kSymbols], freq[kSymbols];
      bool escape = false;
      const unsigned named = rank_fields(fields, field_limit(head_), values, escape);
      Counts counts{};
      std::uint64_t others = words;
      for (unsigned s = 0; s < named; ++s) others -= counts[s] = fields[values[s]];
      if (escape) counts[15] = others;
      const std::uint64_t cost = fit_table(counts, escape, freq) + kUnit * words * k;
      if (cost < best) {
        best = cost;
        best_raw = k;
        best_fields = fields;
      }
      FieldCounts halved{};
      for (unsigned f = 0; f < 256; ++f) halved[f / 2] += fields[f];
      fields = halved;
    }
    head_.mantissa_bits = static_cast<std::uint8_t>(best_raw);
    name_symbols(best_fields);
    return true;
  }

  // How often each symbol occurs in each unit, and how many raw bits the unit needs.
  void count() {
    counts_.resize(units_);
    widths_.resize(units_);
    plan_.constant.assign(blocks_, false);
    std::vector<std::uint8_t> constant(blocks_);
    parallel_for(blocks_, threads_, [&](std::size_t block, unsigned) {
      BitUse block_use;
      for_units_of(block, [&](std::uint64_t u) {
        const BitUse use = scan_bits(unit_words(u), unit_size(u), head_.word_bytes);
        counts_[u] = count_symbols(unit_words(u), unit_size(u));
        widths_[u] = width_of(use);
        block_use.add(use);
      });
      constant[block] = block_use.any == block_use.all;
    });
    std::copy(constant.begin(), constant.end(), plan_.constant.begin());
  }

  SymbolCounts count_symbols(const std::uint8_t* words, std::uint64_t n) const {
    constexpr std::size_t kSteps = 64;
    alignas(64) std::uint8_t fields[kSteps * kStep];
    const WordLayout layout{head_.family, head_.word_bytes, head_.mantissa_bits, 0, head_.base, {}};
    SymbolCounts counts{};
    const auto count = [&](const std::uint8_t* from, std::size_t steps) {
      kernels().split(layout, from, steps, fields, {});
      kernels().count_fields(fields, steps, head_.values, named_, counts.data());
    };
    std::uint64_t at = 0;
    for (std::size_t steps; (steps = std::min<std::uint64_t>((n - at) / kStep, kSteps)) != 0; at += steps * kStep)
      count(words + at * head_.word_bytes, steps);
    if (at < n) {  // the rest, padded with words of field 0
      alignas(64) std::uint8_t padded[kStep * 8];
      for (std::size_t i = 0; i < kStep; ++i) std::memcpy(padded + i * head_.word_bytes, &head_.base, head_.word_bytes);
      std::memcpy(padded, words + at * head_.word_bytes, (n - at) * head_.word_bytes);
      count(padded, 1);
      for (unsigned s = 0; s < named_; ++s)
        if (head_.values[s] == 0) counts[s] -= static_cast<std::uint32_t>(kStep - (n - at));
    }
    if (head_.escape) {
      counts[15] = static_cast<std::uint32_t>(n);
      for (unsigned s = 0; s < named_; ++s) counts[15] -= counts[s];
    }
    return counts;
  }

  template <class Work>
  void for_units_of(std::uint64_t block, const Work& work) {
    const std::uint64_t first = block * units_a_block_;
    for (std::uint64_t u = first; u < std::min(first + units_a_block_, units_); ++u) work(u);
  }

  // Floats: sign and mantissa, less the low bits that are always 0.
  std::uint8_t width_of(const BitUse& use) const {
    if (head_.family == Family::integer) return head_.mantissa_bits;
    const unsigned m = head_.mantissa_bits;
    const std::uint64_t mantissa = use.any & ((std::uint64_t{1} << m) - 1);
    const bool sign = (use.any >> (8 * head_.word_bytes - 1)) != 0;
    if (mantissa != 0) return static_cast<std::uint8_t>(m + 1 - static_cast<unsigned>(std::countr_zero(mantissa)));
    return sign ? 1 : 0;
  }

  static void add(Counts& total, const SymbolCounts& counts) {
    for (unsigned s = 0; s < kSymbols; ++s) total[s] += counts[s];
  }

  Table table_of(const Counts& counts, std::uint8_t raw_bits, std::uint64_t words, std::uint64_t& cost) const {
    Table table;
    table.raw_bits = raw_bits;
    cost += fit_table(counts, head_.escape, table.freq) + kUnit * (words * raw_bits + 8 * kTableBytes);
    return table;
  }

  // One table for all, one a block, or row classes: what takes fewest bits.
  void choose_tables() {
    std::uint64_t one_cost = 0, own_cost = 0;
    Counts all{};
    std::uint8_t widest = 0;
    std::vector<Table> own(blocks_);
    for (std::uint64_t block = 0; block < blocks_; ++block) {
      Counts counts{};
      std::uint8_t width = 0;
      for_units_of(block, [&](std::uint64_t u) {
        add(counts, counts_[u]);
        width = std::max(width, widths_[u]);
      });
      const std::uint64_t words = head_.words_in_block(block);
      own[block] = table_of(counts, width, words, own_cost);
      for (unsigned s = 0; s < kSymbols; ++s) all[s] += counts[s];
      widest = std::max(widest, width);
    }
    head_.tables[0] = table_of(all, widest, head_.count, one_cost);
    head_.tables_count = 1;
    head_.row_words = 0;
    plan_.own.clear();
    if (own_cost < one_cost) {
      head_.tables_count = 0;
      plan_.own = std::move(own);
    }
    if (!by_row_ || units_ <= kSymbols) return;
    std::uint64_t best = std::min(one_cost, own_cost);
    best -= best / kClassesMustSave;
    try_classes(16, best);
    if (units_ <= kFewRows) try_classes(8, best);  // tables weigh more there
  }

  void try_classes(unsigned most, std::uint64_t& best) {
    std::vector<std::uint8_t> widths = widths_;
    if (unit_ % kStep != 0) std::fill(widths.begin(), widths.end(), *std::max_element(widths.begin(), widths.end()));
    const RowClasses classes = classify_rows(counts_, widths, head_.escape, most);
    const std::size_t n = classes.raw_bits.size();
    if (n < 2) return;
    std::vector<Counts> counts(n, Counts{});
    std::vector<std::uint64_t> words(n);
    for (std::uint64_t row = 0; row < units_; ++row) words[classes.of_row[row]] += unit_;
    if (unit_ % kStep == 0)
      for (std::uint64_t row = 0; row < units_; ++row) add(counts[classes.of_row[row]], counts_[row]);
    else
      count_by_step(classes.of_row, counts);
    std::uint64_t cost = kUnit * 4 * (units_ + blocks_);
    Table tables[kSymbols];
    for (std::size_t c = 0; c < n; ++c) tables[c] = table_of(counts[c], classes.raw_bits[c], words[c], cost);
    if (cost >= best) return;
    best = cost;
    std::copy_n(tables, n, head_.tables);
    head_.tables_count = static_cast<std::uint8_t>(n);
    head_.row_words = static_cast<std::uint32_t>(unit_);
    plan_.own.clear();
    plan_.row_class = classes.of_row;
  }

  // Where rows don't end with a step, the step's table is that of the row of its first word.
  void count_by_step(const std::vector<std::uint8_t>& of_row, std::vector<Counts>& counts) {
    std::vector<std::vector<Counts>> of_block(blocks_);
    parallel_for(blocks_, threads_, [&](std::size_t block, unsigned) {
      std::vector<Counts>& mine = of_block[block];
      mine.assign(counts.size(), Counts{});
      const std::uint64_t start = block * head_.block_words, words = head_.words_in_block(block);
      for (std::uint64_t at = 0; at < words; at += kStep)
        add(mine[of_row[(start + at) / unit_]],
            count_symbols(request_.words + (start + at) * head_.word_bytes, std::min<std::uint64_t>(kStep, words - at)));
    });
    for (const std::vector<Counts>& mine : of_block)
      for (std::size_t c = 0; c < counts.size(); ++c)
        for (unsigned s = 0; s < kSymbols; ++s) counts[c][s] += mine[c][s];
  }

  const EncodeRequest& request_;
  const unsigned threads_;
  Plan& plan_;
  Head& head_;
  unsigned named_ = 0;      // symbols that have a value
  std::uint64_t unit_ = 0;  // words: a row where rows may have classes, else a block
  std::uint64_t units_ = 0, blocks_ = 0, units_a_block_ = 0;
  bool by_row_ = false;
  std::vector<SymbolCounts> counts_;
  std::vector<std::uint8_t> widths_;
};

}  // namespace

bool make_plan(const EncodeRequest& request, unsigned threads, Plan& plan) {
  return Planner(request, threads, plan).run();
}

}  // namespace regrain
