// Coding, dequantizing, expanding and rounding.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <stdexcept>

#include "bind.h"
#include "regrain/codec.h"
#include "regrain/feedback.h"
#include "regrain/memory.h"
#include "regrain/units.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using Bytes = nb::ndarray<const std::uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Words = nb::ndarray<nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using ConstWords = nb::ndarray<nb::ro, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using OutBytes = nb::ndarray<std::uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using NewBytes = nb::ndarray<nb::numpy, std::uint8_t, nb::ndim<1>>;

// None, or (job, block, reason); block is None for the head.
nb::object outcome(const regrain::Outcome& result) {
  if (!result) return nb::none();
  const nb::object block = result.block < 0 ? nb::object(nb::none()) : nb::object(nb::int_(result.block));
  return nb::make_tuple(result.job, block, regrain::describe(result.fault));
}

regrain::Bytes in_memory(const Bytes& bytes) { return {bytes.data(), -1, 0, bytes.size()}; }

regrain::DecodeJob decode_job(const regrain::Bytes& payload, const Words& out, std::uint32_t seed) {
  regrain::DecodeJob job;
  job.payload = payload;
  job.seed = seed;
  job.word_bytes = static_cast<std::uint8_t>(out.itemsize());
  job.out = static_cast<std::uint8_t*>(out.data());
  job.count = out.size();
  return job;
}

nb::object run(std::span<const regrain::DecodeJob> jobs, unsigned threads) {
  regrain::Outcome result;
  {
    nb::gil_scoped_release release;
    result = regrain::decode(jobs, threads);
  }
  return outcome(result);
}

nb::object decode_range(regrain::DecodeJob job, std::uint64_t first, bool whole, unsigned threads) {
  job.first = first;
  job.whole = whole;
  return run({&job, 1}, threads);
}

nb::object decode(const Bytes& payload, const Words& out, std::uint32_t seed, std::uint64_t first, bool whole,
                  unsigned threads) {
  return decode_range(decode_job(in_memory(payload), out, seed), first, whole, threads);
}

nb::object decode_many(const std::vector<std::tuple<Bytes, Words, std::uint32_t>>& jobs, unsigned threads) {
  std::vector<regrain::DecodeJob> native;
  native.reserve(jobs.size());
  for (const auto& [payload, out, seed] : jobs) native.push_back(decode_job(in_memory(payload), out, seed));
  return run(native, threads);
}

// Payloads of an open file: each job's (offset, bytes, out, seed).
nb::object decode_file(int file, const std::vector<std::tuple<std::uint64_t, std::size_t, Words, std::uint32_t>>& jobs,
                       unsigned threads) {
  std::vector<regrain::DecodeJob> native;
  native.reserve(jobs.size());
  for (const auto& [offset, size, out, seed] : jobs)
    native.push_back(decode_job({nullptr, file, offset, size}, out, seed));
  return run(native, threads);
}

nb::object decode_file_range(int file, std::uint64_t offset, std::size_t size, const Words& out, std::uint32_t seed,
                             std::uint64_t first, unsigned threads) {
  return decode_range(decode_job({nullptr, file, offset, size}, out, seed), first, false, threads);
}

using Scales = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

// (scales, rows, columns, rows of a cell, columns of a cell, type of a weight)
using GridTuple = std::tuple<Scales, std::uint64_t, std::uint64_t, std::uint64_t, std::uint64_t, unsigned>;

// A grid, if elements [first, first + bytes of out / bytes of a weight) lie within its matrix.
regrain::Grid make_grid(const GridTuple& from, std::uint64_t first, const OutBytes& out) {
  const auto& [scales, rows, columns, cell_rows, cell_columns, type] = from;
  const auto cells = [](std::uint64_t size, std::uint64_t cell) { return (size - 1) / cell + 1; };
  if (type > 2 || rows == 0 || columns == 0 || rows > (std::uint64_t{1} << 60) / columns || cell_rows == 0 ||
      cell_rows > rows || cell_columns == 0 || cell_columns > columns || scales.shape(0) != cells(rows, cell_rows) ||
      scales.shape(1) != cells(columns, cell_columns))
    throw nb::value_error("a grid must have a scale for each cell of its matrix");
  const regrain::Grid grid{scales.data(), columns, cell_rows, cell_columns, static_cast<regrain::Weight>(type)};
  const std::size_t size = regrain::weight_bytes(grid.type);
  if (out.size() % size != 0 || first > rows * columns || out.size() / size > rows * columns - first)
    throw nb::value_error("out must hold whole weights of the matrix");
  return grid;
}

void dequantize(const ConstWords& indices, const GridTuple& grid_tuple, std::uint64_t first, const OutBytes& out) {
  const regrain::Grid grid = make_grid(grid_tuple, first, out);
  if (indices.itemsize() > 2 || indices.size() != out.size() / regrain::weight_bytes(grid.type))
    throw nb::value_error("indices must be int8 or int16, one for each weight");
  nb::gil_scoped_release release;
  regrain::dequantize(grid, static_cast<const std::uint8_t*>(indices.data()), indices.itemsize(), first, indices.size(),
                      out.data());
}

// Weights from payloads of indices: (payload, bytes of an index, seed, grid, first, out).
template <class Payload>
using WeightJob = std::tuple<Payload, unsigned, std::uint32_t, GridTuple, std::uint64_t, OutBytes>;
using Place = std::tuple<std::uint64_t, std::size_t>;  // of a payload in a file: (offset, bytes)

template <class Payload, class Resolve>
nb::object run_weights(const std::vector<WeightJob<Payload>>& jobs, const Resolve& resolve, unsigned threads) {
  std::vector<regrain::Grid> grids;
  std::vector<regrain::DecodeJob> native;
  grids.reserve(jobs.size());  // jobs point at them
  native.reserve(jobs.size());
  for (const auto& [payload, index_bytes, seed, grid, first, out] : jobs) {
    grids.push_back(make_grid(grid, first, out));
    if (index_bytes != 1 && index_bytes != 2) throw nb::value_error("an index must have 1 or 2 bytes");
    regrain::DecodeJob job;
    job.payload = resolve(payload);
    job.seed = seed;
    job.word_bytes = static_cast<std::uint8_t>(index_bytes);
    job.out = out.data();
    job.first = first;
    job.count = out.size() / regrain::weight_bytes(grids.back().type);
    job.whole = first == 0 && job.count == std::get<1>(grid) * std::get<2>(grid);
    job.grid = &grids.back();
    native.push_back(job);
  }
  return run(native, threads);
}

nb::object decode_weights(const std::vector<WeightJob<Bytes>>& jobs, unsigned threads) {
  return run_weights(jobs, in_memory, threads);
}

nb::object decode_weights_file(int file, const std::vector<WeightJob<Place>>& jobs, unsigned threads) {
  const auto resolve = [file](const Place& place) {
    return regrain::Bytes{nullptr, file, std::get<0>(place), std::get<1>(place)};
  };
  return run_weights(jobs, resolve, threads);
}

using Mask = nb::ndarray<const std::uint8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Rows = nb::ndarray<nb::ndim<2>, nb::c_contig, nb::device::cpu>;

// Rows of a matrix from row `first` on. unit: rows and columns of one that the mask speaks of.
void expand(const Mask& mask, const std::tuple<std::uint64_t, std::uint64_t>& unit, const ConstWords& values,
            std::uint64_t first, const Rows& out) {
  const auto [down, across] = unit;
  const std::uint64_t count = out.shape(0), columns = out.shape(1), height = mask.shape(0);
  const std::size_t size = out.itemsize();
  if (down == 0 || across == 0 || columns == 0 || mask.shape(1) != (columns - 1) / across + 1 ||
      (count != 0 && (first + count < count || (first + count - 1) / down >= height)))
    throw nb::value_error("a mask must have a byte for each unit of the rows");
  const regrain::Units units{mask.data(), columns, down, across};
  if ((size != 1 && size != 2 && size != 4) || values.itemsize() != size ||
      values.size() != regrain::count_kept(units, first, count))
    throw nb::value_error("values must be those that are kept of the rows, of 1, 2 or 4 bytes as in out");
  nb::gil_scoped_release release;
  regrain::expand(units, size, static_cast<const std::uint8_t*>(values.data()), first, count,
                  static_cast<std::uint8_t*>(out.data()));
}

std::size_t encode(const ConstWords& words, const nb::ndarray<std::uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>& out,
                   unsigned family, unsigned mantissa_bits, std::uint64_t row_words, std::uint32_t seed, unsigned threads) {
  regrain::EncodeRequest request;
  request.words = static_cast<const std::uint8_t*>(words.data());
  request.count = words.size();
  request.word_bytes = static_cast<std::uint8_t>(words.itemsize());
  request.family = static_cast<regrain::Family>(family);
  request.mantissa_bits = static_cast<std::uint8_t>(mantissa_bits);
  request.row_words = row_words;
  request.seed = seed;
  if (family > 1 || words.size() == 0 || (row_words != 0 && words.size() % row_words != 0) ||
      out.size() < regrain::bound(words.size(), words.itemsize()))
    throw nb::value_error("encode needs a known family, words in whole rows, and bound() bytes of room");
  nb::gil_scoped_release release;
  return regrain::encode(request, out.data(), threads);
}

nb::object describe_head(const regrain::Bytes& payload, std::uint32_t seed) {
  regrain::Head head;
  const regrain::Fault fault = regrain::read_head(payload, seed, head);
  if (fault != regrain::Fault::none) return nb::make_tuple(0, nb::none(), regrain::describe(fault));
  nb::list values, tables, blocks;
  for (unsigned s = 0; s + head.escape < head.alphabet; ++s) values.append(head.values[s]);
  for (unsigned t = 0; t < head.tables_count; ++t) {
    nb::list freq;
    for (std::uint8_t f : head.tables[t].freq) freq.append(f);
    tables.append(nb::make_tuple(head.tables[t].raw_bits, nb::tuple(freq)));
  }
  for (const regrain::BlockEntry& entry : head.blocks)
    blocks.append(nb::make_tuple(static_cast<unsigned>(entry.kind), entry.length, entry.escapes));
  nb::dict result;
  result["family"] = static_cast<unsigned>(head.family);
  result["word_bytes"] = head.word_bytes;
  result["mantissa_bits"] = head.mantissa_bits;
  result["count"] = head.count;
  result["base"] = head.base;
  result["block_words"] = head.block_words;
  result["row_words"] = head.row_words;
  result["escape"] = head.escape;
  result["values"] = nb::tuple(values);
  result["tables"] = nb::tuple(tables);
  result["blocks"] = nb::tuple(blocks);
  return result;
}

nb::object info(const Bytes& payload, std::uint32_t seed) { return describe_head(in_memory(payload), seed); }

nb::object info_file(int file, std::uint64_t offset, std::size_t size, std::uint32_t seed) {
  return describe_head({nullptr, file, offset, size}, seed);
}

std::uint32_t crc32c(const Bytes& data, std::uint32_t value) {
  nb::gil_scoped_release release;
  return regrain::crc32c(value, data.data(), data.size());
}

nb::list allocate(const std::vector<std::size_t>& sizes) {
  nb::list arrays;
  for (regrain::Part* part : regrain::allocate(sizes)) {
    const nb::capsule owner(part, [](void* p) noexcept { regrain::release(static_cast<regrain::Part*>(p)); });
    arrays.append(NewBytes(part->data, {part->size}, owner).cast());
  }
  return arrays;
}

std::uint64_t decode_symbols(const Bytes& payload, std::uint32_t seed, unsigned lockstep,
                             const nb::ndarray<std::uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>& symbols) {
  if (lockstep != 1 && lockstep != 2 && lockstep != 4) throw nb::value_error("lockstep must be 1, 2 or 4");
  regrain::Head head;
  if (regrain::read_head(in_memory(payload), seed, head) != regrain::Fault::none ||
      symbols.size() < head.blocks.size() * regrain::kMaxBlockWords)
    throw nb::value_error("symbols must have 65536 bytes for each block of a sound payload");
  nb::gil_scoped_release release;
  return regrain::decode_symbols(payload.data(), payload.size(), seed, lockstep, symbols.data());
}

using Floats = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Matrix = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

double round_with_feedback(const Matrix& weights, const Matrix& scales, std::size_t cell_rows, std::size_t cell_columns,
                           const std::optional<Matrix>& column_factor, const std::optional<Matrix>& row_factor,
                           const Floats& weight_rows, const Floats& weight_columns, float dead_zone,
                           const std::optional<Mask>& keep,
                           const nb::ndarray<std::int16_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>& indices) {
  const std::size_t rows = weights.shape(0), columns = weights.shape(1);
  const auto cells = [](std::size_t size, std::size_t cell) { return cell == 0 ? 0 : (size + cell - 1) / cell; };
  const auto square = [](const std::optional<Matrix>& factor, std::size_t size) {
    return !factor || (factor->shape(0) == size && factor->shape(1) == size);
  };
  if (rows == 0 || columns == 0 || cell_rows == 0 || cell_columns == 0 || scales.shape(0) != cells(rows, cell_rows) ||
      scales.shape(1) != cells(columns, cell_columns) || !square(column_factor, columns) || !square(row_factor, rows) ||
      weight_rows.size() != rows || weight_columns.size() != columns || indices.shape(0) != rows ||
      indices.shape(1) != columns || (keep && (keep->shape(0) != rows || keep->shape(1) != columns)))
    throw nb::value_error("round_with_feedback needs a scale for each cell, square factors and weights that fit");
  const regrain::FeedbackRequest request{weights.data(),       rows,       columns, scales.data(), cell_rows, cell_columns,
                                         column_factor ? column_factor->data() : nullptr,
                                         row_factor ? row_factor->data() : nullptr,
                                         weight_rows.data(),   weight_columns.data(), dead_zone,
                                         keep ? keep->data() : nullptr};
  nb::gil_scoped_release release;
  return regrain::round_with_feedback(request, indices.data());
}

}  // namespace

#define REGRAIN_BYTES "numpy.typing.NDArray[numpy.uint8] | bytes | memoryview"
#define REGRAIN_WORDS "numpy.typing.NDArray[numpy.unsignedinteger]"
#define REGRAIN_FLOATS "numpy.typing.NDArray[numpy.float32]"
#define REGRAIN_GRID "tuple[numpy.typing.NDArray[numpy.float32], int, int, int, int, int]"
#define REGRAIN_OUTCOME "tuple[int, int | None, str] | None"

void bind_codec(nb::module_& m) {
  m.def("crc32c", &crc32c, "data"_a, "value"_a = 0,
        nb::sig("def crc32c(data: " REGRAIN_BYTES ", value: int = 0) -> int"));
  m.def("decode", &decode, "payload"_a, "out"_a, "seed"_a, "first"_a, "whole"_a, "threads"_a,
        nb::sig("def decode(payload: " REGRAIN_BYTES ", out: " REGRAIN_WORDS
                ", seed: int, first: int, whole: bool, threads: int) -> " REGRAIN_OUTCOME));
  m.def("decode_many", &decode_many, "jobs"_a, "threads"_a,
        nb::sig("def decode_many(jobs: collections.abc.Sequence[tuple[" REGRAIN_BYTES ", " REGRAIN_WORDS
                ", int]], threads: int) -> " REGRAIN_OUTCOME));
  m.def("decode_file", &decode_file, "file"_a, "jobs"_a, "threads"_a,
        nb::sig("def decode_file(file: int, jobs: collections.abc.Sequence[tuple[int, int, " REGRAIN_WORDS
                ", int]], threads: int) -> " REGRAIN_OUTCOME));
  m.def("decode_file_range", &decode_file_range, "file"_a, "offset"_a, "size"_a, "out"_a, "seed"_a, "first"_a, "threads"_a,
        nb::sig("def decode_file_range(file: int, offset: int, size: int, out: " REGRAIN_WORDS
                ", seed: int, first: int, threads: int) -> " REGRAIN_OUTCOME));
  m.def("dequantize", &dequantize, "indices"_a, "grid"_a, "first"_a, "out"_a,
        nb::sig("def dequantize(indices: numpy.typing.NDArray[numpy.signedinteger], grid: " REGRAIN_GRID
                ", first: int, out: numpy.typing.NDArray[numpy.uint8]) -> None"));
  m.def("decode_weights", &decode_weights, "jobs"_a, "threads"_a,
        nb::sig("def decode_weights(jobs: collections.abc.Sequence[tuple[" REGRAIN_BYTES ", int, int, " REGRAIN_GRID
                ", int, numpy.typing.NDArray[numpy.uint8]]], threads: int) -> " REGRAIN_OUTCOME));
  m.def("decode_weights_file", &decode_weights_file, "file"_a, "jobs"_a, "threads"_a,
        nb::sig("def decode_weights_file(file: int, jobs: collections.abc.Sequence[tuple[tuple[int, int], int, int, "
                REGRAIN_GRID ", int, numpy.typing.NDArray[numpy.uint8]]], threads: int) -> " REGRAIN_OUTCOME));
  m.def("expand", &expand, "mask"_a, "unit"_a, "values"_a, "first"_a, "out"_a,
        nb::sig("def expand(mask: numpy.typing.NDArray[numpy.uint8], unit: tuple[int, int], values: "
                "numpy.typing.NDArray[numpy.integer], first: int, out: numpy.typing.NDArray[numpy.integer]) -> None"));
  m.def("encode", &encode, "words"_a, "out"_a, "family"_a, "mantissa_bits"_a, "row_words"_a, "seed"_a, "threads"_a,
        nb::sig("def encode(words: " REGRAIN_WORDS ", out: numpy.typing.NDArray[numpy.uint8], family: int, "
                "mantissa_bits: int, row_words: int, seed: int, threads: int) -> int"));
  m.def("bound", &regrain::bound, "count"_a, "word_bytes"_a);
  m.def("info", &info, "payload"_a, "seed"_a,
        nb::sig("def info(payload: " REGRAIN_BYTES ", seed: int) -> dict[str, typing.Any] | tuple[int, int | None, str]"));
  m.def("info_file", &info_file, "file"_a, "offset"_a, "size"_a, "seed"_a,
        nb::sig("def info_file(file: int, offset: int, size: int, seed: int) -> dict[str, typing.Any] | tuple[int, int "
                "| None, str]"));
  m.def("allocate", &allocate, "sizes"_a,
        nb::sig("def allocate(sizes: collections.abc.Sequence[int]) -> list[numpy.typing.NDArray[numpy.uint8]]"));
  m.def("instruction_sets", &regrain::instruction_sets, nb::sig("def instruction_sets() -> list[str]"));
  m.def("use_instruction_set", [](const std::string& name) { return regrain::use_instruction_set(name.c_str()); },
        "name"_a);
  m.def("instruction_set", &regrain::instruction_set);
  m.def("round_with_feedback", &round_with_feedback, "weights"_a, "scales"_a, "cell_rows"_a, "cell_columns"_a,
        "column_factor"_a.none(), "row_factor"_a.none(), "weight_rows"_a, "weight_columns"_a, "dead_zone"_a,
        "keep"_a.none(), "indices"_a,
        nb::sig("def round_with_feedback(weights: " REGRAIN_FLOATS ", scales: " REGRAIN_FLOATS ", cell_rows: int, "
                "cell_columns: int, column_factor: " REGRAIN_FLOATS " | None, row_factor: " REGRAIN_FLOATS " | None, "
                "weight_rows: " REGRAIN_FLOATS ", weight_columns: " REGRAIN_FLOATS ", dead_zone: float, keep: "
                "numpy.typing.NDArray[numpy.uint8] | None, indices: "
                "numpy.typing.NDArray[numpy.int16]) -> float"));
  m.def("decode_symbols", &decode_symbols, "payload"_a, "seed"_a, "lockstep"_a, "symbols"_a,
        nb::sig("def decode_symbols(payload: " REGRAIN_BYTES ", seed: int, lockstep: int, symbols: "
                "numpy.typing.NDArray[numpy.uint8]) -> int"));
}
