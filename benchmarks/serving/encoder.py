"""Time the encoding of sentences by whole models: python benchmarks/serving/encoder.py [--rounds N] [--only TEXT ...]

Sentences are windows of real texts that no peer was calibrated on. In every round each engine encodes the same ones,
and what it gives in that round is compared with what PyTorch's fp32 gives: D = 1 - mean cosine.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "tasks"))
sys.path.append(str(Path(__file__).parents[1]))

import numpy as np
import torch
from encoders import Encode, Ids, in_torch, peers, served
from minilm import model as minilm
from minilm import splits
from numpy.typing import NDArray
from race import Times, race
from results import keep

SHAPES = ((16, 1), (16, 16), (128, 1), (128, 16))
"""Tokens of a sentence, and sentences of a batch."""

CALLS = {(16, 1): 24, (16, 16): 3, (128, 1): 4, (128, 16): 1}
"""Batches of a round."""

BASE = "ONNX Runtime dynamic int8"

REGRAIN = {
    "f32": {},
    "int8 weights": {"value": "i8"},
    "int8": {"value": "i8", "activations": "i8"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--work", type=Path, default=Path("build/serving"), help="folder for the peers' files")
    parser.add_argument("--shape", action="append", help="TOKENSxBATCH, can be repeated; all without")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    engines = dict((*peers(options.work), *served(REGRAIN)))
    for tokens, batch in SHAPES:
        if options.shape is None or f"{tokens}x{batch}" in options.shape:
            measure(engines, tokens, batch, options.rounds)


def measure(engines: dict[str, Encode], tokens: int, batch: int, rounds: int) -> None:
    """All engines at one shape: rows into the file of results."""
    calls = CALLS[tokens, batch]
    data = sentences(tokens).reshape(-1, batch, tokens)
    taken = [[data[(turn * calls + call) % len(data)] for call in range(calls)] for turn in range(rounds)]
    original = in_torch(minilm.load())
    wanted = [np.concatenate([original(ids) for ids in round_]) for round_ in taken]
    cosines: dict[str, list[NDArray[np.float32]]] = {name: [] for name in engines}

    def judge(name: str, turn: int, result: list[NDArray[np.float32]]) -> None:
        cosines[name].append((np.concatenate(result) * wanted[turn]).sum(axis=1))

    def work(encode: Encode) -> object:
        return lambda turn: [encode(ids) for ids in taken[turn]]

    times = race({name: work(encode) for name, encode in engines.items()}, rounds, judge)
    rows = [row(name, found, times[BASE], calls) for name, found in times.items()]
    for one in rows:
        one |= {"tokens": tokens, "batch": batch, "D": 1.0 - float(np.concatenate(cosines[one["engine"]]).mean())}
        print("{engine:28} {tokens:4} x {batch:2}  cpu {cpu_ms:8.2f} ms  ratio {ratio:.3f}  D {D:.5f}".format(**one))
    keep("encoder", ("tokens", "batch", "engine"), rows)


def row(name: str, times: Times, base: Times, calls: int) -> dict[str, object]:
    return {"engine": name, "rounds": len(times.cpu)} | times.summary(calls, base)


def sentences(tokens: int) -> Ids:
    """Windows of held-out news and passages, (n, tokens), n a multiple of 16: each with its [CLS] and [SEP]."""
    texts = [*splits.news("held_out"), *(passage.text for passage in splits.passages("held_out"))]
    tokenizer = minilm.tokenizer()
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    running = np.concatenate([np.asarray(one, np.int64) for one in ids])
    inner = tokens - 2
    windows = running[: len(running) // (inner * 16) * inner * 16].reshape(-1, inner)
    whole = np.empty((len(windows), tokens), np.int64)
    whole[:, 0], whole[:, 1:-1], whole[:, -1] = tokenizer.cls_token_id, windows, tokenizer.sep_token_id
    return whole


if __name__ == "__main__":
    main()
