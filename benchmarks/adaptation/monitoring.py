"""What watching its inputs costs a network that serves: python benchmarks/adaptation/monitoring.py [--tokens 16]

all-MiniLM-L6-v2 with 90 % of its blocks. Calls in which every matrix is watched and calls in which none is take turns,
in time of the serving thread. A run time watches one call in a few, and takes that part of the difference.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "tasks"))

import torch
from subjects import encoder_windows, minilm
from texts import SPLITS

from regrain.policies import Decision, Matrix, Observation, State, Static
from regrain.runtime import Attachment, attach, calibrate
from regrain.runtime.engine import ALERT, EVERY

CALLS = 20
"""In a turn."""


class Watching:
    """A policy that is told everything and changes nothing."""

    name = "watching"

    def start(self, matrix: Matrix) -> tuple[State, Decision]:
        return Static().start(matrix)

    def decide(self, state: State, matrix: Matrix, observation: Observation) -> tuple[State, Decision | None]:
        return state, None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    torch.set_num_threads(1)
    network = minilm()
    batches = encoder_windows("news", SPLITS[0])
    known = calibrate(network.model, lambda: map(network.outputs, batches[:4]), density=0.9)
    text = encoder_windows("news", SPLITS[1])[0].reshape(-1)[: options.tokens][None]
    with attach(network.model, policy=Watching(), calibration=known, threads=1) as attachment, torch.inference_mode():
        more, seconds = race(attachment, lambda: network.output(network.model, text), options.rounds)
        print(f"{options.tokens} tokens, {1e3 * seconds:.2f} ms a call: {100 * more:.1f} % more where all is watched")
        for every in (EVERY, ALERT):
            print(f"one call in {every}: {100 * more / every:.2f} %")


def race(attachment: Attachment, call: Callable[[], object], rounds: int) -> tuple[float, float]:
    """What watched calls take more, as a fraction, and seconds of those that are not: medians over the rounds."""
    more, plain = [], []
    for turn in range(-2, rounds):
        seconds = {}
        for watched in (True, False) if turn % 2 else (False, True):
            for engine in attachment.engines.values():
                engine.watching, engine.every = watched and engine.adaptation is not None, 1
            start = time.thread_time()
            for _ in range(CALLS):
                call()
            seconds[watched] = (time.thread_time() - start) / CALLS
            attachment.settle()
        if turn >= 0:
            more.append(seconds[True] / seconds[False] - 1.0)
            plain.append(seconds[False])
    return statistics.median(more), statistics.median(plain)


if __name__ == "__main__":
    main()
