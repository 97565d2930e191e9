// Products in lists of columns.
#include <nanobind/ndarray.h>

#include <memory>
#include <new>

#include "bind.h"
#include "regrain/rows.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

template <class T, int Axes>
using Array = nb::ndarray<const T, nb::ndim<Axes>, nb::c_contig, nb::device::cpu>;
using Out = nb::ndarray<float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

// An immutable matrix in lists of columns, laid out from a dense one and a mask of its units.
class RowMatrix {
 public:
  RowMatrix(const Array<float, 2>& weights, const Array<bool, 2>& keep, std::size_t unit, Array<float, 1> bias)
      : bias_(std::move(bias)) {
    const std::size_t rows = weights.shape(0), columns = weights.shape(1);
    if (rows == 0 || columns == 0) throw nb::value_error("weights must have rows and columns");
    if (unit != 1 && unit != 4) throw nb::value_error("unit must be 1 or 4 rows");
    if (keep.shape(0) != (rows + unit - 1) / unit || keep.shape(1) != columns)
      throw nb::value_error("keep must have a value for each unit of the weights");
    if (bias_.size() != rows) throw nb::value_error("bias must have a value for each row");
    nb::gil_scoped_release release;
    rows_ = std::make_shared<const regrain::Rows>(regrain::pack_rows(
        weights.data(), rows, columns, reinterpret_cast<const std::uint8_t*>(keep.data()), unit));
  }

  RowMatrix with_bias(Array<float, 1> bias) const {
    if (bias.size() != rows_->rows) throw nb::value_error("bias must have a value for each row");
    return RowMatrix(rows_, std::move(bias));
  }

  void multiply(const Array<float, 2>& x, const Out& out, unsigned threads) const {
    if (x.shape(1) != rows_->columns || out.shape(1) != rows_->rows || x.shape(0) != out.shape(0))
      throw nb::value_error("x must have the matrix's columns, and out its rows for each row of x");
    run(x.data(), x.shape(0), rows_->columns, out.data(), rows_->rows, threads);
  }

  // The same where the caller vouches for the memory: addresses of rows of floats that are that many floats apart.
  void multiply_at(std::uintptr_t x, std::size_t tokens, std::size_t x_stride, std::uintptr_t out,
                   std::size_t out_stride, unsigned threads) const {
    run(reinterpret_cast<const float*>(x), tokens, x_stride, reinterpret_cast<float*>(out), out_stride, threads);
  }

  std::size_t bytes() const { return rows_->bytes() + bias_.nbytes(); }

 private:
  RowMatrix(std::shared_ptr<const regrain::Rows> rows, Array<float, 1> bias)
      : rows_(std::move(rows)), bias_(std::move(bias)) {}

  void run(const float* x, std::size_t tokens, std::size_t x_stride, float* out, std::size_t out_stride,
           unsigned threads) const {
    bool done;
    {
      nb::gil_scoped_release release;
      done = regrain::multiply(*rows_, bias_.data(), x, tokens, x_stride, out, out_stride, threads);
    }
    if (!done) throw std::bad_alloc();
  }

  std::shared_ptr<const regrain::Rows> rows_;
  Array<float, 1> bias_;
};

}  // namespace

void bind_rows(nb::module_& m) {
  nb::class_<RowMatrix>(m, "RowMatrix")
      .def(nb::init<const Array<float, 2>&, const Array<bool, 2>&, std::size_t, Array<float, 1>>(),
           "weights"_a, "keep"_a, "unit"_a, "bias"_a)
      .def("with_bias", &RowMatrix::with_bias, "bias"_a)
      .def("multiply", &RowMatrix::multiply, "x"_a.noconvert(), "out"_a.noconvert(), "threads"_a)
      .def("multiply_at", &RowMatrix::multiply_at, "x"_a, "tokens"_a, "x_stride"_a, "out"_a, "out_stride"_a,
           "threads"_a)
      .def_prop_ro("nbytes", &RowMatrix::bytes);
}
