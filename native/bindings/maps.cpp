// Networks on maps of eight bits.
#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <new>
#include <optional>
#include <vector>

#include "bind.h"
#include "regrain/maps.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

template <class T, int Axes>
using Array = nb::ndarray<const T, nb::ndim<Axes>, nb::c_contig, nb::device::cpu>;
using Pair = std::array<std::size_t, 2>;

constexpr std::size_t kMost = std::size_t{1} << 24;  // of any size along an axis

// A network is put together once, map by map and step by step, and never changes after its first run. It keeps the arrays
// that it was made of.
class MapNetwork {
 public:
  MapNetwork(std::size_t folded, bool means) {
    if (folded == 0 || folded > 256) throw nb::value_error("folded must be 1 to 256");
    network_.folded = folded;
    network_.means = means;
  }

  void add_map(std::size_t channels, Pair size, Pair margin, float scale, std::int32_t zero) {
    const regrain::Map map{channels, {size[0], size[1]}, {margin[0], margin[1]}, scale, zero};
    bool fits = channels > 0 && channels <= kMost && std::isnormal(scale) && scale > 0 && zero >= 0 && zero <= 255;
    for (int axis = 0; axis < 2; ++axis) fits = fits && size[axis] > 0 && size[axis] <= kMost && margin[axis] <= kMost;
    if (!fits || map.pitch() * (size[0] + 2 * margin[0]) >= kMost << 8 || map.bytes() >= kMost << 7)
      throw nb::value_error("a map must have channels and positions, less than 2^31 bytes, and a scale above 0 with a zero "
                            "of 0 to 255");
    const std::size_t square = network_.folded * network_.folded;
    if (network_.maps.empty() && channels % square != 0)
      throw nb::value_error("the first map must have as many channels as whole squares are folded into");
    network_.maps.push_back(map);
  }

  void convolve(std::size_t input, std::size_t output, std::optional<std::size_t> added, Pair kernel, Pair stride,
                Pair padding, Pair dilation, std::optional<Array<std::uint32_t, 1>> starts,
                std::optional<Array<std::uint32_t, 1>> groups, Array<std::int8_t, 3> values, Array<float, 1> factors,
                Array<float, 1> bias, float weight, float low) {
    const std::size_t maps = network_.maps.size();
    if (input >= output || output >= maps || (added && *added >= output) || output != network_.steps.size() + 1)
      throw nb::value_error("steps must make one map after the other, each of maps before it");
    const regrain::Map &from = network_.maps[input], &to = network_.maps[output];
    const regrain::Window window{from.channels,          {from.size[0], from.size[1]}, {kernel[0], kernel[1]},
                                 {stride[0], stride[1]}, {padding[0], padding[1]},     {dilation[0], dilation[1]}};
    for (int axis = 0; axis < 2; ++axis)
      if (kernel[axis] == 0 || kernel[axis] > kMost || stride[axis] == 0 || stride[axis] > kMost ||
          padding[axis] > from.margin[axis] || dilation[axis] == 0 || dilation[axis] > kMost ||
          window.padded(axis) < window.reach(axis) || window.outputs(axis) != to.size[axis])
        throw nb::value_error("a window must fit into its map and margin, and give the next map's size");
    if (added) {
      const regrain::Map& other = network_.maps[*added];
      if (other.channels != to.channels || other.size[0] != to.size[0] || other.size[1] != to.size[1])
        throw nb::value_error("what is added must have the channels and the size of what is made");
    }
    regrain::MapStep step{input, output, added.value_or(regrain::kNoMap), window, {}, {}, values.data(), factors.data(),
                          bias.data(), weight, low};
    const std::size_t panels = to.pitch() / regrain::kMapRows;
    fill(step, from, panels, starts, groups);
    const std::size_t blocks = step.starts.empty() ? panels * step.offsets.size() : step.offsets.size();
    if (values.shape(0) != blocks || values.shape(1) != regrain::kMapRows || values.shape(2) != regrain::kMapGroup ||
        factors.size() != to.pitch() || bias.size() != to.pitch())
      throw nb::value_error("values must be (blocks, 16, 4), factors and bias have a number for each row of a panel");
    const auto finite = [](float number) { return std::isfinite(number); };
    if (!std::all_of(factors.data(), factors.data() + factors.size(), finite) ||
        !std::all_of(bias.data(), bias.data() + bias.size(), finite) || !finite(weight) || !(low >= 0 && low <= 255))
      throw nb::value_error("factors, bias and weight must be finite, low 0 to 255");
    network_.steps.push_back(std::move(step));
    bytes_.push_back(std::move(values));
    floats_.push_back(std::move(factors));
    floats_.push_back(std::move(bias));
  }

  // Contiguous images and what they give, at addresses that the caller vouches for. false: an input is not finite.
  bool run_at(std::uintptr_t x, std::size_t images, std::uintptr_t out, unsigned threads) const {
    if (network_.steps.empty() || network_.steps.size() + 1 != network_.maps.size())
      throw nb::value_error("a network must have a step for every map but the first");
    regrain::MapOutcome outcome;
    {
      nb::gil_scoped_release release;
      outcome = regrain::run(network_, reinterpret_cast<const float*>(x), images, reinterpret_cast<float*>(out), threads);
    }
    if (outcome == regrain::MapOutcome::no_memory) throw std::bad_alloc();
    return outcome == regrain::MapOutcome::done;
  }

 private:
  // Groups of inputs are numbered by place in the window, then by channels; here they become offsets.
  static void fill(regrain::MapStep& step, const regrain::Map& from, std::size_t panels,
                   const std::optional<Array<std::uint32_t, 1>>& starts,
                   const std::optional<Array<std::uint32_t, 1>>& groups) {
    const regrain::Window& window = step.window;
    const std::size_t each = (from.channels + regrain::kMapGroup - 1) / regrain::kMapGroup;
    const std::size_t all = window.kernel[0] * window.kernel[1] * each;
    if (all > (std::size_t{1} << 14)) throw nb::value_error("a window must see at most 65536 inputs");
    const auto offset = [&](std::size_t group) {
      const std::size_t place = group / each, down = place / window.kernel[1] * window.dilation[0],
                        right = place % window.kernel[1] * window.dilation[1];
      return static_cast<std::uint32_t>((down * from.across() + right) * from.pitch() + group % each * regrain::kMapGroup);
    };
    if (starts.has_value() != groups.has_value())
      throw nb::value_error("starts and groups must be given together, or neither for panels of every group");
    if (!starts) {
      for (std::size_t group = 0; group < all; ++group) step.offsets.push_back(offset(group));
      return;
    }
    if (starts->size() != panels + 1 || (*starts)(0) != 0 || (*starts)(panels) != groups->size())
      throw nb::value_error("starts must have one place for each panel and one more, the last of them the end of groups");
    for (std::size_t p = 0; p < panels; ++p)  // no group twice, or sums could overflow
      if ((*starts)(p + 1) < (*starts)(p) || (*starts)(p + 1) - (*starts)(p) > all)
        throw nb::value_error("starts must not fall, and a panel must have each group once at most");
    step.starts.assign(starts->data(), starts->data() + starts->size());
    for (std::size_t e = 0; e < groups->size(); ++e) {
      if ((*groups)(e) >= all) throw nb::value_error("groups must be of inputs that the window sees");
      step.offsets.push_back(offset((*groups)(e)));
    }
  }

  regrain::MapNetwork network_;
  std::vector<Array<std::int8_t, 3>> bytes_;
  std::vector<Array<float, 1>> floats_;
};

}  // namespace

void bind_maps(nb::module_& m) {
  nb::class_<MapNetwork>(m, "MapNetwork")
      .def(nb::init<std::size_t, bool>(), "folded"_a, "means"_a)
      .def("add_map", &MapNetwork::add_map, "channels"_a, "size"_a, "margin"_a, "scale"_a, "zero"_a)
      .def("convolve", &MapNetwork::convolve, "input"_a, "output"_a, "added"_a.none(), "kernel"_a, "stride"_a, "padding"_a,
           "dilation"_a, "starts"_a.none(), "groups"_a.none(), "values"_a, "factors"_a, "bias"_a, "weight"_a, "low"_a)
      .def("run_at", &MapNetwork::run_at, "x"_a, "images"_a, "out"_a, "threads"_a);
}
