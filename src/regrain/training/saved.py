"""What a monitor needs to go on after a restart, and the refusal to go on with something else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from regrain.core.errors import TrainingError
from regrain.core.recipe import Recipe, parse_recipe
from regrain.training.judging import Reading
from regrain.training.log import parse_record

if TYPE_CHECKING:
    from regrain.training.monitor import AccuracyMonitor

FORMAT = 1


def save(monitor: AccuracyMonitor) -> dict[str, Any]:
    """Tensors, and the rest as JSON."""
    layers = monitor.layers
    baseline = monitor.baseline
    text = {
        "steps": monitor.steps,
        "clock": monitor.clock,
        "held": monitor.held,
        "changed": monitor.changed,
        "baseline": None if baseline is None else [dict(baseline.values), dict(baseline.higher)],
        "plans": Recipe(tuple(layers.passing.plans.values())).text(),
        "aims": Recipe(tuple(layers.aims.values())).text(),
        "log": [json.dumps(record.to_json()) for record in monitor.log],
    }
    masks = {name: layers.passing.mask(name) for name in layers.aims}
    return {
        "regrain_training": FORMAT,
        "model": layers.passing.weights.digest(),
        "recipe": _digest(monitor.recipe),
        "text": json.dumps(text),
        "masks": {name: mask.cpu().clone() for name, mask in masks.items() if mask is not None},
        "energy": {name: value.cpu() for name, value in layers.energy.state().items()},
        "activations": layers.activations.state(),
    }


def restore(monitor: AccuracyMonitor, state: Mapping[str, Any]) -> None:
    """Raises TrainingError for a state that isn't one of this model and recipe."""
    if state.get("regrain_training") != FORMAT:
        raise TrainingError(f"state must be one that a monitor saved, of format {FORMAT}: start anew")
    if state.get("model") != monitor.layers.passing.weights.digest():
        raise TrainingError("state must be of this model: that one has other weights, types or shapes")
    if state.get("recipe") != _digest(monitor.recipe):
        raise TrainingError("state must be of this recipe: start with the one that it was saved with, or anew")
    text, layers = json.loads(state["text"]), monitor.layers
    device = {name: layers.weight(name).tensor.device for name in layers.aims}
    layers.load(
        parse_recipe(text["plans"]).by_name(),
        parse_recipe(text["aims"]).by_name(),
        {name: mask.to(device[name]) for name, mask in state["masks"].items()},
    )
    layers.energy.load({key: value.to(device[key.rpartition("/")[0]]) for key, value in state["energy"].items()})
    layers.activations.load(state.get("activations", {}))  # states of earlier versions have none
    monitor.steps, monitor.clock, monitor.held = text["steps"], text["clock"], text["held"]
    monitor.changed = dict(text["changed"])
    monitor.baseline = None if text["baseline"] is None else Reading(*text["baseline"])
    monitor.log = [parse_record(line) for line in text["log"]]


def _digest(recipe: Recipe) -> str:
    return hashlib.sha256(recipe.text().encode("utf-8")).hexdigest()
