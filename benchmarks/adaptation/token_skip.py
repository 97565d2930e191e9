"""How many multiply-adds may be skipped by choosing columns for each token, and what that loses.

python benchmarks/adaptation/token_skip.py --subject minilm --out FILE.json [--resume] [--centers zero]

A column is skipped for a token where |x_c - m_c| |W_c| is below a threshold, fixed for the matrix on calibration data.
The center `m` is the input's mean, put into the bias, or 0, or for each group of matrices the better of the two. Either
every matrix skips the same share, or shares are allocated by the loss that skipping in a group alone was measured to
cost. Scored on data of its own.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from emulate import Layer, Network, losses
from numpy.typing import NDArray
from subjects import SKIPPING, Skipping
from torch import Tensor

SHARES = (0.25, 0.5, 0.75)
"""Skipped shares at which the loss of each group is measured."""

GRID = np.linspace(0.0, 0.9, 91)
SAMPLED = 256
"""Tokens of a calibration batch that thresholds are taken from."""

Shares = Mapping[str, float]


class Skipper:
    """Skips columns in a network's layers by their thresholds, and counts what was skipped."""

    def __init__(self, network: Network, batches: list[Any]) -> None:
        self.network = network
        self.norms = {
            name: torch.from_numpy(np.sqrt(layer.energy.sum(0))).float() for name, layer in network.layers.items()
        }
        samples: dict[str, list[Tensor]] = {name: [] for name in network.layers if name not in network.shared}
        random = torch.Generator().manual_seed(0)

        def sample(name: str, rows: Tensor) -> None:
            samples[name].append(rows[torch.randperm(len(rows), generator=random)[:SAMPLED]].clone())

        with network.watched(sample):
            for batch in batches:
                network.outputs(batch)
        rows = {name: torch.cat(found) for name, found in samples.items()}
        self.rows = {name: rows[network.shared.get(name, name)] for name in network.layers}
        self.centers: dict[str, Tensor] = {}
        self.thresholds: dict[str, float] = {}
        self.kept = self.all = 0.0
        for layer in network.layers.values():
            layer.module.forward = self.forward(layer, layer.module.forward)

    def forward(self, layer: Layer, dense: Any) -> Any:
        def skipping(x: Tensor) -> Tensor:
            threshold = self.thresholds.get(layer.name, 0.0)
            self.all += x.numel() * len(layer.weights)
            if threshold == 0.0:
                self.kept += x.numel() * len(layer.weights)
                return dense(x)
            center = self.centers[layer.name]
            mask = ((x - center).abs() * self.norms[layer.name]) >= threshold
            self.kept += float(mask.sum()) * len(layer.weights)
            return dense(torch.where(mask, x, center))

        return skipping

    def use(self, shares: Shares, center: Mapping[str, str]) -> None:
        """Thresholds that skip those shares of the columns on the calibration data, about "mean" or "zero"."""
        self.thresholds = {}
        for name, share in shares.items():
            if share > 0.0:
                rows = self.rows[name]
                self.centers[name] = rows.mean(0) * (center[name] == "mean")
                scores = ((rows - self.centers[name]).abs() * self.norms[name]).numpy()
                self.thresholds[name] = float(np.quantile(scores, share))

    def loss(self, batches: list[Any], original: list[NDArray[Any]]) -> tuple[float, float]:
        """Mean loss, and the share of these layers' multiply-adds that was skipped."""
        self.kept = self.all = 0.0
        found = [losses(self.network.kind, y, self.network.outputs(x)) for x, y in zip(batches, original, strict=True)]
        return float(np.concatenate(found).mean()), 1.0 - self.kept / self.all


def allocate(curves: Mapping[str, tuple[float, ...]], work: Mapping[str, float], skipped: float) -> dict[str, float]:
    """A share for each group so that `skipped` of all work goes at the least sum of losses.

    Losses between the measured shares are interpolated as powers; for a price of loss per work each group takes its
    own best share, and the price is halved in until the total fits.
    """
    total = sum(work.values())
    losses_at = {}
    for name, curve in curves.items():
        known = np.maximum.accumulate(np.maximum(curve, 1e-9))
        logs = np.interp(np.log(np.maximum(GRID, 1e-3)), np.log(SHARES), np.log(known))
        steep = np.log(known[1] / known[0]) / np.log(SHARES[1] / SHARES[0])
        small = GRID < SHARES[0]
        logs[small] = np.log(known[0]) + max(steep, 1.0) * np.log(np.maximum(GRID[small], 1e-3) / SHARES[0])
        logs[GRID > SHARES[-1]] = np.inf
        losses_at[name] = np.where(GRID == 0.0, 0.0, np.exp(logs))

    def best(price: float) -> dict[str, float]:
        return {name: float(GRID[np.argmin(loss - price * work[name] * GRID)]) for name, loss in losses_at.items()}

    low, high = -40.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        found = best(np.exp(middle) / total)
        reached = sum(found[name] * work[name] for name in work) / total
        low, high = (middle, high) if reached < skipped else (low, middle)
    return best(np.exp(high) / total)


class Bench:
    """A network that skips, its groups of matrices with their work, and the original's outputs."""

    def __init__(self, subject: Skipping) -> None:
        self.subject, self.network = subject, subject.load()
        self.batches = {part: list(subject.batches(part)) for part in ("calibration", "probe", "stream")}
        self.original = {part: [self.network.outputs(x) for x in found] for part, found in self.batches.items()}
        self.skipper = Skipper(self.network, self.batches["calibration"])
        self.groups: dict[str, list[str]] = {}
        for name in self.network.layers:
            self.groups.setdefault(subject.group(name), []).append(name)
        sizes = {name: float(layer.weights.size) for name, layer in self.network.layers.items()}
        self.work = {key: sum(sizes[name] for name in names) for key, names in self.groups.items()}

    def score(self, part: str, shares: Shares, centers: Mapping[str, str]) -> tuple[float, float]:
        """With a share and a center for each group: the loss, and what was skipped."""
        each = [(name, key) for key, names in self.groups.items() for name in names if key in shares]
        self.skipper.use({name: shares[key] for name, key in each}, {name: centers[key] for name, key in each})
        return self.skipper.loss(self.batches[part], self.original[part])

    def curves(self, center: str) -> dict[str, tuple[float, ...]]:
        """Of each group alone the loss at SHARES."""
        found = {}
        for key in self.groups:
            found[key] = tuple(self.score("probe", {key: share}, {key: center})[0] for share in SHARES)
            print(f"    {key:40} " + " ".join(f"{one:.5f}" for one in found[key]), flush=True)
        return found

    def results(self, curves: Mapping[str, tuple[float, ...]], centers: Mapping[str, str]) -> list[dict[str, Any]]:
        """On the stream, at each target, with equal and with allocated shares."""
        rows = []
        for target in self.subject.targets:
            for kind, shares in (
                ("uniform", dict.fromkeys(self.groups, target)),
                ("allocated", allocate(curves, self.work, target)),
            ):
                loss, skipped = self.score("stream", shares, centers)
                rows.append({"shares": kind, "asked": target, "skipped": skipped, "loss": loss, "by group": shares})
                print(f"    {kind:10} asked {target:.2f} skipped {skipped:.3f} loss {loss:.5f}", flush=True)
        return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subject", choices=[one.key for one in SKIPPING], required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--centers", nargs="+", choices=("mean", "zero"), default=["mean", "zero"])
    parser.add_argument("--resume", action="store_true", help="take the groups' losses that FILE has")
    args = parser.parse_args()
    torch.set_num_threads(1)
    subject = next(one for one in SKIPPING if one.key == args.subject)
    bench = Bench(subject)
    known = json.loads(args.out.read_text())["curves"] if args.resume and args.out.exists() else {}
    found: dict[str, Any] = {"subject": subject.name, "command": " ".join(sys.argv[1:]), "curves": {}, "results": {}}

    def keep() -> None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(found, indent=1) + "\n")

    for center in args.centers:
        print(f"center: {center}", flush=True)
        found["curves"][center] = known.get(center) or bench.curves(center)
        keep()
    curves = found["curves"]
    best = {key: min(curves, key=lambda center, key=key: curves[center][key][0]) for key in bench.groups}
    choices = {center: dict.fromkeys(bench.groups, center) for center in args.centers}
    if len(choices) > 1:
        choices = {"better of both": best} | choices
    for name, centers in choices.items():
        print(f"results, center: {name}", flush=True)
        found["results"][name] = bench.results({key: curves[centers[key]][key] for key in bench.groups}, centers)
        keep()


if __name__ == "__main__":
    main()
