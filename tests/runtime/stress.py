"""Forwards from several threads while layouts change as fast as they can: each result is that of exactly one version.

python tests/runtime/stress.py 1000000
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from regrain.policies import Class, Decision, Observation
from regrain.runtime import Attachment, Calibrated, attach
from regrain.runtime.buffers import Buffers

ROWS, COLUMNS = 96, 64
VERSIONS = 5
TOKENS = (1, 2, 7)


def decisions(density: float = 0.5) -> list[Decision]:
    """Patterns of which no two keep the same weights."""
    random = np.random.default_rng(1)
    kinds = (Class.DENSE, Class.BLOCK, Class.DROPPED)
    found = []
    for version in range(VERSIONS):
        classes = np.asarray(random.choice(kinds, COLUMNS, p=(0.3, 0.5, 0.2)), np.uint8)
        mean, variance = random.normal(0, 1, COLUMNS), random.random(COLUMNS)
        found.append(Decision(None if version == 0 else "medium", classes, density, mean, variance))
    return found


def stress(calls: int, threads: int = 3) -> dict[str, float]:
    """Make so many calls in all. Raises AssertionError for a result that is of no version, or of two."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(COLUMNS, ROWS), nn.Linear(ROWS, COLUMNS)).eval()
    seen = Calibrated(Observation(9, np.zeros(COLUMNS), np.ones(COLUMNS)), 0.5)
    attachment = attach(model, policy="ranked", calibration={"0.weight": seen}, threads=1)
    with attachment, torch.inference_mode():
        return _run(attachment, model, calls, threads)


def _run(attachment: Attachment, model: nn.Module, calls: int, threads: int) -> dict[str, float]:
    engine = attachment.engines["0.weight"]
    master, buffers = engine.adaptation.master, Buffers()
    engine.watching = False
    plans = decisions()
    inputs = [torch.randn(tokens, COLUMNS) for tokens in TOKENS for _ in range(3)]
    expected: list[list[torch.Tensor]] = [[] for _ in inputs]
    for plan in plans:
        engine.layout = master.lay_out(plan, Buffers())
        for x, found in zip(inputs, expected, strict=True):
            found.append(model(x))
    engine.layout = master.lay_out(plans[0], buffers)
    assert all(not torch.equal(a, b) for found in expected for a, b in itertools.pairwise(found))
    left, faults, versions = [calls], [], [0] * VERSIONS
    lock, done = threading.Lock(), threading.Event()

    def serve(seed: int) -> None:
        random = np.random.default_rng(seed)
        while not done.is_set() and not faults:
            with lock:
                if left[0] <= 0:
                    return
                left[0] -= 100
            for which in random.integers(0, len(inputs), 100):
                result = model(inputs[which])
                matching = [v for v, wanted in enumerate(expected[which]) if torch.equal(result, wanted)]
                if len(matching) != 1:
                    faults.append(f"{len(matching)} versions match a result")
                    return
                versions[matching[0]] += 1

    memory = _resident()
    start = time.perf_counter()
    serving = [threading.Thread(target=_with_inference, args=(serve, seed)) for seed in range(threads)]
    for thread in serving:
        thread.start()
    switches, middle = 0, 0
    while any(thread.is_alive() for thread in serving):
        switches += 1
        attachment._reorganizer.swap(engine, master.lay_out(plans[switches % VERSIONS], buffers))
        if switches == 200:
            middle = _resident()
    for thread in serving:
        thread.join()
    assert not faults, faults[0]
    assert sum(found > 0 for found in versions) > 2, versions
    seconds = time.perf_counter() - start
    grown = _resident() - (middle or memory)
    assert grown < 32 << 20, f"{grown} bytes more after {switches} switches"
    return {"calls": sum(versions), "switches": switches, "seconds": seconds, "grown": grown}


def _with_inference(work, seed: int) -> None:
    with torch.inference_mode():
        work(seed)


def _resident() -> int:
    pages = Path("/proc/self/statm")
    return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if pages.exists() else 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    print({name: round(value, 1) for name, value in stress(int(sys.argv[1])).items()})
