// What the decoder shares with the reader of heads.
#pragma once

#include "regrain/codec.h"

namespace regrain {

Table read_table(const std::uint8_t* from);                // kTableBytes
Fault check_table(const Head& head, const Table& table);

unsigned field_limit(const Head& head);  // field values are below it: 2^bits of the field, at most 256

}  // namespace regrain
