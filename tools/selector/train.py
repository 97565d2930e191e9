"""Trains the learned selector on what measure.py measured, and says how it does on families that it never saw.

    python tools/selector/train.py WORK [--out src/regrain/planning/selectors/learned.json]

For a total loss L every layer has its closed-form step, in each cell, and a price: what it is predicted to cost there.
The network corrects both. What it minimizes is what counts: bits a weight plus the best choice's price of loss, less
what the best choice has, both from measured curves. Cells are chosen softly while it learns.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from curves import Model, families, read_all
from numpy.typing import NDArray
from torch import Tensor, nn

from regrain.planning.selectors.closed_form import Corrections
from regrain.planning.selectors.features import FEATURES
from regrain.planning.selectors.learned import BITS, OCTAVES, Network
from regrain.planning.selectors.units import CELLS

DEFAULT = Path(__file__).parents[2] / "src/regrain/planning/selectors/learned.json"
HIDDEN, STEPS, RATE, DECAY, NETWORKS = 24, 300, 5e-3, 1e-2, 3
SMALLEST = 0.05
"""Added to standard deviations of features, so that rare kinds of tensors don't count for more than they are."""

WARMTH = 0.05
"""Bits a weight: cells that are predicted to differ by that much are chosen as 1 is to e."""


@dataclass(frozen=True)
class Rows:
    """One row for each layer of each model and total loss."""

    inputs: Tensor  # (rows, features)
    steps: Tensor  # (rows, cells): log2 of the closed form's steps, anything where there is no such cell
    costs: Tensor  # (rows, cells + 1): bits a weight, lossless last; infinite where there is no such cell
    first: Tensor  # (rows, cells)
    last: Tensor  # (rows, cells)
    bits: Tensor  # (rows, cells, points): of the layer, over the model's weights
    loss: Tensor  # (rows, cells, points): logarithms
    lossless: Tensor  # (rows,): bits of the layer over the model's weights
    price: Tensor  # (rows,): bits a weight of the model, for loss
    weight: Tensor  # (rows,): families count alike, models of a family, and losses of a model


def rows(models: Sequence[Model]) -> Rows:
    """Everything to learn from."""
    parts: list[dict[str, NDArray[np.float64]]] = []
    members = {family: sum(model.family == family for model in models) for family in families(models)}
    for model in models:
        for loss, best in model.bests.items():
            inputs, steps, costs = model.inputs(loss)
            n = len(steps)
            parts.append(
                {
                    "inputs": inputs,
                    "steps": np.nan_to_num(np.log2(steps)),
                    "costs": costs,
                    "first": model.first,
                    "last": model.last,
                    "bits": 8 * np.nan_to_num(model.curve_bytes) / model.weights,
                    "loss": np.nan_to_num(model.curve_loss),
                    "lossless": 8 * model.units.lossless / model.weights,
                    "price": np.full(n, 8 * best.price / model.weights),
                    "weight": np.full(n, 1 / (len(members) * members[model.family] * len(model.bests))),
                }
            )
    whole = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    return Rows(**{key: torch.from_numpy(value.astype(np.float32)) for key, value in whole.items()})


class Learner(nn.Module):
    """The network while it learns: from features to corrections of steps (rows,) and of costs (rows, cells + 1)."""

    def __init__(self, inputs: Tensor) -> None:
        super().__init__()
        self.mean, self.scale = inputs.mean(0), inputs.std(0) + SMALLEST
        self.hidden = nn.Linear(inputs.shape[1], HIDDEN)
        self.outer = nn.Linear(HIDDEN, len(CELLS) + 2)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        normal = ((inputs - self.mean) / self.scale).clamp(-3, 3)
        out = torch.tanh(self.outer(torch.tanh(self.hidden(normal))))
        return OCTAVES * out[:, 0], BITS * out[:, 1:]

    def network(self) -> Network:
        """What it has learned."""
        layers = [torch.cat([layer.weight, layer.bias[:, None]], 1) for layer in (self.hidden, self.outer)]
        return Network(*(part.detach().numpy().astype(np.float64) for part in (self.mean, self.scale, *layers)))


def price_of(data: Rows, shifts: Tensor, corrections: Tensor) -> Tensor:
    """Bits a weight plus the price of the loss, each row weighed."""
    places = ((8 * (data.steps + shifts[:, None]) - data.first) / 4).clamp(min=0)
    places = torch.minimum(places, data.last.clamp(min=0))
    low = torch.minimum(places.floor(), (data.last - 1).clamp(min=0)).long()
    part = places - low
    high = torch.minimum(low + 1, data.last.clamp(min=0).long())

    def at(curve: Tensor) -> Tensor:
        ends = [curve.gather(2, index[:, :, None])[:, :, 0] for index in (low, high)]
        return ends[0] * (1 - part) + ends[1] * part

    cost = at(data.bits) + data.price[:, None] * at(data.loss).exp()
    cost = torch.cat([cost, data.lossless[:, None]], 1)
    shares = torch.softmax(-(data.costs + corrections) / WARMTH, 1)
    return (data.weight * (shares * cost).sum(1)).sum()


def train(data: Rows, seed: int, steps: int = STEPS) -> Network:
    """A network that has learned from the rows of some models."""
    torch.manual_seed(seed)
    learner = Learner(data.inputs)
    optimizer = torch.optim.AdamW(learner.parameters(), RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps)
    for _ in range(steps):
        price = price_of(data, *learner(data.inputs))
        optimizer.zero_grad()
        price.backward()
        nn.utils.clip_grad_norm_(learner.parameters(), 0.1)
        optimizer.step()
        schedule.step()
    return learner.network()


def corrections(networks: Sequence[Network], model: Model, loss: float) -> Corrections:
    """What the networks find on average."""
    found = [network(model.inputs(loss)[0]) for network in networks]
    return Corrections(np.mean([one.octaves for one in found], axis=0), np.mean([one.bits for one in found], axis=0))


def regrets(models: Sequence[Model], networks: Sequence[Network]) -> dict[str, dict[str, list[float]]]:
    """Of each model: total losses, and bits a weight more than the best choice, in closed form and learned."""
    found = {}
    for model in models:
        plain = np.zeros((len(model.static), len(CELLS) + 1))
        plain[:, 2:-1] = np.inf
        closed = Corrections(np.zeros(len(plain)), plain)
        found[model.name] = {
            "losses": list(model.bests),
            "best": [8 * best.bytes / model.weights for best in model.bests.values()],
            "closed_form": [model.regret(loss, closed) for loss in model.bests],
            "learned": [model.regret(loss, corrections(networks, model, loss)) for loss in model.bests],
        }
    return found


def left_out(models: Sequence[Model], work: Path) -> dict[str, dict[str, list[float]]]:
    """Regrets of every family by networks that were trained on the others; WORK/left-out/FAMILY.json keeps them."""
    found = {}
    (work / "left-out").mkdir(exist_ok=True)
    for family in families(models):
        others = rows([model for model in models if model.family != family])
        networks = [train(others, seed) for seed in range(NETWORKS)]
        write(work / "left-out" / f"{family}.json", networks, {"left_out": family})
        found |= regrets([model for model in models if model.family == family], networks)
        for name in (model.name for model in models if model.family == family):
            means = {key: float(np.mean(found[name][key])) for key in ("closed_form", "learned")}
            print(f"{name}: closed form {means['closed_form']:.3f}, learned {means['learned']:.3f} b/w", flush=True)
    return found


def main() -> None:
    """Train, judge, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--out", type=Path, default=DEFAULT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    models = read_all(options.work)
    if len(families(models)) < 2:
        parser.error(f"{options.work} must hold models of two families or more: run measure.py first")
    judged = left_out(models, options.work)
    whole = rows(models)
    networks = [train(whole, seed) for seed in range(NETWORKS)]
    made = {
        "by": "tools/selector/measure.py and train.py",
        "families": {family: [m.name for m in models if m.family == family] for family in families(models)},
        "tensors": sum(len(model.static) for model in models),
        "settings": {"hidden": HIDDEN, "steps": STEPS, "rate": RATE, "decay": DECAY, "warmth": WARMTH},
        "regret_of_families_left_out": judged,
    }
    write(options.out, networks, made)


def write(path: Path, networks: Sequence[Network], made: Mapping[str, object]) -> None:
    """A file of networks, and how they were made."""
    value = {
        "made": made,
        "features": list(FEATURES),
        "cells": [cell.name for cell in CELLS],
        "networks": [{key: part.tolist() for key, part in asdict(one).items()} for one in networks],
    }
    path.write_text(json.dumps(rounded(value)) + "\n", "utf-8")


def rounded(value: object) -> object:
    """JSON with numbers of five digits."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
