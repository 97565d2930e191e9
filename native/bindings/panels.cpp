// Products in panels.
#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>

#include <algorithm>
#include <new>
#include <optional>
#include <stdexcept>

#include "bind.h"
#include "regrain/convolution.h"
#include "regrain/panels.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

template <class T, int Axes>
using Array = nb::ndarray<const T, nb::ndim<Axes>, nb::c_contig, nb::device::cpu>;
using Values = nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>;
using Out = nb::ndarray<float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

using Pair = std::array<std::size_t, 2>;

// An immutable matrix in panels. It keeps the arrays that it was made of.
class PanelMatrix {
 public:
  PanelMatrix(unsigned type, std::size_t rows, std::size_t columns, std::size_t segments, bool shared,
              Array<std::uint32_t, 1> starts, std::optional<Array<std::uint16_t, 1>> lists, Values values,
              std::optional<Array<float, 3>> scales, Array<float, 1> bias)
      : starts_(std::move(starts)), lists_(std::move(lists)), values_(std::move(values)), scales_(std::move(scales)), bias_(std::move(bias)) {
    if (type > 3 || rows == 0 || columns == 0 || segments == 0 || rows > (std::size_t{1} << 32) ||
        columns > (std::size_t{1} << 16))
      throw nb::value_error("a matrix in panels must have a known type, rows, segments and at most 65536 columns");
    panels_ = {static_cast<regrain::PanelValue>(type), rows, columns, segments, shared, starts_.data(),
               lists_ ? lists_->data() : nullptr, values_.data(), scales_ ? scales_->data() : nullptr, bias_.data()};
    check();
  }

  // Fills the values, which nobody has used yet, from a matrix (rows, columns) of their type, or of int8 for four bits.
  void pack(const nb::ndarray<nb::ro, nb::ndim<2>, nb::c_contig, nb::device::cpu>& matrix,
            const nb::ndarray<nb::c_contig, nb::device::cpu>& values) const {
    constexpr std::size_t kBytes[] = {4, 2, 1, 1};
    if (matrix.shape(0) != panels_.rows || matrix.shape(1) != panels_.columns || values.data() != panels_.values ||
        matrix.itemsize() != kBytes[static_cast<std::size_t>(panels_.type)])
      throw nb::value_error("pack needs the whole matrix in the type of the values, and the values themselves");
    bool done;
    {
      nb::gil_scoped_release release;
      done = regrain::pack(panels_, matrix.data(), values.data());
    }
    if (!done) throw std::bad_alloc();
  }

  void multiply(const Array<float, 2>& x, const Out& out, unsigned threads) const {
    if (x.shape(1) != panels_.columns || out.shape(1) != panels_.rows || x.shape(0) != out.shape(0))
      throw nb::value_error("x must have the matrix's columns, and out its rows for each row of x");
    run(x.data(), x.shape(0), panels_.columns, out.data(), panels_.rows, threads);
  }

  // A convolution, where the matrix is (rows, channels * kernel): x (images, channels, height, width) and out are
  // contiguous at the addresses. Throws unless the window fits.
  void convolve_at(std::uintptr_t x, std::size_t images, std::size_t channels, Pair size, Pair kernel, Pair stride,
                   Pair padding, Pair dilation, std::uintptr_t out, unsigned threads) const {
    constexpr std::size_t kMost = std::size_t{1} << 24;
    regrain::Window window{channels, {size[0], size[1]}, {kernel[0], kernel[1]}, {stride[0], stride[1]},
                           {padding[0], padding[1]}, {dilation[0], dilation[1]}};
    std::size_t floats = channels;
    for (int axis = 0; axis < 2; ++axis) {
      if (size[axis] > kMost || kernel[axis] == 0 || kernel[axis] > kMost || stride[axis] == 0 || stride[axis] > kMost ||
          padding[axis] > kMost || dilation[axis] == 0 || dilation[axis] > kMost || window.padded(axis) < window.reach(axis))
        throw nb::value_error("a window must fit into its padded image, with a stride and a dilation of at least 1");
      floats = std::min(kMost << 8, floats * window.padded(axis));
    }
    if (channels == 0 || channels > kMost || channels * kernel[0] * kernel[1] != panels_.columns ||
        floats >= kMost << 8)
      throw nb::value_error("the matrix must have a column for each channel and place of the window, and a padded image "
                            "less than 2^32 values");
    bool done;
    {
      nb::gil_scoped_release release;
      done = regrain::convolve(panels_, window, reinterpret_cast<const float*>(x), images, reinterpret_cast<float*>(out),
                               threads);
    }
    if (!done) throw std::bad_alloc();
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
      done = regrain::multiply(panels_, x, tokens, x_stride, out, out_stride, threads);
    }
    if (!done) throw std::bad_alloc();
  }

  void check() const {
    const std::size_t lists = panels_.shared ? 1 : panels_.panels(), copies = panels_.shared ? panels_.panels() : 1;
    if (starts_.size() != lists * panels_.segments + 1 || starts_(0) != 0 || bias_.size() != panels_.panels() * regrain::kPanelRows)
      throw nb::value_error("starts must have one place for each segment and one more, bias a value for each row of a panel");
    for (std::size_t s = 1; s < starts_.size(); ++s)
      if (starts_(s) < starts_(s - 1) || (panels_.type == regrain::PanelValue::i4 && starts_(s) % 2 != 0))
        throw nb::value_error("starts must not fall, and be even for four-bit values");
    const std::size_t entries = starts_(starts_.size() - 1);
    if (lists_ ? lists_->size() != entries : !panels_.shared || entries != panels_.columns)
      throw nb::value_error("lists must name a column for each entry, or be None for shared panels of every column");
    if (!named(entries)) throw nb::value_error("lists must name columns of the matrix");
    const bool scaled = panels_.type == regrain::PanelValue::i8 || panels_.type == regrain::PanelValue::i4;
    if (scaled != scales_.has_value() || (!scaled && panels_.segments != 1) ||
        (scaled && (scales_->shape(0) != panels_.panels() || scales_->shape(1) != panels_.segments || scales_->shape(2) != regrain::kPanelRows)))
      throw nb::value_error("scales must be (panels, segments, 16) for integers, and None for floats, which have one segment");
    constexpr std::size_t kBytes[] = {64, 32, 16, 8};
    if (values_.nbytes() != entries * copies * kBytes[static_cast<std::size_t>(panels_.type)])
      throw nb::value_error("values must have sixteen weights for each entry of each panel");
  }

  bool named(std::size_t entries) const {
    if (!lists_) return true;
    const nb::gil_scoped_release release;  // others go on while a large list is looked through
    const std::uint16_t* lists = lists_->data();
    return std::all_of(lists, lists + entries, [this](std::uint16_t column) { return column < panels_.columns; });
  }

  Array<std::uint32_t, 1> starts_;
  std::optional<Array<std::uint16_t, 1>> lists_;
  Values values_;
  std::optional<Array<float, 3>> scales_;
  Array<float, 1> bias_;
  regrain::Panels panels_;
};

}  // namespace

void bind_panels(nb::module_& m) {
  nb::class_<PanelMatrix>(m, "PanelMatrix")
      .def(nb::init<unsigned, std::size_t, std::size_t, std::size_t, bool, Array<std::uint32_t, 1>,
                    std::optional<Array<std::uint16_t, 1>>, Values, std::optional<Array<float, 3>>, Array<float, 1>>(),
           "type"_a, "rows"_a, "columns"_a, "segments"_a, "shared"_a, "starts"_a, "lists"_a.none(), "values"_a,
           "scales"_a.none(), "bias"_a)
      .def("pack", &PanelMatrix::pack, "matrix"_a.noconvert(), "values"_a.noconvert())
      .def("multiply", &PanelMatrix::multiply, "x"_a.noconvert(), "out"_a.noconvert(), "threads"_a)
      .def("multiply_at", &PanelMatrix::multiply_at, "x"_a, "tokens"_a, "x_stride"_a, "out"_a, "out_stride"_a,
           "threads"_a)
      .def("convolve_at", &PanelMatrix::convolve_at, "x"_a, "images"_a, "channels"_a, "size"_a, "kernel"_a, "stride"_a,
           "padding"_a, "dilation"_a, "out"_a, "threads"_a);
}
