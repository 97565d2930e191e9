#include "classes.h"

#include <algorithm>

#include "isa/kernels.h"

namespace regrain {
namespace {

constexpr unsigned kRounds = 4;
constexpr std::size_t kSampleRows = 2048;
constexpr unsigned kMaxWidths = 4;       // different raw widths among the classes
constexpr std::size_t kRowsAClass = 16;  // fewer don't repay a table

// Up to kMaxWidths widths: the widest, then those that most rows have. Others are rounded up to the next.
std::vector<std::uint8_t> choose_widths(const std::vector<std::uint8_t>& raw_bits) {
  std::array<std::size_t, 256> rows{};
  for (std::uint8_t w : raw_bits) ++rows[w];
  std::vector<std::uint8_t> widths;
  for (unsigned w = 0; w < 256; ++w)
    if (rows[w] != 0) widths.push_back(static_cast<std::uint8_t>(w));
  const std::uint8_t widest = widths.back();
  std::stable_sort(widths.begin(), widths.end(), [&](std::uint8_t a, std::uint8_t b) {
    if ((a == widest) != (b == widest)) return a == widest;
    return rows[a] > rows[b];
  });
  if (widths.size() > kMaxWidths) widths.resize(kMaxWidths);
  std::sort(widths.begin(), widths.end());
  return widths;
}

// Sums below 2^32 need costs below 2^16 for 2^16 symbols: 2^-8 bits, at most this.
constexpr std::uint32_t kDearest = 65535;

// A class (from 0, at most `classes`) for each of `rows`. The classes are found on at most kSampleRows of them.
std::vector<std::uint8_t> cluster(const std::vector<SymbolCounts>& rows, unsigned classes, bool escape) {
  std::vector<std::uint8_t> class_of(rows.size());
  if (classes == 1) return class_of;
  const std::size_t stride = (rows.size() + kSampleRows - 1) / kSampleRows;
  std::vector<SymbolCounts> sample;
  std::vector<std::uint64_t> key;  // mean symbol, and the row's number to settle ties
  for (std::size_t row = 0; row < rows.size(); row += stride) {
    std::uint64_t sum = 0;
    for (unsigned s = 0; s < kSymbols; ++s) sum += std::uint64_t{rows[row][s]} * s;
    key.push_back(sum << 32 | sample.size());
    sample.push_back(rows[row]);
  }
  std::sort(key.begin(), key.end());
  for (std::size_t i = 0; i < key.size(); ++i)
    class_of[key[i] & 0xFFFFFFFF] = static_cast<std::uint8_t>(i * classes / key.size());
  std::uint32_t costs[kSymbols][kSymbols];  // of each symbol in each class
  for (unsigned round = 0; round < kRounds; ++round) {
    std::vector<Counts> counts(classes, Counts{});
    for (std::size_t row = 0; row < sample.size(); ++row)
      for (unsigned s = 0; s < kSymbols; ++s) counts[class_of[row]][s] += sample[row][s];
    for (auto& of_symbol : costs) std::fill_n(of_symbol, kSymbols, kDearest);
    for (unsigned c = 0; c < classes; ++c) {
      std::uint8_t freq[kSymbols];
      normalize(counts[c], freq);
      const Costs exact = symbol_costs(freq, escape);
      for (unsigned s = 0; s < kSymbols; ++s) costs[s][c] = std::min(exact[s] >> 8, kDearest);
    }
    kernels().assign_rows(sample.data()->data(), sample.size(), costs[0], class_of.data());
  }
  kernels().assign_rows(rows.data()->data(), rows.size(), costs[0], class_of.data());
  return class_of;
}

}  // namespace

RowClasses classify_rows(const std::vector<SymbolCounts>& rows, const std::vector<std::uint8_t>& raw_bits,
                         bool escape, unsigned most) {
  const std::vector<std::uint8_t> widths = choose_widths(raw_bits);
  std::vector<std::vector<std::uint32_t>> members(widths.size());
  std::vector<std::vector<SymbolCounts>> counts(widths.size());
  for (std::uint32_t row = 0; row < rows.size(); ++row) {
    const auto width = std::lower_bound(widths.begin(), widths.end(), raw_bits[row]);
    members[static_cast<std::size_t>(width - widths.begin())].push_back(row);
    counts[static_cast<std::size_t>(width - widths.begin())].push_back(rows[row]);
  }
  RowClasses result{std::vector<std::uint8_t>(rows.size()), {}};
  // classes beyond one for each width are shared by numbers of rows
  const std::size_t spare = most > widths.size() ? most - widths.size() : 0;
  for (std::size_t w = 0; w < widths.size(); ++w) {
    const std::size_t share = 1 + spare * members[w].size() / rows.size();
    const std::size_t classes = std::max<std::size_t>(1, std::min(share, members[w].size() / kRowsAClass));
    const std::vector<std::uint8_t> class_of = cluster(counts[w], static_cast<unsigned>(classes), escape);
    // number the classes that are in use behind those of the widths before
    std::array<int, kSymbols> number;
    number.fill(-1);
    for (std::size_t i = 0; i < members[w].size(); ++i) {
      int& mine = number[class_of[i]];
      if (mine < 0) {
        mine = static_cast<int>(result.raw_bits.size());
        result.raw_bits.push_back(widths[w]);
      }
      result.of_row[members[w][i]] = static_cast<std::uint8_t>(mine);
    }
  }
  return result;
}

}  // namespace regrain
