"""`regrain bench`: how fast products in each layout are on this machine, beside torch's dense ones."""

from __future__ import annotations

import os
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from regrain import kernels
from regrain.artifact.layout import find_layout
from regrain.core.errors import ServingError, UnsupportedModelError
from regrain.kernels.integers import Integers
from regrain.kernels.panels import LIMITS, Panels, Value, rounded
from regrain.kernels.product import Floats, Product
from regrain.kernels.rows import Rows
from regrain.kernels.skipping import Skipping
from regrain.models import open_any
from regrain.planning.evidence import floats, readable

SHAPES = ((384, 384), (1536, 384), (384, 1536), (1024, 1024), (4096, 4096))
"""What is timed where no model says otherwise."""

MOST_SHAPES = 5
"""Of a model, those with most weights."""

ROUNDS = 15
ROUND = 2e-3
"""Seconds that a layout runs in each round, at least."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Contender:
    """A layout, by name: how a matrix (R, C) is laid out, which `tokens` it serves (least, most), and how far its
    products may be from those of the weights it keeps, relative to their norm.
    """

    name: str
    make: Callable[[Floats], tuple[Product, Floats]]
    tokens: tuple[int, int]
    tolerance: float


@dataclass(frozen=True, slots=True)
class Timing:
    """A matrix times so many tokens. `ratio` is how many times faster than torch's dense product: the median over
    rounds in which all contenders took turns. `error` is relative to the product's norm.
    """

    rows: int
    columns: int
    tokens: int
    name: str
    seconds: float
    ratio: float
    error: float


def bench(
    model: str | os.PathLike[str] | None = None,
    *,
    tokens: Sequence[int] = (1, 16, 128),
    threads: int = 1,
    progress: Progress | None = None,
) -> Iterator[Timing]:
    """Time every layout for the largest shapes of a model or an artifact, with its weights, or for usual ones.

    Weights come from the cache, as far as they fit: a matrix is used again at once. Every result is compared with the
    same product in double precision; a wrong one raises ServingError. Raises UnsupportedModelError for a model
    without matrices.
    """
    import torch

    torch.set_num_threads(threads)
    rng = np.random.default_rng(0)
    matrices = [_random(shape, rng) for shape in SHAPES] if model is None else list(_matrices(model))
    for number, weights in enumerate(matrices):
        for place, count in enumerate(tokens):
            if progress is not None:
                what = f"{weights.shape[0]} x {weights.shape[1]}, {count} tokens"
                progress(what, number * len(tokens) + place, len(matrices) * len(tokens))
            x = rng.standard_normal((count, weights.shape[1]), np.float32)
            yield from _timings(weights, x, threads)


def _random(shape: tuple[int, int], rng: np.random.Generator) -> Floats:
    return np.asarray(rng.standard_normal(shape, np.float32) / np.sqrt(np.float32(shape[1])))


def _matrices(model: str | os.PathLike[str]) -> Iterator[Floats]:
    """One matrix of each of the shapes that have most weights."""
    first: dict[tuple[int, int], tuple[str, int]] = {}
    weights: Counter[tuple[int, int]] = Counter()
    sources = [open_any(path) for path in find_layout(model).paths()]
    for place, source in enumerate(sources):
        for name, entry in source.header.entries.items():
            if len(entry.shape) == 2 and min(entry.shape) >= 16 and entry.shape[1] <= 1 << 16 and readable(entry.dtype):
                shape = (entry.shape[0], entry.shape[1])
                first.setdefault(shape, (name, place))
                weights[shape] += shape[0] * shape[1]
    if not first:
        raise UnsupportedModelError(f"{model} must have a matrix of 16 x 16 weights or more: bench without a model")
    for shape, _ in weights.most_common(MOST_SHAPES):
        name, place = first[shape]
        yield floats(sources[place], name).reshape(shape)


def _timings(weights: Floats, x: Floats, threads: int) -> Iterator[Timing]:
    """Every layout that serves so many tokens, in turns with torch."""
    import torch

    tokens = len(x)
    (rows, columns), out = weights.shape, np.empty((tokens, len(weights)), np.float32)
    dense, inputs = torch.from_numpy(weights), torch.from_numpy(x)
    works: dict[str, Callable[[], object]] = {
        "torch": partial(torch.nn.functional.linear, inputs, dense),
    }
    errors = {"torch": 0.0}
    for contender in CONTENDERS:
        if contender.tokens[0] <= tokens <= contender.tokens[1]:
            product, kept = contender.make(weights)
            works[contender.name] = partial(product.multiply, x, out, threads)
            errors[contender.name] = _error(contender, product, kept, x, threads)
    seconds = _interleaved(works)
    for name, taken in seconds.items():
        ratio = statistics.median(whole / part for whole, part in zip(seconds["torch"], taken, strict=True))
        yield Timing(rows, columns, tokens, name, statistics.median(taken), ratio, errors[name])


def _error(contender: Contender, product: Product, kept: Floats, x: Floats, threads: int) -> float:
    found = np.empty((len(x), product.rows), np.float32)
    product.multiply(x, found, threads)
    wanted = x.astype(np.float64) @ kept.T.astype(np.float64)
    error = float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))
    if not error <= contender.tolerance:
        raise ServingError(
            f"{contender.name} must be within {contender.tolerance:g} of the right result, and is {error:.2g} from it: "
            f"please report this machine's instruction set, {kernels.instruction_set()}"
        )
    return error


def _interleaved(works: Mapping[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Seconds of each work in each round; once more before, which doesn't count."""
    repeats = {}
    for name, work in works.items():
        work()
        repeats[name] = max(1, round(ROUND / max(_seconds(work, 1), 1e-7)))
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(ROUNDS):
        for name, work in works.items():
            taken[name].append(_seconds(work, repeats[name]))
    return taken


def _seconds(work: Callable[[], object], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    return (time.perf_counter() - start) / repeats


def _best(scores: NDArray[np.floating], density: float) -> NDArray[np.bool_]:
    """True for the largest scores."""
    count = max(1, round(density * scores.size))
    return np.asarray(scores >= np.partition(scores, scores.size - count, axis=None)[scores.size - count])


def _panels(density: float, unit: str, weights: Floats) -> tuple[Product, Floats]:
    """Columns, or blocks of 16 x 1, that have most energy."""
    if unit == "columns":
        keep = _best(np.linalg.norm(weights, axis=0), density)
        return Panels.pack(weights, keep=keep), weights * keep
    energy = np.add.reduceat(np.square(weights), np.arange(0, len(weights), 16), axis=0)
    keep = _best(energy, density)
    return Panels.pack(weights, keep=keep), weights * keep.repeat(16, axis=0)[: len(weights)]


def _valued(value: Value, group: int | None, weights: Floats) -> tuple[Product, Floats]:
    product = Panels.pack(weights, value=value, group=group)
    if value not in LIMITS:
        return product, weights if value == "f32" else weights.astype(np.float16).astype(np.float32)
    return product, _rounded(weights, LIMITS[value], group)


def _rounded(weights: Floats, most: int, group: int | None = None) -> Floats:
    indices, scales = rounded(weights, most, group)
    wide = weights.shape[1] if group is None else group
    return np.asarray(indices * scales.repeat(wide, axis=1)[:, : weights.shape[1]])


def _fine(density: float, weights: Floats) -> tuple[Product, Floats]:
    keep = _best(np.abs(weights), density)
    return Rows.pack(weights, keep), weights * keep


def _integers(density: float, weights: Floats) -> tuple[Product, Floats]:
    if density == 1.0:
        return Integers.pack(weights), _rounded(weights, LIMITS["i8"])
    rows, columns = weights.shape
    padded = np.zeros((-(-rows // 16) * 16, -(-columns // 4) * 4), np.float32)
    padded[:rows, :columns] = np.square(weights)
    keep = _best(padded.reshape(len(padded) // 16, 16, -1, 4).sum(axis=(1, 3)), density)
    return Integers.pack(weights, keep=keep), _rounded(weights, LIMITS["i8"]) * keep.repeat(16, axis=0).repeat(
        4, axis=1
    )[:rows, :columns]


def _skipping(weights: Floats) -> tuple[Product, Floats]:
    """All columns, through the layout that could leave some out."""
    return Skipping.pack(weights, value="i8"), _rounded(weights, LIMITS["i8"])


_ANY = (1, 1 << 30)
_MANY = (8, 1 << 30)

CONTENDERS = (
    Contender("dense", partial(_valued, "f32", None), _ANY, 1e-5),
    Contender("dense, halves", partial(_valued, "f16", None), _ANY, 1e-5),
    Contender("dense, int8 weights", partial(_valued, "i8", None), _ANY, 1e-5),
    Contender("dense, int4 weights by 32", partial(_valued, "i4", 32), _ANY, 1e-5),
    Contender("int8 x int8", partial(_integers, 1.0), _ANY, 2e-2),
    Contender("int8 x int8, half the blocks", partial(_integers, 0.5), _ANY, 2e-2),
    Contender("half the columns", partial(_panels, 0.5, "columns"), _ANY, 1e-5),
    Contender("half the 16 x 1 blocks", partial(_panels, 0.5, "blocks"), _ANY, 1e-5),
    Contender("a fifth of the blocks", partial(_panels, 0.2, "blocks"), _ANY, 1e-5),
    Contender("a fifth of the weights", partial(_fine, 0.2), _MANY, 1e-5),
    Contender("a tenth of the weights", partial(_fine, 0.1), _MANY, 1e-5),
    Contender("by columns, int8", _skipping, (1, 2), 1e-5),
)
"""In the order in which they are shown."""


def machine() -> str:
    """What runs the kernels."""
    return f"{kernels.instruction_set()} of {', '.join(kernels.instruction_sets())}"
