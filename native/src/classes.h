// Row classes: rows of a matrix whose symbols are distributed alike share a table.
#pragma once

#include <vector>

#include "cost.h"
#include "scan.h"

namespace regrain {

struct RowClasses {
  std::vector<std::uint8_t> of_row;
  std::vector<std::uint8_t> raw_bits;  // of each class
};

// Sorts rows into at most `most` (2 to 16) classes. Rows of one class have equal raw width, except that rare widths join a wider one.
// Lloyd's algorithm on code lengths, in integers, from quantiles of the mean symbol; few rounds, deterministic.
RowClasses classify_rows(const std::vector<SymbolCounts>& rows, const std::vector<std::uint8_t>& raw_bits,
                         bool escape, unsigned most);

}  // namespace regrain
