"""Networks on maps of eight bits: every instruction set against NumPy bit by bit, and NumPy against torch's floats."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from regrain import _native, kernels
from regrain.kernels import reference_maps
from regrain.kernels.convolution import Window
from regrain.kernels.maps import Convolution, Grid, Network


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before = kernels.instruction_set()
    yield
    kernels.use_instruction_set(before)


def pairs(low: int, high: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(low, high), st.integers(low, high))


def weights(rng: np.random.Generator, rows: int, channels: int, kernel: tuple[int, int], dropped: float) -> np.ndarray:
    """Some of whose blocks of 16 rows by 4 channels are 0."""
    found = rng.normal(0, 0.2, (rows, channels, *kernel)).astype(np.float32)
    kept = rng.random((-(-rows // 16), -(-channels // 4), *kernel)) >= dropped
    return found * kept.repeat(16, axis=0)[:rows].repeat(4, axis=1)[:, :channels]


def everywhere(network: Network, x: np.ndarray) -> np.ndarray:
    """What all instruction sets give, with one thread or several."""
    wanted = reference_maps.run(network, x)
    for name in kernels.instruction_sets():
        kernels.use_instruction_set(name)
        for threads in (1, 3):
            out = np.full(wanted.shape, np.nan, np.float32)
            assert network.run(x, out, threads)
            assert out.tobytes() == wanted.tobytes(), name
    return wanted


@settings(max_examples=80, deadline=None)
@given(
    st.tuples(st.integers(0, 5), st.integers(1, 9), st.integers(1, 50)),
    pairs(1, 12),
    st.builds(Window, pairs(1, 4), pairs(1, 3), pairs(0, 3), pairs(1, 2)),
    st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.booleans(), st.booleans(), st.booleans()),
    st.integers(0, 2**32),
)
def test_equal_to_the_reference(counts, size, window, kind, seed) -> None:
    """Two steps and a sum, of any sizes; the second one sees three places of a row."""
    images, channels, rows = counts
    dropped, added, rectified, means = kind
    try:
        height, width = window.outputs(size)
    except ValueError:
        assume(False)
    rng = np.random.default_rng(seed)
    first = Convolution(
        0, window, weights(rng, rows, channels, window.kernel, dropped), rng.normal(0, 1, rows).astype(np.float32),
        Grid.spanning(-2.0, 3.0),
    )  # fmt: skip
    second = Convolution(
        1, Window((1, 3), padding=(0, 1)), weights(rng, rows, rows, (1, 3), dropped),
        rng.normal(0, 1, rows).astype(np.float32), Grid.spanning(-1.0, 4.0), 1 if added else None, rectified,
    )  # fmt: skip
    network = Network.pack((channels, *size), Grid.spanning(-3.0, 2.5), (first, second), means=means)
    x = rng.normal(0, 1.5, (images, channels, *size)).astype(np.float32)
    found = everywhere(network, x)
    assert found.shape == (images, rows) if means else (images, rows, height, width)


def test_close_to_floats() -> None:
    """A residual block with folded pixels, against torch in double precision: within what the grids' steps make."""
    rng = np.random.default_rng(0)
    tensors = [weights(rng, 20, 8, (3, 3), 0.5), weights(rng, 20, 20, (3, 3), 0.5), weights(rng, 20, 8, (1, 1), 0.0)]
    biases = [rng.normal(0, 0.5, 20).astype(np.float32) for _ in tensors]
    x = rng.uniform(0, 1, (7, 2, 12, 10)).astype(np.float32)
    windows = [Window((3, 3), (2, 2), (1, 1)), Window((3, 3), padding=(1, 1)), Window((1, 1), (2, 2))]

    def conv(given: torch.Tensor, index: int) -> torch.Tensor:
        window = windows[index]
        return torch.nn.functional.conv2d(
            given, torch.from_numpy(tensors[index]).double(), torch.from_numpy(biases[index]).double(), window.stride,
            window.padding,
        )  # fmt: skip

    images = torch.nn.functional.pixel_unshuffle(torch.from_numpy(x).double(), 2)
    one = conv(images, 0).relu()
    two = conv(images, 2)
    three = (conv(one, 1) + two).relu()

    def grid(maps: torch.Tensor) -> Grid:
        return Grid.spanning(float(maps.min()), float(maps.max()))

    steps = (
        Convolution(0, windows[0], tensors[0], biases[0], grid(one), None, True),
        Convolution(0, windows[2], tensors[2], biases[2], grid(two)),
        Convolution(1, windows[1], tensors[1], biases[1], grid(three), 2, True),
    )
    network = Network.pack((2, 12, 10), grid(images), steps, folded=2)
    error = everywhere(network, x) - three.numpy()
    assert np.abs(error).max() < 0.03 * float(three.max())
    assert np.square(error).mean() < 1e-4 * float(three.square().mean())


def test_an_image_is_the_same_beside_any_others() -> None:
    rng = np.random.default_rng(1)
    steps = [
        Convolution(0, Window((3, 3), padding=(1, 1)), weights(rng, 40, 3, (3, 3), 0), np.zeros(40, np.float32),
                    Grid.spanning(0, 4), None, True),
        Convolution(1, Window((3, 3), (2, 2), (1, 1)), weights(rng, 33, 40, (3, 3), 0.6), np.zeros(33, np.float32),
                    Grid.spanning(-2, 2)),
    ]  # fmt: skip
    network = Network.pack((3, 40, 44), Grid.spanning(-4, 4), steps)  # so large that few images go together
    x = rng.normal(0, 1, (9, 3, 40, 44)).astype(np.float32)
    together = np.empty((9, *network.outputs), np.float32)
    assert network.run(x, together, 2)
    for index in range(len(x)):
        alone = np.empty((1, *network.outputs), np.float32)
        assert network.run(x[index : index + 1], alone)
        assert alone[0].tobytes() == together[index].tobytes()


def test_inputs_that_are_not_finite_are_told() -> None:
    one, grid = np.ones((1, 1, 1, 1), np.float32), Grid.spanning(0, 1)
    network = Network.pack((1, 4, 4), grid, [Convolution(0, Window((1, 1)), one, np.zeros(1, np.float32), grid)])
    out = np.empty((2, 1, 4, 4), np.float32)
    for bad in (np.nan, np.inf, -np.inf):
        x = np.zeros((2, 1, 4, 4), np.float32)
        assert network.run(x, out)
        x[1, 0, 3, 2] = bad
        for name in kernels.instruction_sets():
            kernels.use_instruction_set(name)
            assert not network.run(x, out)


@pytest.mark.parametrize(
    ("low", "high", "scale", "zero"),
    [(0, 0, float(np.finfo(np.float32).tiny), 0), (-1, 1.55, 0.01, 100), (2, 5.1, 0.02, 0)],
)
def test_grids(low: float, high: float, scale: float, zero: int) -> None:
    grid = Grid.spanning(low, high)
    assert grid.scale == pytest.approx(scale)
    assert grid.zero == zero


def test_bad_networks() -> None:
    ones, none, grid = np.ones((4, 2, 3, 3), np.float32), np.zeros(4, np.float32), Grid.spanning(0, 1)
    step = Convolution(0, Window((3, 3)), ones, none, grid)
    network = Network.pack((2, 5, 5), grid, [step])
    with pytest.raises(ValueError, match=r"height and width must be multiples of 2, not \(5, 5\)"):
        Network.pack((2, 5, 5), grid, [step], folded=2)
    with pytest.raises(ValueError, match=r"weights must be \(rows, channels, window\), not \(4, 2, 3, 3\)"):
        Network.pack((3, 5, 5), grid, [step])
    with pytest.raises(ValueError, match=r"x must be float32 of \(1, 2, 5, 5\) in C order, not float64"):
        network.run(np.zeros((1, 2, 5, 5)), np.zeros((1, 4, 3, 3), np.float32))
    with pytest.raises(ValueError, match=r"out must be float32 of \(1, 4, 3, 3\) in C order, not float32 of \(1, 4\)"):
        network.run(np.zeros((1, 2, 5, 5), np.float32), np.zeros((1, 4), np.float32))
    with pytest.raises(ValueError, match="images must be at least as large as the window"):
        Network.pack((2, 2, 5), grid, [step])


def test_bad_parts() -> None:
    """What the compiled class refuses, whoever gives it."""
    values, floats = np.zeros((9, 16, 4), np.int8), np.zeros(16, np.float32)

    def network() -> _native.MapNetwork:
        found = _native.MapNetwork(1, False)
        found.add_map(2, (5, 5), (1, 1), 1.0, 0)
        found.add_map(4, (5, 5), (0, 0), 1.0, 0)
        return found

    good = {
        "input": 0, "output": 1, "added": None, "kernel": (3, 3), "stride": (1, 1), "padding": (1, 1),
        "dilation": (1, 1), "starts": None, "groups": None, "values": values, "factors": floats, "bias": floats,
        "weight": 0.0, "low": 0.0,
    }  # fmt: skip
    network().convolve(**good)
    nan = np.full(16, np.nan, np.float32)
    starts, groups = np.array([0, 1], np.uint32), np.array([9], np.uint32)
    for changes, message in (
        ({"input": 1}, "steps must make one map after the other"),
        ({"output": 2}, "steps must make one map after the other"),
        ({"added": 1}, "steps must make one map after the other"),
        ({"added": 0}, "what is added must have the channels"),
        ({"kernel": (3, 4)}, "a window must fit"),
        ({"padding": (2, 2)}, "a window must fit"),
        ({"stride": (0, 1)}, "a window must fit"),
        ({"values": values[:8]}, r"values must be \(blocks, 16, 4\)"),
        ({"bias": floats[:4]}, r"values must be \(blocks, 16, 4\)"),
        ({"factors": nan}, "factors, bias and weight must be finite"),
        ({"low": 256.0}, "low 0 to 255"),
        ({"starts": starts}, "starts and groups must be given together"),
        ({"starts": starts, "groups": groups, "values": values[:1]}, "groups must be of inputs that the window sees"),
        ({"starts": starts[:1], "groups": groups[:0]}, "starts must have one place for each panel"),
        ({"starts": np.array([0, 10], np.uint32), "groups": np.zeros(10, np.uint32)}, "each group once at most"),
    ):
        with pytest.raises(ValueError, match=message):
            network().convolve(**good | changes)
    with pytest.raises(ValueError, match="a network must have a step for every map"):
        network().run_at(0, 1, 0, 1)
    for arguments in ((0, (5, 5), (0, 0), 1.0, 0), (1, (0, 5), (0, 0), 1.0, 0), (1, (5, 5), (0, 0), 0.0, 0),
                      (1, (5, 5), (0, 0), 1.0, 256), (1 << 20, (1 << 20, 4), (0, 0), 1.0, 0)):  # fmt: skip
        with pytest.raises(ValueError, match="a map must have channels and positions"):
            _native.MapNetwork(1, False).add_map(*arguments)
    with pytest.raises(ValueError, match="as many channels as whole squares"):
        _native.MapNetwork(2, False).add_map(2, (5, 5), (0, 0), 1.0, 0)
    with pytest.raises(ValueError, match="folded must be 1 to 256"):
        _native.MapNetwork(0, False)
