"""All products beside their peers on one thread: python benchmarks/kernels/products.py [--quick] [--deepsparse]

A row of the results is a shape and a number of tokens, with the microseconds of each contender. Cold: one token, and
weights that come from DRAM, for each contender goes through copies that no cache holds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np
import peers
import timing
import torch
from numpy.typing import NDArray

from regrain.kernels.integers import COLUMNS, Integers
from regrain.kernels.panels import ROWS, Panels
from regrain.kernels.product import Product
from regrain.kernels.rows import Rows

TOKENS = (1, 16, 128)
NEAR, HALF, BYTE, NIBBLE = 1e-3, 2e-2, 0.25, 1.5
"""How far results of weights of 32, 16, 8 and 4 bits may be off, whose standard deviation is 1."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Problem:
    """W (rows, columns), b (rows,) and masks."""

    weights: Floats
    bias: Floats
    columns: NDArray[np.bool_]
    rng: np.random.Generator

    @classmethod
    def of(cls, rows: int, columns: int) -> Problem:
        rng = np.random.default_rng(0)
        weights = rng.normal(0, columns**-0.5, (rows, columns)).astype(np.float32)
        bias = rng.normal(0, 1, rows).astype(np.float32)
        return cls(weights, bias, rng.permutation(columns) < columns // 2, rng)

    def tokens(self, count: int) -> Floats:
        """x (count, columns)."""
        return self.rng.normal(0, 1, (count, self.weights.shape[1])).astype(np.float32)

    def units(self, rows: int, columns: int, sparsity: float) -> NDArray[np.bool_]:
        """Which units of (rows, columns) are kept."""
        down, across = self.weights.shape
        return self.rng.random((-(-down // rows), -(-across // columns))) >= sparsity

    def less(self, keep: NDArray[np.bool_], rows: int = 1, columns: int = 1) -> Floats:
        """The weights without those that are dropped."""
        down, across = self.weights.shape
        mask = keep.repeat(rows, axis=0).repeat(columns, axis=1)[:down, :across] if keep.ndim == 2 else keep
        return self.weights * mask


@dataclass(frozen=True)
class Way:
    """A layout or a peer: what it makes of tokens, and W that this is the product with. Without `bytes`, what it reads
    of W, it doesn't run cold.
    """

    name: str
    make: Callable[[Floats], Callable[[], Any]]
    weights: Floats
    room: float = NEAR
    bytes: int = 0


def ours(name: str, layout: Callable[[], Product], weights: Floats, room: float = NEAR) -> Way:
    """A layout of regrain."""

    def make(x: Floats) -> Callable[[], Floats]:
        made = layout()
        out = np.empty((len(x), made.rows), np.float32)

        def run() -> Floats:
            made.multiply(x, out)
            return out

        return run

    return Way(name, make, weights, room, layout().nbytes)


def layouts(problem: Problem, tokens: int) -> Iterator[Way]:
    """What regrain has for so many tokens."""
    weights, bias, columns = problem.weights, problem.bias, problem.columns
    yield ours("f32", lambda: Panels.pack(weights, bias=bias), weights)
    yield ours("f16", lambda: Panels.pack(weights, bias=bias, value="f16"), weights, HALF)
    yield ours("i8", lambda: Panels.pack(weights, bias=bias, value="i8"), weights, BYTE)
    yield ours("i4 of 32", lambda: Panels.pack(weights, bias=bias, value="i4", group=32), weights, NIBBLE)
    half = problem.less(columns)
    yield ours("coarse 50%", lambda: Panels.pack(weights, bias=bias, keep=columns), half)
    for sparsity in (0.5, 0.8):
        keep = problem.units(ROWS, 1, sparsity)
        kept = problem.less(keep, ROWS)
        yield ours(f"16x1 {sparsity:.0%}", lambda keep=keep: Panels.pack(weights, bias=bias, keep=keep), kept)
    for sparsity in (0.8, 0.9) if tokens > 1 else ():
        keep = problem.units(1, 1, sparsity)
        yield ours(f"fine {sparsity:.0%}", lambda keep=keep: Rows.pack(weights, keep, bias), problem.less(keep))
    keep = problem.units(ROWS, COLUMNS, 0.5)
    yield ours("int8", lambda: Integers.pack(weights, bias=bias), weights, BYTE)
    yield ours("int8, coarse 50%", lambda: Integers.pack(weights, bias=bias, keep=columns), half, BYTE)
    kept = problem.less(keep, ROWS, COLUMNS)
    yield ours("int8, 16x4 50%", lambda: Integers.pack(weights, bias=bias, keep=keep), kept, BYTE)


def rivals(problem: Problem) -> Iterator[Way]:
    """What others have."""
    weights, bias, columns = problem.weights, problem.bias, problem.columns
    size = weights.nbytes
    yield Way("torch", lambda x: peers.torch_dense(weights, bias, x), weights, bytes=size)
    yield Way("torch int8", lambda x: peers.torch_int8(weights, bias, x), weights, BYTE, size // 4)
    yield Way("ONNX Runtime", lambda x: peers.onnx_runtime(weights, bias, x), weights)
    yield Way("ONNX Runtime int8", lambda x: peers.onnx_runtime(weights, bias, x, int8=True), weights, BYTE)
    half = problem.less(columns)
    yield Way("torch, sliced 50%", lambda x: peers.torch_sliced(weights, bias, x, columns), half)
    for sparsity in (0.8, 0.9):
        kept = problem.less(problem.units(1, 1, sparsity))
        yield Way(f"torch CSR {sparsity:.0%}", lambda x, kept=kept: peers.torch_csr(kept, bias, x), kept)
    for sparsity in (0.5, 0.8):
        blocks = problem.less(problem.units(16, 16, sparsity), 16, 16)
        yield Way(f"torch BSR {sparsity:.0%}", lambda x, blocks=blocks: peers.torch_bsr(blocks, bias, x), blocks)


def everything(problem: Problem, tokens: int) -> Iterator[Way]:
    """All but DeepSparse."""
    yield from rivals(problem)
    yield from layouts(problem, tokens)


def fine(problem: Problem) -> Iterator[Way]:
    """Single weights, with DeepSparse: not beside the others, for it doesn't work with today's onnx."""
    weights, bias = problem.weights, problem.bias
    yield Way("torch", lambda x: peers.torch_dense(weights, bias, x), weights)
    for sparsity in (0.8, 0.9, 0.95):
        keep = problem.units(1, 1, sparsity)
        kept = problem.less(keep)
        yield ours(f"fine {sparsity:.0%}", lambda keep=keep: Rows.pack(weights, keep, bias), kept)
        yield Way(f"DeepSparse {sparsity:.0%}", lambda x, kept=kept: peers.deep_sparse(kept, bias, x), kept)


def measure(problem: Problem, ways: Iterable[Way], tokens: int, rounds: int, *, cold: bool) -> dict[str, Any]:
    """Microseconds of each. Cold ones are those whose bytes are known."""
    rows, columns = problem.weights.shape
    x = problem.tokens(tokens)
    contenders = []
    for way in ways:
        if cold and not way.bytes:
            continue
        runs = cycle([way.make(x) for _ in range(timing.copies(way.bytes) if cold else 1)])
        wanted = x @ way.weights.T + problem.bias
        contenders.append(timing.Contender(way.name, lambda runs=runs: next(runs)(), None, wanted, way.room))
    found = timing.race(contenders, rounds)
    microseconds = {name: float(f"{1e6 * seconds:.4g}") for name, seconds in found.items()}
    return {"rows": rows, "columns": columns, "tokens": tokens, "cold": cold, "us": microseconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="only show that the code runs; nothing is written")
    parser.add_argument("--deepsparse", action="store_true", help="fine masks beside DeepSparse instead")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cases = [(tokens, False) for tokens in TOKENS]
    cases = cases[1:] if args.deepsparse else [(1, True), *cases]
    found = []
    for rows, columns in timing.SHAPES[:1] if args.quick else timing.SHAPES:
        problem = Problem.of(rows, columns)
        for tokens, cold in cases:
            rounds = 1 if args.quick else 7 if rows * columns * tokens > 1e8 else 15
            ways = fine(problem) if args.deepsparse else everything(problem, tokens)
            found.append(measure(problem, ways, tokens, rounds, cold=cold))
    if not args.quick:
        timing.write("deepsparse" if args.deepsparse else "products", found)


if __name__ == "__main__":
    main()
