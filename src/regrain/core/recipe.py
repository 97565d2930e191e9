"""The recipe: what is done to each tensor of a model, as text that a person can read, edit, compare and replay."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from regrain.core.errors import RecipeError
from regrain.core.granularity import Granularity
from regrain.core.pattern import Compensation, Pattern, Pruning, Score

RECIPE_FORMAT = 1

_CELL = re.compile(
    r"(tensor|row|column)|group:([1-9][0-9]{0,17})|block:([1-9][0-9]{0,17})x([1-9][0-9]{0,17})", re.ASCII
)


class Method(StrEnum):
    """What becomes of one tensor."""

    LOSSLESS = "lossless"
    PRUNE = "prune"  # what is kept stays floating-point
    QUANTIZE = "quantize"  # with or without pruning


@dataclass(frozen=True, slots=True)
class Cell:
    """Weights of a matrix that share a step: `tensor`, `row`, `column`, `group:N` (N of a row) or `block:RxC`.

    A row is an output channel, a filter or a feature map; a vector is one row.

    >>> Cell("group:32").size(384, 1536), Cell("row").granularity
    ((1, 32), <Granularity.COARSE: 'coarse'>)
    """

    name: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or _CELL.fullmatch(self.name) is None:
            raise RecipeError(f"cell must be tensor, row, column, group:N or block:RxC, not {self.name!r}")

    def size(self, rows: int, columns: int) -> tuple[int, int]:
        """Rows and columns of a cell of a matrix of that shape."""
        match = _CELL.fullmatch(self.name)
        assert match is not None
        if match[1] is not None:
            return {"tensor": (rows, columns), "row": (1, columns), "column": (rows, 1)}[match[1]]
        if match[2] is not None:
            return 1, min(int(match[2]), columns)
        return min(int(match[3]), rows), min(int(match[4]), columns)

    @property
    def granularity(self) -> Granularity:
        """The unit that is described: blocks and groups are medium, channels and whole tensors coarse."""
        return Granularity.COARSE if self.name in ("tensor", "row", "column") else Granularity.MEDIUM


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """What is done to one tensor, with what it was predicted to give.

    `step` is the geometric mean of the tensor's steps, in its own units; `cell` says which weights share one. Both
    are None unless it is quantized; `pruning` is None unless weights are dropped. `loss` is its share of the predicted
    loss (D or KL), `bytes` its predicted size.
    """

    name: str
    method: Method
    cell: Cell | None = None
    step: float | None = None
    dead_zone: float = 0.0
    bytes: float = 0.0
    loss: float = 0.0
    why: str = ""
    pruning: Pruning | None = None

    def __post_init__(self) -> None:
        if self.method is Method.LOSSLESS and self.pruning is not None:
            raise RecipeError(f"{self.name!r}: a lossless tensor must not be pruned: its method must be prune")
        if self.method is Method.PRUNE and self.pruning is None:
            raise RecipeError(f"{self.name!r}: a pruned tensor must have a pruning: a pattern and a density")
        if self.method is not Method.QUANTIZE:
            if self.cell is not None or self.step is not None:
                kind = "lossless" if self.method is Method.LOSSLESS else "pruned, not quantized"
                raise RecipeError(f"{self.name!r}: a {kind} tensor must have neither cell nor step: leave them out")
        elif self.cell is None or self.step is None:
            raise RecipeError(f"{self.name!r}: a quantized tensor must have a cell and a step")
        elif not (math.isfinite(self.step) and 2.0**-126 <= self.step < 2.0**127):
            raise RecipeError(f"{self.name!r}: step must be a positive normal number, not {self.step!r}")
        if not 0.0 <= self.dead_zone < 0.5:
            raise RecipeError(f"{self.name!r}: dead_zone must be from 0 to below 0.5, not {self.dead_zone!r}")

    def to_json(self) -> dict[str, object]:
        """A JSON object; what does not apply is left out."""
        value: dict[str, object] = {"method": str(self.method)}
        if self.cell is not None:
            value |= {"cell": self.cell.name, "step": self.step}
        if self.pruning is not None:
            value["pruning"] = self.pruning.to_json()
        if self.dead_zone:
            value["dead_zone"] = self.dead_zone
        return value | {"bytes": round(self.bytes, 1), "loss": float(f"{self.loss:.4g}"), "why": self.why}


@dataclass(frozen=True, slots=True)
class Recipe:
    """Plans of tensors in the model's order, each name once. A tensor without one is lossless. `model` is the SHA-256
    of the weights' files it was made for; `note` whatever else should be kept with it (budget, task, seed), as JSON.
    """

    layers: tuple[LayerPlan, ...]
    model: str = ""
    note: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _once([layer.name for layer in self.layers])

    def plan(self, name: str) -> LayerPlan:
        """The plan of a tensor."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        return LayerPlan(name, Method.LOSSLESS)

    def by_name(self) -> dict[str, LayerPlan]:
        """All plans."""
        return {layer.name: layer for layer in self.layers}

    def check_names(self, names: set[str]) -> None:
        """Raise RecipeError unless every tensor of the recipe is among the model's `names`."""
        unknown = [layer.name for layer in self.layers if layer.name not in names]
        if unknown:
            raise RecipeError(
                f"recipe must be for this model, which has no tensor {unknown[0]!r}"
                f" ({len(unknown)} of {len(self.layers)} are unknown): make one with regrain plan"
            )

    def to_json(self) -> dict[str, object]:
        """A JSON object with every field."""
        return {
            "recipe": RECIPE_FORMAT,
            "model": self.model,
            "note": dict(self.note),
            "layers": {layer.name: layer.to_json() for layer in self.layers},
        }

    def text(self) -> str:
        """JSON with one line a tensor: easy to read, to edit and to compare."""
        head = json.dumps({"recipe": RECIPE_FORMAT, "model": self.model, "note": dict(self.note)}, indent=1)
        lines = ",\n".join(f"  {json.dumps(layer.name)}: {json.dumps(layer.to_json())}" for layer in self.layers)
        return f'{head[:-2]},\n "layers": {{\n{lines}\n }}\n}}\n' if lines else f'{head[:-2]},\n "layers": {{}}\n}}\n'


def parse_recipe(text: str) -> Recipe:
    """A recipe from its JSON. Raises RecipeError for anything that isn't one: fields are a closed list."""
    try:
        document = json.loads(text, object_pairs_hook=_no_twins)
    except RecipeError:
        raise
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"recipe must be JSON: {error}") from None
    if not isinstance(document, dict) or document.get("recipe") != RECIPE_FORMAT:
        raise RecipeError(f'recipe must be a JSON object with "recipe": {RECIPE_FORMAT}: see regrain plan --help')
    _closed(document, {"recipe", "model", "note", "layers"}, "recipe")
    layers, model, note = document.get("layers"), document.get("model", ""), document.get("note", {})
    if not isinstance(layers, dict) or not isinstance(model, str) or not isinstance(note, dict):
        raise RecipeError('recipe must have "layers" by name; "model" must be text and "note" an object')
    return Recipe(tuple(_layer(name, value) for name, value in layers.items()), model, note)


def _layer(name: str, value: object) -> LayerPlan:
    if not isinstance(value, dict):
        raise RecipeError(f"{name!r} must be an object with a method, not {value!r:.40}")
    _closed(value, {"method", "cell", "step", "dead_zone", "pruning", "bytes", "loss", "why"}, repr(name))
    method = value.get("method")
    if method not in tuple(Method):
        raise RecipeError(f"{name!r}: method must be {' or '.join(Method)}, not {method!r:.40}")
    numbers = {key: _number(name, key, value[key]) for key in ("step", "dead_zone", "bytes", "loss") if key in value}
    cell, why = value.get("cell"), value.get("why", "")
    return LayerPlan(
        name,
        Method(method),
        None if cell is None else Cell(cell),
        numbers.get("step"),
        numbers.get("dead_zone", 0.0),
        numbers.get("bytes", 0.0),
        numbers.get("loss", 0.0),
        why if isinstance(why, str) else str(why),
        None if value.get("pruning") is None else _pruning(name, value["pruning"]),
    )


def _pruning(name: str, value: object) -> Pruning:
    where = f"{name!r}: pruning"
    if not isinstance(value, dict):
        raise RecipeError(f"{where} must be an object with a pattern, not {value!r:.40}")
    _closed(value, {"pattern", "density", "score", "compensation", "follows"}, where)
    score, compensation = value.get("score", "obs"), value.get("compensation", "least-squares")
    for key, found, known in (("score", score, Score), ("compensation", compensation, Compensation)):
        if found not in tuple(known):
            raise RecipeError(f"{where}: {key} must be {' or '.join(known)}, not {found!r:.40}")
    follows = value.get("follows")
    if follows is not None and not isinstance(follows, str):
        raise RecipeError(f"{where}: follows must be a tensor's name, not {follows!r:.40}")
    density = _number(name, "density", value["density"]) if value.get("density") is not None else None
    try:
        pattern = Pattern(value.get("pattern"))  # type: ignore[arg-type]
        return Pruning(pattern, density, Score(score), Compensation(compensation), follows)
    except RecipeError as error:
        raise RecipeError(f"{where}: {error}") from None


def _number(name: str, key: str, value: object) -> float:
    try:
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:  # an integer beyond any float
        number = math.inf
    if not math.isfinite(number):
        raise RecipeError(f"{name!r}: {key} must be a finite number, not {value!r:.40}")
    return number


def _closed(value: Mapping[str, object], known: set[str], where: str) -> None:
    odd = sorted(value.keys() - known)
    if odd:
        raise RecipeError(f"{where}: field must be one of {', '.join(sorted(known))}, not {odd[0]!r}")


def _no_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    _once([name for name, _ in pairs])
    return dict(pairs)


def _once(names: list[str]) -> None:
    if len(set(names)) < len(names):
        twin = next(name for name in names if names.count(name) > 1)
        raise RecipeError(f"{twin!r} must stand once, not {names.count(twin)} times")
