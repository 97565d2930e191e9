"""The closed form, corrected by a small network that was trained on other models' measured curves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from regrain.planning.layer import Layer
from regrain.planning.selectors.closed_form import ClosedForm, Corrections, options
from regrain.planning.selectors.features import FEATURES, features, static_features
from regrain.planning.selectors.units import CELLS, Array

OCTAVES, BITS = 2.0, 2.0
"""The largest corrections: of steps, and of bits a weight."""

_FAR = 3.0  # standard deviations from the mean: beyond, nothing was learned


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """Two layers of weights, `hidden` (h, features + 1) and `outer` (2 + cells, h + 1), whose last columns are biases;
    `mean` and `scale` (features,) normalize.
    """

    mean: Array
    scale: Array
    hidden: Array
    outer: Array

    def __call__(self, inputs: Array) -> Corrections:
        """Corrections for features (n, features)."""
        normal = np.clip((inputs - self.mean) / self.scale, -_FAR, _FAR)
        inner = np.tanh(normal @ self.hidden[:, :-1].T + self.hidden[:, -1])
        out = np.tanh(inner @ self.outer[:, :-1].T + self.outer[:, -1])
        return Corrections(OCTAVES * out[:, 0], BITS * out[:, 1:])


class Learned(ClosedForm):
    """Plans from the closed form with what the networks, a few of them, find on average."""

    def __init__(self, layers: Mapping[str, Layer], networks: tuple[Network, ...] | None = None) -> None:
        super().__init__(layers)
        self._networks = networks if networks is not None else trained()
        self._static = static_features(self.chosen)
        self._octaves = np.zeros(len(self.chosen))

    def corrections(self, share: float) -> Corrections:
        """What the networks make of each tensor at that loss a weight."""
        steps, costs = options(self.units, share)
        inputs = features(self._static, self.units, steps, costs)
        found = [network(inputs) for network in self._networks]
        self._octaves = np.mean([one.octaves for one in found], axis=0)
        return Corrections(self._octaves, np.mean([one.bits for one in found], axis=0))

    def why(self, place: int) -> str:
        """By how much its step was corrected."""
        return f"equal slopes, {self._octaves[place]:+.2f} octaves by the network"


@cache
def trained() -> tuple[Network, ...]:
    """The networks that come with the package; the file says how they were made."""
    return read(Path(__file__).with_name("learned.json"))


def read(path: Path) -> tuple[Network, ...]:
    """Networks of a file that tools/selector/train.py wrote. Raises ValueError if it is for other features or cells."""
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    for key, expected in {"features": list(FEATURES), "cells": [cell.name for cell in CELLS]}.items():
        if found[key] != expected:
            raise ValueError(f"{path.name}: {key} must be {expected}, not {found[key]}: train it again")
    return tuple(
        Network(**{key: np.array(value, np.float64) for key, value in one.items()}) for one in found["networks"]
    )
