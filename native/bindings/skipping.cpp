// Products that leave out columns.
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>

#include <new>
#include <optional>

#include "bind.h"
#include "regrain/skipping.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

template <class T, int Axes>
using Array = nb::ndarray<const T, nb::ndim<Axes>, nb::c_contig, nb::device::cpu>;
using Values = nb::ndarray<nb::ro, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Out = nb::ndarray<float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

// An immutable matrix stored by columns. It keeps the arrays that it was made of.
class SkipMatrix {
 public:
  SkipMatrix(unsigned type, std::size_t rows, float threshold, Values values, std::optional<Array<float, 1>> scales,
             Array<float, 1> mean, Array<float, 1> norm, Array<float, 1> bias)
      : values_(std::move(values)), scales_(std::move(scales)), mean_(std::move(mean)), norm_(std::move(norm)),
        bias_(std::move(bias)) {
    if (type > 2) throw nb::value_error("a matrix stored by columns must have a known type");
    skipping_ = {static_cast<regrain::SkipValue>(type), rows, values_.shape(0), values_.shape(1) * values_.itemsize(),
                 threshold, static_cast<const std::uint8_t*>(values_.data()), scales_ ? scales_->data() : nullptr,
                 mean_.data(), norm_.data(), bias_.data()};
    if (rows == 0 || skipping_.columns == 0 || rows > values_.shape(1) || values_.itemsize() != skipping_.item() ||
        skipping_.stride % regrain::kSkipLine != 0 || skipping_.columns > (std::size_t{1} << 31))
      throw nb::value_error("values must have a row for each column, of whole lines of 64 bytes that hold its weights");
    if (scales_.has_value() != (skipping_.type == regrain::SkipValue::i8) || (scales_ && scales_->size() != rows))
      throw nb::value_error("scales must have a value for each row for int8, and be None for floats");
    if (mean_.size() != skipping_.columns || norm_.size() != skipping_.columns || bias_.size() != rows)
      throw nb::value_error("mean and norm must have a value for each column, bias for each row");
  }

  std::int64_t multiply(const Array<float, 2>& x, const Out& out, unsigned threads) const {
    if (x.shape(1) != skipping_.columns || out.shape(1) != skipping_.rows || x.shape(0) != out.shape(0))
      throw nb::value_error("x must have the matrix's columns, and out its rows for each row of x");
    return run(x.data(), x.shape(0), skipping_.columns, out.data(), skipping_.rows, threads);
  }

  // The same where the caller vouches for the memory: addresses of rows of floats that are that many floats apart.
  std::int64_t multiply_at(std::uintptr_t x, std::size_t tokens, std::size_t x_stride, std::uintptr_t out,
                           std::size_t out_stride, unsigned threads) const {
    return run(reinterpret_cast<const float*>(x), tokens, x_stride, reinterpret_cast<float*>(out), out_stride, threads);
  }

 private:
  std::int64_t run(const float* x, std::size_t tokens, std::size_t x_stride, float* out, std::size_t out_stride,
                   unsigned threads) const {
    std::int64_t kept;
    {
      nb::gil_scoped_release release;
      kept = regrain::multiply(skipping_, x, tokens, x_stride, out, out_stride, threads);
    }
    if (kept < 0) throw std::bad_alloc();
    return kept;
  }

  Values values_;
  std::optional<Array<float, 1>> scales_;
  Array<float, 1> mean_, norm_, bias_;
  regrain::Skipping skipping_;
};

}  // namespace

void bind_skipping(nb::module_& m) {
  nb::class_<SkipMatrix>(m, "SkipMatrix")
      .def(nb::init<unsigned, std::size_t, float, Values, std::optional<Array<float, 1>>, Array<float, 1>,
                    Array<float, 1>, Array<float, 1>>(),
           "type"_a, "rows"_a, "threshold"_a, "values"_a, "scales"_a.none(), "mean"_a, "norm"_a, "bias"_a)
      .def("multiply", &SkipMatrix::multiply, "x"_a.noconvert(), "out"_a.noconvert(), "threads"_a)
      .def("multiply_at", &SkipMatrix::multiply_at, "x"_a, "tokens"_a, "x_stride"_a, "out"_a, "out_stride"_a,
           "threads"_a);
}
