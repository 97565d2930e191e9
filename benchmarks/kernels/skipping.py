"""Columns left out for each token, beside torch: python benchmarks/kernels/skipping.py [NAME...]

NAME: instruction sets to measure with, the best without. Weights come from memory, as those of a whole model do.
Ratios are how many times faster than torch in float32; "i8 50%" leaves out half of the columns, which it chooses.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import cycle

import numpy as np
import timing
import torch

from regrain import kernels
from regrain.kernels.reference_skipping import chosen
from regrain.kernels.skipping import KEEP_ALL, SKIP_VALUES, Skipping, stride_of

TOKENS = (1, 2)
SPARSITIES = (0.0, 0.5, 0.8)


def measure(rows: int, columns: int, tokens: int) -> dict[str, object]:
    rng = np.random.default_rng(0)
    weights = rng.normal(0, columns**-0.5, (rows, columns)).astype(np.float32)
    mean = rng.normal(0, 0.1, columns).astype(np.float32)
    bias = rng.normal(0, 1, rows).astype(np.float32)
    x = rng.normal(0, 1, (tokens, columns)).astype(np.float32)
    contenders = [dense(weights, bias, x)]
    for value in SKIP_VALUES:
        item = 4 >> SKIP_VALUES.index(value)
        size = columns * stride_of(rows, item) * item
        memory = kernels.allocate([size] * timing.copies(size))  # one mapping, of huge pages, as a whole model's
        layouts = [Skipping.pack(weights, value=value, mean=mean, bias=bias, into=place) for place in memory]
        norm = layouts[0].arrays.norm
        scores = np.abs(x - mean) * norm
        for sparsity in SPARSITIES:
            threshold = float(np.quantile(scores, sparsity)) if sparsity else KEEP_ALL
            has = chosen(x, mean, norm, threshold)
            wanted = np.where(has, x, mean) @ weights.T + bias
            out = np.empty((tokens, rows), np.float32)
            run = turns([layout.with_threshold(threshold) for layout in layouts], x, out)
            room = 0.05 if value == "i8" else 0.01
            contenders.append(timing.Contender(f"{value} {sparsity:.0%}", run, out, wanted, room))
    seconds = timing.race(contenders)
    torch_seconds = seconds.pop("torch")
    ratios = {name: round(torch_seconds / each, 2) for name, each in seconds.items()}
    gigabytes = weights.nbytes / torch_seconds / 1e9
    return {"rows": rows, "columns": columns, "tokens": tokens, "torch_gb_s": round(gigabytes, 1), **ratios}


def dense(weights: np.ndarray, bias: np.ndarray, x: np.ndarray) -> timing.Contender:
    turn = cycle(
        [placed(weights, place) for place in kernels.allocate([weights.nbytes] * timing.copies(weights.nbytes))]
    )
    start, tokens = torch.from_numpy(bias), torch.from_numpy(x)
    wanted = x @ weights.T + bias
    return timing.Contender("torch", lambda: torch.nn.functional.linear(tokens, next(turn), start), None, wanted)


def placed(weights: np.ndarray, place: np.ndarray) -> torch.Tensor:
    copy = place.view(np.float32).reshape(weights.shape)
    copy[:] = weights
    return torch.from_numpy(copy)


def turns(layouts: list[Skipping], x: np.ndarray, out: np.ndarray) -> Callable[[], object]:
    turn = cycle(layouts)
    return lambda: next(turn).multiply(x, out)


def main() -> None:
    torch.set_num_threads(1)
    found = []
    for name in sys.argv[1:] or [kernels.instruction_set()]:
        kernels.use_instruction_set(name)
        found += [{"set": name, **measure(*shape, tokens)} for shape in timing.SHAPES for tokens in TOKENS]
    timing.write("skipping", found)


if __name__ == "__main__":
    main()
