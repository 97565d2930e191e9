"""Seconds that pruning all matrices of MiniLM takes, compensation included, at one density and at ten.

python benchmarks/pruning/compensation.py WORK    # a folder for measurements
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import results  # noqa: F401 - first: it makes the folder above this one importable
from lossy import models
from subject import SUBJECTS

from regrain.core.pattern import Pattern, Pruning
from regrain.pipelines.options import Listener, Options
from regrain.pipelines.session import prepare
from regrain.planning.layer import Layer

ONE = (0.7,)
TEN = (0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--threads", type=int, default=None)
    args = parser.parse_args()
    subject = next(one for one in SUBJECTS if one.task.parent.name == "minilm")
    options = Options(work=args.work, threads=args.threads)
    session = prepare(models.path("minilm"), subject.task, options, Listener())
    matrices = [layer for layer in session.evidence.layers.values() if layer.prunable and layer.factors.trace]
    print(json.dumps({"matrices": len(matrices), "weights": sum(layer.count for layer in matrices)}))
    for name in ("fine", "block:16x1", "column"):
        found = {"pattern": name, "one": seconds(matrices, name, ONE), "ten": seconds(matrices, name, TEN)}
        print(json.dumps(found), flush=True)


def seconds(matrices: Sequence[Layer], name: str, densities: Sequence[float]) -> float:
    """Wall seconds to prune them all, one after another."""
    start = time.perf_counter()
    for layer in matrices:
        for _ in layer.prune(Pruning(Pattern(name), densities[0]), densities):
            pass
    return round(time.perf_counter() - start, 2)


if __name__ == "__main__":
    main()
