"""What changed when and why: one frozen record an evaluation, kept as a line of JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from regrain.core.errors import TrainingError

State = Literal["below", "between", "room"]


@dataclass(frozen=True, slots=True)
class Change:
    """One layer's plan was replaced; plans are described as in `LayerState.scheme`."""

    name: str
    direction: Literal["looser", "tighter"]
    before: str
    after: str
    why: str


@dataclass(frozen=True, slots=True)
class InputState:
    """What flows into a weight's `channels`, as running means over the batches of training that were looked at, at
    `positions` places so far. `mean` and `variance` are means over the channels, `variances` are those of the least,
    the middle and the most varying one; `sparsity` is the share of zeros, `dynamic_range` in octaves from the smallest
    magnitude above 0 to the largest, `entropy` in bits of int8 indices with one scale.
    """

    positions: int
    channels: int
    mean: float
    variance: float
    variances: tuple[float, float, float]
    least: float
    most: float
    sparsity: float
    dynamic_range: float
    entropy: float


@dataclass(frozen=True, slots=True)
class LayerState:
    """One weight at an evaluation. `bits` are predicted for each of its `count` weights, `density` is what is kept;
    `entropy` (bits, of int8 indices of a row), `sparsity` and `dynamic_range` (octaves) are those of the weights behind
    the recipe; `damage` is the predicted loss up to a factor that all layers share. `inputs` is None where no inputs
    have been seen, as of vectors and embeddings.
    """

    name: str
    scheme: str
    granularity: str
    count: int
    bits: float
    density: float
    damage: float
    entropy: float | None
    sparsity: float | None
    dynamic_range: float | None
    inputs: InputState | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One evaluation after `step` optimizer steps: metrics beside baseline and thresholds, every layer as it was
    evaluated, and what was changed then. `bits` is the mean over all weights.
    """

    step: int
    metrics: Mapping[str, float]
    baseline: Mapping[str, float]
    thresholds: Mapping[str, float]
    slack: float
    state: State
    bits: float
    density: float
    layers: tuple[LayerState, ...]
    changes: tuple[Change, ...]

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field."""
        return asdict(self)


def parse_record(line: str) -> Record:
    """A record from its line. Raises TrainingError for anything else."""
    try:
        value = json.loads(line)
        layers = tuple(_layer(layer) for layer in value.pop("layers"))
        changes = tuple(Change(**change) for change in value.pop("changes"))
        return Record(**value, layers=layers, changes=changes)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        names = ", ".join(field.name for field in fields(Record))
        raise TrainingError(f"a line of the log must be a record with {names}: {error}") from None


def _layer(value: dict[str, Any]) -> LayerState:
    inputs = value.pop("inputs", None)
    if inputs is not None:
        least, middle, most = inputs.pop("variances")
        inputs = InputState(**inputs, variances=(least, middle, most))
    return LayerState(**value, inputs=inputs)


def read_log(path: str | os.PathLike[str]) -> list[Record]:
    """All records of a file. Raises OSError, TrainingError."""
    return [parse_record(line) for line in Path(path).read_text("utf-8").splitlines() if line.strip()]


def write_log(path: str | os.PathLike[str], records: Iterable[Record]) -> None:
    """A file with just these records."""
    Path(path).write_text("".join(json.dumps(record.to_json()) + "\n" for record in records), "utf-8")


def append_log(path: str | os.PathLike[str], record: Record) -> None:
    """One more record at the end of a file."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(record.to_json()) + "\n")
