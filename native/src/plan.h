// What the encoder decides before it writes: values, tables, row classes, raw widths, block size. All of it in integers.
#pragma once

#include <vector>

#include "regrain/codec.h"

namespace regrain {

struct Plan {
  Head head;                            // all but the block index
  std::vector<std::uint8_t> row_class;  // one a row where the head has several tables
  std::vector<Table> own;               // one a block where it has none
  std::vector<bool> constant;           // one a block: all words equal
};

// False: these words don't fit the format (integers whose range is over 32 bits).
bool make_plan(const EncodeRequest& request, unsigned threads, Plan& plan);

}  // namespace regrain
