// Products of integers.
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>

#include <new>
#include <optional>
#include <utility>
#include <vector>

#include "bind.h"
#include "regrain/integers.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

template <class T, int Axes>
using Array = nb::ndarray<const T, nb::ndim<Axes>, nb::c_contig, nb::device::cpu>;
using Out = nb::ndarray<float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

constexpr std::size_t kMostColumns = std::size_t{1} << 16, kMostRows = std::size_t{1} << 32;

// An immutable matrix of int8 in blocks of 16 x 4. It keeps the arrays that it was made of.
class IntegerMatrix {
 public:
  IntegerMatrix(std::size_t rows, std::size_t columns, std::optional<Array<std::uint16_t, 1>> gathered,
                std::optional<Array<std::uint32_t, 1>> starts, std::optional<Array<std::uint16_t, 1>> lists,
                Array<std::int8_t, 3> values, Array<float, 1> scales, Array<float, 1> bias)
      : gathered_(std::move(gathered)), starts_(std::move(starts)), lists_(std::move(lists)), values_(std::move(values)),
        scales_(std::move(scales)), bias_(std::move(bias)) {
    if (rows == 0 || columns == 0 || rows > kMostRows || columns > kMostColumns)
      throw nb::value_error("a matrix of integers must have rows and at most 65536 columns");
    integers_ = {rows,
                 columns,
                 gathered_ ? gathered_->size() : columns,
                 gathered_ ? gathered_->data() : nullptr,
                 nullptr,
                 starts_ ? starts_->data() : nullptr,
                 lists_ ? lists_->data() : nullptr,
                 values_.data(),
                 nullptr,
                 scales_.data(),
                 bias_.data()};
    check();
    mark();
    add_up();
  }

  void multiply(const Array<float, 2>& x, const Out& out, unsigned threads) const {
    if (x.shape(1) != integers_.columns || out.shape(1) != integers_.rows || x.shape(0) != out.shape(0))
      throw nb::value_error("x must have the matrix's columns, and out its rows for each row of x");
    run(x.data(), x.shape(0), integers_.columns, out.data(), integers_.rows, threads);
  }

  // The same where the caller vouches for the memory: addresses of rows of floats that are that many floats apart.
  void multiply_at(std::uintptr_t x, std::size_t tokens, std::size_t x_stride, std::uintptr_t out,
                   std::size_t out_stride, unsigned threads) const {
    run(reinterpret_cast<const float*>(x), tokens, x_stride, reinterpret_cast<float*>(out), out_stride, threads);
  }

 private:
  void run(const float* x, std::size_t tokens, std::size_t x_stride, float* out, std::size_t out_stride,
           unsigned threads) const {
    bool done;
    {
      nb::gil_scoped_release release;
      done = regrain::multiply(integers_, x, tokens, x_stride, out, out_stride, threads);
    }
    if (!done) throw std::bad_alloc();
  }

  void check() const {
    const std::size_t panels = integers_.panels(), groups = integers_.groups();
    for (std::size_t i = 0; gathered_ && i < integers_.inputs; ++i)
      if ((*gathered_)(i) >= integers_.columns || (i > 0 && (*gathered_)(i) <= (*gathered_)(i - 1)))
        throw nb::value_error("gathered must name columns of the matrix, ascending");
    if (starts_.has_value() != lists_.has_value())
      throw nb::value_error("starts and lists must be given together, or neither for panels of every group");
    std::size_t blocks = panels * groups;
    if (starts_) {
      if (starts_->size() != panels + 1 || (*starts_)(0) != 0)
        throw nb::value_error("starts must have one place for each panel and one more");
      for (std::size_t p = 0; p < panels; ++p)
        if ((*starts_)(p + 1) < (*starts_)(p)) throw nb::value_error("starts must not fall");
      blocks = (*starts_)(panels);
      if (lists_->size() != blocks) throw nb::value_error("lists must name a group for each block");
      for (std::size_t e = 0; e < blocks; ++e)
        if ((*lists_)(e) >= groups) throw nb::value_error("lists must name groups of four inputs");
      for (std::size_t p = 0; p < panels; ++p)  // no group twice, or sums could overflow
        if ((*starts_)(p + 1) - (*starts_)(p) > groups) throw nb::value_error("a panel must have each group once at most");
    }
    if (values_.shape(0) != blocks || values_.shape(1) != regrain::kBlockRows || values_.shape(2) != regrain::kBlockColumns)
      throw nb::value_error("values must be (blocks, 16, 4)");
    if (scales_.size() != panels * regrain::kBlockRows || bias_.size() != panels * regrain::kBlockRows)
      throw nb::value_error("scales and bias must have a value for each row of a panel");
  }

  void mark() {
    if (!gathered_) return;
    masks_.assign((integers_.columns + 15) / 16, 0);
    for (std::size_t i = 0; i < integers_.inputs; ++i)
      masks_[(*gathered_)(i) / 16] |= static_cast<std::uint16_t>(1u << (*gathered_)(i) % 16);
    integers_.masks = masks_.data();
  }

  void add_up() {
    sums_.assign(integers_.panels() * regrain::kBlockRows, 0);
    for (std::size_t p = 0; p < integers_.panels(); ++p) {
      const std::size_t first = starts_ ? (*starts_)(p) : p * integers_.groups();
      const std::size_t last = starts_ ? (*starts_)(p + 1) : first + integers_.groups();
      for (std::size_t e = first; e < last; ++e)
        for (std::size_t r = 0; r < regrain::kBlockRows; ++r)
          for (std::size_t k = 0; k < regrain::kBlockColumns; ++k)
            sums_[p * regrain::kBlockRows + r] += values_(e, r, k);
    }
    integers_.sums = sums_.data();
  }

  std::optional<Array<std::uint16_t, 1>> gathered_;
  std::optional<Array<std::uint32_t, 1>> starts_;
  std::optional<Array<std::uint16_t, 1>> lists_;
  Array<std::int8_t, 3> values_;
  Array<float, 1> scales_;
  Array<float, 1> bias_;
  std::vector<std::uint16_t> masks_;
  std::vector<std::int32_t> sums_;
  regrain::Integers integers_;
};

}  // namespace

void bind_integers(nb::module_& m) {
  nb::class_<IntegerMatrix>(m, "IntegerMatrix")
      .def(nb::init<std::size_t, std::size_t, std::optional<Array<std::uint16_t, 1>>,
                    std::optional<Array<std::uint32_t, 1>>, std::optional<Array<std::uint16_t, 1>>,
                    Array<std::int8_t, 3>, Array<float, 1>, Array<float, 1>>(),
           "rows"_a, "columns"_a, "gathered"_a.none(), "starts"_a.none(), "lists"_a.none(), "values"_a, "scales"_a,
           "bias"_a)
      .def("multiply", &IntegerMatrix::multiply, "x"_a.noconvert(), "out"_a.noconvert(), "threads"_a)
      .def("multiply_at", &IntegerMatrix::multiply_at, "x"_a, "tokens"_a, "x_stride"_a, "out"_a, "out_stride"_a,
           "threads"_a);
}
