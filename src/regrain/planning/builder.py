"""Builds recipes one after the other, and remembers what the next one may need again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from regrain.core.recipe import LayerPlan
from regrain.planning.build import Built, build
from regrain.planning.layer import Layer
from regrain.planning.prunings import Prunings
from regrain.planning.sequential import Sequential


class Builder:
    """Of a model's layers; compensation in sequence takes `sequential`, which runs the network."""

    def __init__(self, layers: Mapping[str, Layer], threads: int, sequential: Sequential | None = None) -> None:
        self._layers = layers
        self._threads = threads
        self._sequential = sequential
        self._prunings = Prunings(2 * sum(layer.weights.nbytes for layer in layers.values()))
        self._last: tuple[str, dict[str, Built]] | None = None

    def build(self, plans: Mapping[str, LayerPlan]) -> dict[str, Built]:
        """Every layer as the plans want it. The last ones are remembered if anything was pruned, which takes long."""
        digest = plans_digest(plans)
        if self._last is not None and self._last[0] == digest:
            return self._last[1]
        self._last = None  # two at once would take more memory
        built = build(self._layers, plans, self._threads, self._prunings, self._sequential)
        if any(plan.pruning is not None for plan in plans.values()):
            self._last = digest, built
        return built


def plans_digest(plans: Mapping[str, LayerPlan]) -> str:
    """SHA-256 of what plans make of a model, whatever was predicted of it."""
    made = []
    for p in plans.values():
        one: list[object] = [p.name, str(p.method), None if p.cell is None else p.cell.name, p.step, p.dead_zone]
        made.append(one if p.pruning is None else [*one, p.pruning.to_json()])
    return hashlib.sha256(json.dumps(made).encode("utf-8")).hexdigest()[:24]
