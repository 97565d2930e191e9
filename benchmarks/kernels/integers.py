"""int8 x int8 beside ONNX Runtime's dynamic int8, one thread: python benchmarks/kernels/integers.py [NAME...]

NAME: instruction sets to measure with, all without. ONNX Runtime always has the best. Times include quantizing tokens.
"""

from __future__ import annotations

import sys

import peers
import timing
import torch
from products import BYTE, NEAR, TOKENS, Problem, Way, ours

from regrain import kernels
from regrain.kernels.integers import COLUMNS, ROWS, Integers


def measure(rows: int, columns: int, tokens: int) -> dict[str, object]:
    problem = Problem.of(rows, columns)
    weights, bias = problem.weights, problem.bias
    x = problem.tokens(tokens)
    ways = [
        Way("torch", lambda x: peers.torch_dense(weights, bias, x), weights, NEAR),
        Way("ONNX Runtime int8", lambda x: peers.onnx_runtime(weights, bias, x, int8=True), weights, BYTE),
        ours("int8", lambda: Integers.pack(weights, bias=bias), weights, BYTE),
    ]
    for sparsity in (0.5, 0.75):
        keep = problem.units(ROWS, COLUMNS, sparsity)
        kept = problem.less(keep, ROWS, COLUMNS)
        ways.append(
            ours(f"16x4 {sparsity:.0%}", lambda keep=keep: Integers.pack(weights, bias=bias, keep=keep), kept, BYTE)
        )
    contenders = [timing.Contender(way.name, way.make(x), None, x @ way.weights.T + bias, way.room) for way in ways]
    seconds = timing.race(contenders, 7 if rows * columns * tokens > 1e8 else 15)
    rival = seconds["ONNX Runtime int8"]
    operations = 2 * rows * columns * tokens / 1e9
    gops = {"gops": round(operations / seconds["int8"], 1), "onnxruntime_gops": round(operations / rival, 1)}
    return gops | {name: round(rival / each, 2) for name, each in seconds.items() if name != "ONNX Runtime int8"}


def main() -> None:
    torch.set_num_threads(1)
    found = []
    for name in sys.argv[1:] or kernels.instruction_sets():
        kernels.use_instruction_set(name)
        for rows, columns in timing.SHAPES:
            for tokens in TOKENS:
                row = {"set": name, "rows": rows, "columns": columns, "tokens": tokens}
                found.append(row | measure(rows, columns, tokens))
    timing.write("integers", found)


if __name__ == "__main__":
    main()
