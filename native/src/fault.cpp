// The sentences behind the faults.
#include "regrain/codec.h"

namespace regrain {

const char* describe(Fault fault) {
  switch (fault) {
    case Fault::none: return "no fault";
    case Fault::truncated: return "the payload ends before its head does";
    case Fault::magic: return "the payload does not start with 'rgP1'";
    case Fault::family: return "the family must be 0 (float) or 1 (integer)";
    case Fault::word_bytes: return "the word size or mantissa width is not one of the format's, or not the tensor's";
    case Fault::alphabet: return "the alphabet must have 1 to 16 symbols, exactly 16 with an escape";
    case Fault::count: return "the number of words is not the tensor's";
    case Fault::base: return "the base must fit the word, and be 0 for floats";
    case Fault::block_words: return "a block must have 1 to 65536 words";
    case Fault::row_words: return "the row length must be at least 64 and divide the block and the tensor";
    case Fault::values: return "the symbols' values must be distinct, fit the field, and be 0 where unused";
    case Fault::table: return "a table's 16 frequencies must sum to 256 and be 0 for unused symbols";
    case Fault::width: return "a table's raw width is not possible here";
    case Fault::reserved: return "a reserved byte is not 0";
    case Fault::index: return "a block's entry has an unknown kind or a length that its kind can't have";
    case Fault::length: return "the blocks' lengths don't add up to the payload's";
    case Fault::head_checksum: return "the head's checksum is wrong";
    case Fault::block_checksum: return "the block's checksum is wrong";
    case Fault::classes: return "a row's class has no table";
    case Fault::stream: return "the coded stream is too short or too long";
    case Fault::final_state: return "a decoder's final state is wrong";
    case Fault::escapes: return "the number of escaped symbols is wrong";
    case Fault::padding: return "padding is not 0";
    case Fault::range: return "the requested words are outside the tensor";
    case Fault::unreadable: return "the file ends early or can't be read: has it changed since it was opened?";
    case Fault::out_of_memory: return "out of memory";
  }
  return "unknown fault";
}

}  // namespace regrain
