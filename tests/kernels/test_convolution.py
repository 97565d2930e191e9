"""Convolutions by panels against torch's."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regrain import kernels
from regrain.kernels.convolution import Window, convolve
from regrain.kernels.panels import Panels


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before = kernels.instruction_set()
    yield
    kernels.use_instruction_set(before)


def pairs(low: int, high: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(low, high), st.integers(low, high))


def expected(weights: np.ndarray, bias: np.ndarray, window: Window, x: np.ndarray) -> np.ndarray:
    """In double precision."""
    return torch.nn.functional.conv2d(
        torch.from_numpy(x).double(), torch.from_numpy(weights).double(), torch.from_numpy(bias).double(),
        window.stride, window.padding, window.dilation,
    ).numpy()  # fmt: skip


@settings(max_examples=120, deadline=None)
@given(
    st.tuples(st.integers(0, 3), st.integers(1, 9), st.integers(1, 40)),
    pairs(1, 20),
    st.builds(Window, pairs(1, 4), pairs(1, 3), pairs(0, 3), pairs(1, 3)),
    st.sampled_from(["dense", "columns", "blocks"]),
    st.integers(0, 2**32),
)
def test_convolutions(
    counts: tuple[int, int, int], size: tuple[int, int], window: Window, kind: str, seed: int
) -> None:
    images, channels, rows = counts
    rng = np.random.default_rng(seed)
    weights = rng.normal(0, 1, (rows, channels, *window.kernel)).astype(np.float32)
    bias = rng.normal(0, 1, rows).astype(np.float32)
    x = rng.normal(0, 1, (images, channels, *size)).astype(np.float32)
    reach = [d * (k - 1) + 1 for d, k in zip(window.dilation, window.kernel, strict=True)]
    if any(long + 2 * edge < r for long, edge, r in zip(size, window.padding, reach, strict=True)):
        with pytest.raises(ValueError, match="images must be at least as large as the window"):
            window.outputs(size)
        return
    height, width = window.outputs(size)
    matrix = weights.reshape(rows, -1)
    keep = None
    if kind != "dense":
        keep = rng.random((matrix.shape[1],) if kind == "columns" else (-(-rows // 16), matrix.shape[1])) < 0.5
        matrix = matrix * (keep if keep.ndim == 1 else keep.repeat(16, axis=0)[:rows])
    layout = Panels.pack(weights.reshape(rows, -1), keep=keep, bias=bias)
    wanted = expected(matrix.reshape(weights.shape), bias, window, x)
    assert wanted.shape == (images, rows, height, width)
    for name in kernels.instruction_sets():
        kernels.use_instruction_set(name)
        for threads in (1, 2):
            out = np.full(wanted.shape, np.nan, np.float32)
            convolve(layout, window, x, out, threads)
            assert np.allclose(out, wanted, rtol=1e-4, atol=1e-4)


def test_large_maps_in_several_chunks() -> None:
    rng = np.random.default_rng(0)
    weights = rng.normal(0, 0.1, (40, 70, 3, 3)).astype(np.float32)
    x = rng.normal(0, 1, (2, 70, 37, 41)).astype(np.float32)
    bias = np.zeros(40, np.float32)
    layout = Panels.pack(weights.reshape(40, -1))
    for stride in ((1, 1), (2, 2)):
        window = Window((3, 3), stride, (1, 1))
        wanted = expected(weights, bias, window, x)
        for threads in (1, 2):
            out = np.full(wanted.shape, np.nan, np.float32)
            convolve(layout, window, x, out, threads)
            assert np.allclose(out, wanted, rtol=1e-4, atol=1e-4)


def test_bad_windows() -> None:
    layout = Panels.pack(np.ones((4, 2 * 9), np.float32))
    x, out = np.zeros((1, 2, 5, 5), np.float32), np.zeros((1, 4, 3, 3), np.float32)
    convolve(layout, Window((3, 3)), x, out)
    with pytest.raises(ValueError, match=r"images must be at least as large as the window \(3, 3\), not \(2, 5\)"):
        convolve(layout, Window((3, 3)), np.zeros((1, 2, 2, 5), np.float32), out)
    with pytest.raises(ValueError, match="a column for each channel and place of the window"):
        convolve(layout, Window((3, 3)), np.zeros((1, 3, 5, 5), np.float32), out)
    with pytest.raises(ValueError, match=r"out must be writable and of shape \(1, 4, 3, 3\), not \(1, 4, 3, 4\)"):
        convolve(layout, Window((3, 3)), x, np.zeros((1, 4, 3, 4), np.float32))
    with pytest.raises(ValueError, match="x must be float32 in C order with four axes, not float64"):
        convolve(layout, Window((3, 3)), np.zeros((1, 2, 5, 5)), out)
    with pytest.raises(ValueError, match="a window must fit into its padded image"):
        layout.native.convolve_at(0, 1, 2, (5, 5), (3, 3), (0, 1), (0, 0), (1, 1), 0, 1)
