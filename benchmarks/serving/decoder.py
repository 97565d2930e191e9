"""Time the decoding of a text by whole language models: python benchmarks/serving/decoder.py [--rounds N]

A prompt of 16 tokens and 128 more, which are those of real texts for every engine, whatever it would have said itself:
so what all of them give in the timed run can be compared, token by token, as KL from PyTorch's fp32.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "tasks"))
sys.path.append(str(Path(__file__).parents[1]))

import numpy as np
import torch
from decoders import Decode, Logits, peers, served
from numpy.typing import NDArray
from race import race
from results import keep
from smollm2 import task as smollm2

PROMPT, TOKENS = 16, 128
BASE = "torch fp32"

REGRAIN = {
    "f32": {},
    "int8 weights": {"value": "i8"},
    "int8 weights, token-skip": {"value": "i8", "policy": "token-skip"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--work", type=Path, default=Path("build/serving"), help="folder for the peers' files")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    engines = dict((*peers(options.work), *served(REGRAIN)))
    data = texts()
    wanted: dict[int, Logits] = {}
    losses: dict[str, list[NDArray[np.float64]]] = {name: [] for name in engines}
    hits: dict[str, list[NDArray[np.bool_]]] = {name: [] for name in engines}

    def judge(name: str, turn: int, result: Logits) -> None:
        if turn not in wanted:
            wanted.clear()
            wanted[turn] = engines[BASE](data[turn % len(data)], PROMPT)
        losses[name].append(divergence(wanted[turn], result))
        hits[name].append(wanted[turn].argmax(1) == result.argmax(1))

    def work(decode: Decode) -> Callable[[int], Logits]:
        return lambda turn: decode(data[turn % len(data)], PROMPT)

    times = race({name: work(decode) for name, decode in engines.items()}, options.rounds, judge)
    rows = []
    for name, found in times.items():
        close = {"KL": float(np.concatenate(losses[name]).mean()), "top1": float(np.concatenate(hits[name]).mean())}
        rows.append({"engine": name, "rounds": options.rounds} | found.summary(TOKENS, times[BASE]) | close)
        print(
            "{engine:32} cpu {cpu_ms:7.2f} ms a token  ratio {ratio:.3f}  KL {KL:.5f}  top-1 {top1:.3f}".format(
                **rows[-1]
            )
        )
    keep("decoder", ("engine",), rows)


def divergence(wanted: Logits, found: Logits) -> NDArray[np.float64]:
    """KL (n,) in nats of the distributions that logits (n, vocabulary) stand for."""
    first, second = (torch.log_softmax(torch.from_numpy(one).double(), 1) for one in (wanted, found))
    return (first.exp() * (first - second)).sum(1).numpy()


def texts() -> list[list[int]]:
    """Beginnings of held-out texts, of PROMPT + TOKENS tokens each."""
    return [ids[0, : PROMPT + TOKENS].tolist() for ids in smollm2.inputs("held_out")]


if __name__ == "__main__":
    main()
