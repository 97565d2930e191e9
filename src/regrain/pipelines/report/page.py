"""The page put together: one file that needs nothing else, and may run no script but its own."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from string import Template

from regrain.core.errors import CorruptArtifactError
from regrain.pipelines.report.chart import chart
from regrain.pipelines.report.judged import judgments
from regrain.pipelines.report.layers import columns, complete, largest
from regrain.pipelines.report.markup import Markup, escape, join, script_json
from regrain.pipelines.report.parse import parse_receipt
from regrain.pipelines.report.receipt import Layer, Receipt
from regrain.pipelines.report.sections import frontier_table, heading, recipe, repeat
from regrain.pipelines.sizes import TensorSize

_SCRIPTS = ("dom.js", "axes.js", "frontier.js", "treemap.js", "table.js", "page.js")


def render(receipt: Mapping[str, object], tensors: Iterable[TensorSize] = (), *, title: str = "model") -> str:
    """The report as HTML. The same arguments give the same text: no time, no path, no host gets into it.

    `receipt` is a JSON object with at least `sizes`; with `"mode": "plan"` it is shown as a prediction. `tensors`
    complete what the receipt says of layers. Raises CorruptArtifactError for a receipt that is not sound.
    """
    try:
        parsed = parse_receipt(receipt)
        layers = complete(parsed.layers, tensors)
        return _filled(parsed, layers, title)
    except RecursionError:
        raise CorruptArtifactError("receipt must be nested less deeply") from None


def _filled(receipt: Receipt, layers: Sequence[Layer], title: str) -> str:
    style, script = _asset("page.css"), "".join(_asset(name) for name in _SCRIPTS)
    drawn = chart(receipt)
    by_work = drawn["across"] == "work"
    data = {
        **drawn,
        "layers": columns(layers),
    }
    return Template(_asset("page.html")).substitute(
        title=escape(title),
        policy=f"default-src 'none'; img-src data:; style-src {_digest(style)}; script-src {_digest(script)}",
        style=style,
        script=script,
        heading=heading(receipt, title),
        frontier="" if receipt.frontier else "hidden",
        frontier_title="Work against loss" if by_work else "Size against loss",
        frontier_axis="multiply-adds" if by_work else "bits per weight",
        frontier_table=frontier_table(receipt) if receipt.frontier else "",
        judgments=judgments(receipt),
        layers="" if layers else "hidden",
        layers_note=_layers_note(layers),
        recipe=recipe(receipt),
        repeat=repeat(receipt),
        data=script_json(data),
    )


def _layers_note(layers: Sequence[Layer]) -> Markup:
    shown = len(largest(layers))
    text = f"{shown:,} tensors." if shown == len(layers) else f"The {shown:,} largest of {len(layers):,} tensors."
    damage = any(layer.predicted_loss for layer in layers)
    pruned = any(layer.kept is not None for layer in layers)
    return join(
        text,
        " Damage is a layer's share of the whole loss, as predicted." if damage else "",
        " Kept: which weights of a pruned layer stay or go together, and the fraction that stays." if pruned else "",
    )


def _asset(name: str) -> str:
    return files("regrain.pipelines.report").joinpath("assets", name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """The source expression of Content Security Policy that allows this inline text and no other."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
