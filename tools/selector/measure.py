"""Measures the models in members.py: what a selector may look at, and real curves of bytes and loss to judge it by.

    python tools/selector/measure.py WORK [MEMBER ...]

WORK keeps networks, measurements and one file `MEMBER.npz` each; what is there is not made again.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from members import Member, members

from regrain.models import open_any
from regrain.models.network import Network
from regrain.models.task import Task
from regrain.planning.candidates import candidates
from regrain.planning.evidence import Evidence, Setting, gather, load_weights
from regrain.planning.layer import Layer
from regrain.planning.selectors.closed_form import ClosedForm
from regrain.planning.selectors.features import static_features
from regrain.planning.selectors.units import CELLS, Units
from regrain.planning.store import Store

POINTS = 36
"""Steps of a curve at most; they are half an octave apart, and measured curves are straight lines in between."""


def evidence(member: Member, work: Path) -> tuple[Evidence, Network, Task]:
    """Everything measured of a member, and its network with its weights."""
    task, path = member.prepare(work)
    network = Network(task.model())
    sources = [open_any(path)]
    unused = load_weights(network, sources)
    batches = task.batches("calibration")
    store, setting = Store(work / member.name), Setting(0, min(4, max(1, 32 // len(batches))))
    return gather(sources, network, task, batches, store, setting, unused=unused), network, task


def measured(layers: Mapping[str, Layer]) -> dict[str, np.ndarray]:
    """Curves of n layers by cell: `first` codes (n, cells), and `curve_bytes` and `curve_loss` of steps half an octave
    apart, (n, cells, POINTS), NaN where there are none.
    """
    first = np.zeros((len(layers), len(CELLS)), np.int32)
    curves = np.full((2, len(layers), len(CELLS), POINTS), np.nan)
    for number, layer in enumerate(layers.values()):
        for curve in candidates(layer, CELLS).curves:
            at = number, CELLS.index(curve.cell)
            first[at] = curve.codes[0]
            size = len(curve.codes[::4])
            curves[0][at][:size], curves[1][at][:size] = curve.bytes[::4], curve.loss[::4]
    return {"first": first, "curve_bytes": curves[0], "curve_loss": curves[1]}


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("members", nargs="*", help="names of members [all]")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for member in members():
        out = options.work / f"{member.name}.npz"
        if out.exists() or (options.members and member.name not in options.members):
            continue
        start = time.perf_counter()
        layers = evidence(member, options.work)[0].layers
        gathered = time.perf_counter()
        closed = ClosedForm(layers)
        known = {key.name: getattr(closed.units, key.name) for key in fields(Units)}
        known["static"] = static_features(closed.chosen)
        looked = time.perf_counter()
        curves = measured(closed.chosen)
        weights = sum(layer.count for layer in layers.values())
        np.savez_compressed(out, family=member.family, names=list(closed.chosen), weights=weights, **known, **curves)
        took = [gathered - start, looked - gathered, time.perf_counter() - looked]
        print(f"{member.name}: {weights:,} weights; evidence, features, curves: {np.round(took, 2)} s", flush=True)


if __name__ == "__main__":
    main()
