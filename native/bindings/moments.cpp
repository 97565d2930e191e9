// Sums over rows.
#include "regrain/moments.h"

#include <nanobind/ndarray.h>

#include "bind.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

template <class T, int Axes>
using Array = nb::ndarray<const T, nb::ndim<Axes>, nb::c_contig, nb::device::cpu>;
using Sums = nb::ndarray<double, nb::shape<2, -1>, nb::c_contig, nb::device::cpu>;

bool moments(const Array<float, 2>& x, const Array<float, 1>& mean, const Sums& sums) {
  const std::size_t columns = mean.shape(0);
  if (x.shape(1) != columns || sums.shape(1) != columns)
    throw nb::value_error("mean and sums must have as many columns as x");
  nb::gil_scoped_release release;
  return regrain::moments(x.data(), x.shape(0), columns, mean.data(), sums.data(), sums.data() + columns);
}

}  // namespace

void bind_moments(nb::module_& m) { m.def("moments", moments, "x"_a, "mean"_a, "sums"_a.noconvert()); }
