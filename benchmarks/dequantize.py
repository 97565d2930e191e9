"""Quantized weights: indices decoded in the cache, and dense weights written to memory, beside copying those bytes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from setup import Setup
from tables import Goal, Shown, Table
from timing import Contender, median, race, ratio

from regrain import kernels
from regrain.codecs.grid import codes_of
from regrain.codecs.quantized import Quantized, encode_quantized, grid_shape, read_front

ROWS, COLUMNS = 24 * 1024, 1024  # 100 MB of float32: beyond the caches
FEW = 1024 * COLUMNS  # indices that fit the second-level cache, as they are coded and as they are
SPREADS = {"2.4": 1.2, "3.1": 2.0, "3.7": 3.0, "4.1": 4.0}  # bits of an index -> standard deviation, in steps
CELLS = {
    "tensor": (ROWS, COLUMNS),
    "row": (1, COLUMNS),
    "group 128": (1, 128),
    "group 32": (1, 32),
    "group 16": (1, 16),
    "block 16x16": (16, 16),
    "group 9": (1, 9),
}
USUAL, SPREAD = ("row", "group 32"), 3.0
CALLS = 10


def measure(setup: Setup) -> dict[str, Any]:
    rows = 1024 if setup.quick else ROWS
    calls = 1 if setup.quick else CALLS
    rng = np.random.default_rng(0)
    found: dict[str, Any] = {"count": rows * COLUMNS, "indices": {}, "weights": {}}
    for bits, spread in SPREADS.items():
        found["indices"][bits] = race(list(_indices(_bell(rng, 1024, spread), calls)), setup.rounds)
    indices = _bell(rng, rows, SPREAD)
    for label, (down, across) in CELLS.items():
        tensor = _tensor(rng, indices, (min(down, rows), across))
        for dtype in kernels.WEIGHTS if label in USUAL else ("F32",):
            found["weights"][f"{label}, {dtype}"] = race(list(_weights(tensor, dtype)), setup.rounds)
    return found


def _bell(rng: np.random.Generator, rows: int, spread: float) -> NDArray[np.int8]:
    return np.rint(rng.normal(0, spread, (rows, COLUMNS))).astype(np.int8)


def _tensor(rng: np.random.Generator, indices: NDArray[np.int8], cell: tuple[int, int]) -> Quantized:
    steps = np.exp(rng.normal(-5, 0.2, grid_shape(*indices.shape, cell)))
    return Quantized(indices, codes_of(steps), cell)


def _indices(indices: NDArray[np.int8], calls: int) -> Iterator[Contender]:
    words = indices.reshape(-1).view(np.uint8)
    payload = kernels.encode(words, family=kernels.INTEGER, mantissa_bits=0, row_words=COLUMNS, seed=1)
    assert payload is not None
    for isa in kernels.instruction_sets():
        out = np.zeros_like(words)

        def run(out: NDArray[np.uint8] = out) -> None:
            for _ in range(calls):
                kernels.decode(payload, out, seed=1)

        def check(_: object, out: NDArray[np.uint8] = out) -> bool:
            return np.array_equal(out, words)

        yield Contender(isa, run, prepare=partial(kernels.use_instruction_set, isa), check=check, calls=calls)


def _weights(tensor: Quantized, dtype: str) -> Iterator[Contender]:
    """Each instruction set into arrays that are there, and the best into fresh ones; and copies of as many bytes."""
    payload = encode_quantized(tensor, dtype, seed=1)
    front = read_front(lambda start, count: payload[start : start + count].tobytes(), payload.size, seed=1)
    coded = payload[front.coded[0] :]
    right = tensor.dequantized(dtype)
    kept = kernels.allocate([right.size])[0]

    def decode(out: NDArray[np.uint8]) -> NDArray[np.uint8]:
        kernels.decode_weights([(coded, front.index.itemsize, 1, front.grid, 0, out)])
        return out

    def copy(out: NDArray[np.uint8]) -> NDArray[np.uint8]:
        np.copyto(out, right)
        return out

    def check(out: NDArray[np.uint8]) -> bool:
        return np.array_equal(out, right)

    for isa in kernels.instruction_sets():
        yield Contender(isa, partial(decode, kept), prepare=partial(kernels.use_instruction_set, isa), check=check)
    best = partial(kernels.use_instruction_set, kernels.instruction_sets()[-1])
    yield Contender("fresh", lambda: decode(kernels.allocate([right.size])[0]), prepare=best, check=check)
    yield Contender("memcpy", partial(copy, kept), check=check)
    yield Contender("memcpy, fresh", lambda: copy(kernels.allocate([right.size])[0]), check=check)


def show(result: dict[str, Any]) -> Shown:
    shown = Shown()
    found = result["indices"]
    isas = list(next(iter(found.values())))
    rates = {bits: {isa: FEW / median(seconds, isa) / 1e9 for isa in isas} for bits, seconds in found.items()}
    rows = [[bits, *[f"{rates[bits][isa]:.2f}" for isa in isas]] for bits in rates]
    shown.tables.append(Table("int8 indices decoded into the cache, Gweight/s", ["bits an index", *isas], rows))
    if "avx2" in isas:
        shown.goals.append(Goal("AVX2, indices of 3.1 bits into the cache, Gweight/s", rates["3.1"]["avx2"], 4))
    rows = []
    for label, seconds in result["weights"].items():
        rate = {name: result["count"] / median(seconds, name) / 1e9 for name in seconds}
        kept, fresh = ratio(seconds, isas[-1], "memcpy"), ratio(seconds, "fresh", "memcpy, fresh")
        cells = [*[f"{rate[isa]:.2f}" for isa in isas], f"{kept.of_medians:.2f}"]
        rows.append([label, *cells, f"{rate['fresh']:.2f}", f"{fresh.of_medians:.2f}"])
        if label == "row, F32":
            shown.goals.append(Goal("float32 weights by rows, share of memcpy's rate", kept.of_medians, 0.7))
            shown.goals.append(Goal("the same into fresh arrays", fresh.of_medians, 0.7))
    columns = ["Gweight/s", *isas, "of memcpy", "fresh", "of memcpy"]
    note = "`of memcpy`: the rate of the best instruction set over that of copying the same weights."
    shown.tables.append(Table("Dense weights into memory, one thread", columns, rows, note))
    return shown
