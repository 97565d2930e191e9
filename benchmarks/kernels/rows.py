"""Fine masks and 4 x 1 units beside torch's dense product, one thread: python benchmarks/kernels/rows.py [NAME...]

NAME: instruction sets to measure with, the best without. Ratios are how many times faster than torch.
"""

from __future__ import annotations

import sys

import numpy as np
import timing
import torch

from regrain import kernels
from regrain.kernels.rows import UNIT, Rows

TOKENS = (1, 16, 128)
SPARSITIES = (0.5, 0.8, 0.9, 0.95)


def measure(rows: int, columns: int, tokens: int) -> dict[str, object]:
    rng = np.random.default_rng(0)
    weights = rng.normal(0, columns**-0.5, (rows, columns)).astype(np.float32)
    bias = rng.normal(0, 1, rows).astype(np.float32)
    x = rng.normal(0, 1, (tokens, columns)).astype(np.float32)
    contenders = [dense(weights, bias, x)]
    for unit, name in ((1, "fine"), (UNIT, "4x1")):
        for sparsity in SPARSITIES:
            keep = rng.random((-(-rows // unit), columns)) >= sparsity
            wanted = x @ (weights * keep.repeat(unit, axis=0)[:rows]).T + bias
            contenders.append(ours(f"{name} {sparsity:.0%}", Rows.pack(weights, keep, bias), x, wanted))
    seconds = timing.race(contenders, 7 if rows * columns * tokens > 1e8 else 15)
    torch_seconds = seconds.pop("torch")
    gflops = 2 * rows * columns * tokens / torch_seconds / 1e9
    ratios = {name: round(torch_seconds / each, 2) for name, each in seconds.items()}
    return {"rows": rows, "columns": columns, "tokens": tokens, "torch_gflops": round(gflops, 1), **ratios}


def dense(weights: np.ndarray, bias: np.ndarray, x: np.ndarray) -> timing.Contender:
    tensors = [torch.from_numpy(array) for array in (x, weights, bias)]
    return timing.Contender("torch", lambda: torch.nn.functional.linear(*tensors), None, x @ weights.T + bias)


def ours(name: str, layout: Rows, x: np.ndarray, wanted: np.ndarray) -> timing.Contender:
    out = np.empty((len(x), layout.rows), np.float32)
    return timing.Contender(name, lambda: layout.multiply(x, out), out, wanted)


def main() -> None:
    torch.set_num_threads(1)
    found = []
    for name in sys.argv[1:] or [kernels.instruction_set()]:
        kernels.use_instruction_set(name)
        found += [{"set": name, **measure(*shape, tokens)} for shape in timing.SHAPES for tokens in TOKENS]
    timing.write("rows", found)


if __name__ == "__main__":
    main()
