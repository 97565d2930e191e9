"""`regrain profile`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from regrain.cli.options import Everything, Json, Model, Seed, TaskOption, Threads, Work

if TYPE_CHECKING:
    from regrain.artifact.writer import Progress
    from regrain.core.activity import Activity
    from regrain.core.profile import ModelProfile, TensorProfile
    from regrain.pipelines.options import Listener

EXAMPLE = "Example: regrain profile model.safetensors --low-entropy 4.5 --max-sparsity 50% --block 4x4"


def _fraction(text: str) -> float:
    """0.3 or 30%."""
    try:
        return float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        raise ValueError(f"max_sparsity must be a fraction such as 0.3 or 30%, not {text!r}") from None


def _block(text: str) -> tuple[int, int]:
    """16x1: rows x columns."""
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isascii() and side.isdigit() and int(side) > 0 for side in sides):
        raise ValueError(f"block must be rows x columns such as 16x1, not {text!r}")
    return int(sides[0]), int(sides[1])


def command(
    model: Model,
    high_entropy: Annotated[
        float, typer.Option(help="Above so many bits, and not sparse: individual weights, ANS.")
    ] = 6.0,
    low_entropy: Annotated[float, typer.Option(help="Below so many bits: feature map, quantization.")] = 4.0,
    max_sparsity: Annotated[
        str, typer.Option(metavar="FRACTION", help="A layer with fewer zeros is not sparse: 0.3 or 30%.")
    ] = "30%",
    block: Annotated[
        str,
        typer.Option(metavar="ROWSxCOLS", help="Count blocks of that many weights which hold nothing but zeros."),
    ] = "16x1",
    task: TaskOption = None,
    seed: Seed = 0,
    work: Work = None,
    threads: Threads = None,
    everything: Everything = False,
    as_json: Json = False,
) -> None:
    """Show what a model's weights are like, what lossless compression will make of them, and what the rule picks.

    The rule: high entropy and few zeros: compress individual weights by ANS. Low entropy: quantize feature maps.
    Anything else: prune weight blocks. Entropy is that of the weights rounded to int8 with a scale for each row, in
    bits of 8. It looks at the weights alone and knows nothing of accuracy: take it as a description, not as advice.

    With --task the model is run on calibration data: how sensitive its output is to each layer's weights, and what
    flows into them. That is what regrain plan and regrain compress decide by, and it is kept for them.
    """
    from regrain.cli.output import emit_json
    from regrain.core.selection import SelectionRule
    from regrain.pipelines.profile import profile

    try:
        rule = SelectionRule(high_entropy, low_entropy, _fraction(max_sparsity))
        sides = _block(block)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    with _watched(task is not None, as_json) as (progress, listener):
        found = profile(
            model,
            rule=rule,
            block=sides,
            progress=progress,
            task=task,
            seed=seed,
            work=work,
            threads=threads,
            listener=listener,
        )
    if as_json:
        emit_json(found.to_json())
    else:
        _print(found, everything)


@contextmanager
def _watched(job: bool, as_json: bool) -> Iterator[tuple[Progress | None, Listener | None]]:
    """Progress of bytes, or of a job."""
    from regrain.cli.failures import resumable
    from regrain.cli.progress import job_progress, progress_bar

    if job:
        with resumable(), job_progress(quiet=as_json) as listener:
            yield None, listener
    else:
        with progress_bar("profiling") as progress:
            yield progress, None


@dataclass(frozen=True, slots=True)
class _Column:
    title: str
    cell: Callable[[TensorProfile], str]
    wide: bool = False  # shown on terminals of 110 columns or more only


def _columns(found: ModelProfile) -> list[_Column]:
    from regrain.cli.output import bits, megabytes, percent, shape_text

    def grain(tensor: TensorProfile) -> str:
        choice = found.choice(tensor)
        return "" if choice is None else f"{choice.granularity}+{_SHORT[choice.scheme]}"

    columns = [
        _Column("shape", lambda t: shape_text(t.shape), wide=True),
        _Column("dtype", lambda t: t.dtype),
        _Column("MB", lambda t: megabytes(t.bytes)),
        _Column("→ b/w", lambda t: "tied" if t.tied_to else bits(t.predicted_bits)),
        _Column("exp", lambda t: bits(t.exponent_entropy), wide=True),
        _Column("int8", lambda t: bits(t.int8_entropy)),
        _Column("int4", lambda t: bits(t.int4_entropy), wide=True),
        _Column("zeros", lambda t: percent(t.sparsity)),
        _Column("{}x{}".format(*found.block), lambda t: percent(t.zero_blocks), wide=True),
        _Column("range", lambda t: bits(t.dynamic_range, 1)),
        _Column(">6sd", lambda t: percent(t.outliers, 2), wide=True),
        _Column("rule", grain),
    ]
    if not found.activity:
        return columns
    return [column for column in columns if column.title in _BESIDE_ACTIVITY] + _activity_columns(found)


_BESIDE_ACTIVITY = ("shape", "dtype", "MB", "→ b/w", "int8", "zeros", "range")
"""What of the weights' statistics is shown with a task."""


def _activity_columns(found: ModelProfile) -> list[_Column]:
    """What a task adds."""

    def of(tensor: TensorProfile, text: Callable[[Activity], str]) -> str:
        activity = found.activity.get(tensor.name)
        return "-" if activity is None else text(activity)

    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.2g}"

    def spread(activity: Activity) -> str:
        return "-" if activity.range is None else "{:.2g}…{:.2g}".format(*activity.range)

    return [
        _Column("Fisher/w", lambda t: of(t, lambda a: number(a.sensitivity / t.count if t.count else None))),
        _Column("in var", lambda t: of(t, lambda a: number(a.mean_variance))),
        _Column("in range", lambda t: of(t, spread), wide=True),
        _Column("rank", lambda t: of(t, lambda a: _share(a.effective_rank, len(a.mean))), wide=True),
    ]


def _share(rank: float | None, inputs: int) -> str:
    return "-" if rank is None else f"{rank:.0f}/{inputs}"


_SHORT = {"ans": "ans", "quantization": "quant", "pruning": "prune"}


def _print(found: ModelProfile, everything: bool) -> None:
    from regrain.cli.output import bits, bold, megabytes, rows_to_show, shorten, stdout, table

    console = stdout()
    columns = [column for column in _columns(found) if console.width >= 110 or not column.wide]
    ordered = sorted(found.tensors, key=lambda tensor: (-tensor.bytes, tensor.name))
    shown = ordered[: rows_to_show(len(ordered), everything)]
    cells = [[column.cell(tensor) for column in columns] for tensor in shown]
    widths = [max([len(c.title), *(len(row[i]) for row in cells)]) + 2 for i, c in enumerate(columns)]
    room = max(12, console.width - sum(widths))
    grid = table("tensor", *(column.title for column in columns))
    for tensor, row in zip(shown, cells, strict=True):
        grid.add_row(shorten(tensor.name, room), *row)
    console.print(grid)
    if len(shown) < len(ordered):
        rest = sum(tensor.bytes for tensor in ordered[len(shown) :])
        console.print(f"and {len(ordered) - len(shown)} smaller, {megabytes(rest)} MB (--all shows them)")
    console.print()
    console.print(
        bold(f"{len(ordered)} tensors, {found.weights:,} weights, {megabytes(found.bytes)} MB"),
        f"= {bits(found.bits_per_weight)} bits per weight",
    )
    console.print(
        f"lossless, predicted: {megabytes(found.predicted_bytes)} MB",
        f"= {bits(found.predicted_bits_per_weight)} bits per weight",
    )
    if found.activity:
        console.print(
            "Fisher/w: sensitivity of the output to a weight · in: what flows into the layer · rank: directions it has",
            style="dim",
        )
    for line in [*_strange(found), *([] if found.activity else _choices(found))]:
        console.print(line)
    console.print(
        "b/w, int8, exp, int4: bits · zeros, blocks, >6sd: % · range: log2(largest / smallest magnitude)", style="dim"
    )


def _strange(found: ModelProfile) -> list[str]:
    """What deserves a warning."""
    odd = [tensor for tensor in found.tensors if tensor.nans or tensor.infinities]
    return [f"{t.name}: {t.nans:,} NaN, {t.infinities:,} infinite" for t in odd]


def _choices(found: ModelProfile) -> list[str]:
    """How many matrices got which choice, and why the largest of them did."""
    largest: dict[str, TensorProfile] = {}
    counts: dict[str, int] = {}
    for tensor in found.tensors:
        choice = found.choice(tensor)
        if choice is None:
            continue
        key = f"{choice.granularity}, {choice.scheme}"
        counts[key] = counts.get(key, 0) + 1
        if key not in largest or tensor.bytes > largest[key].bytes:
            largest[key] = tensor
    lines = []
    for key, count in sorted(counts.items(), key=lambda item: -item[1]):
        choice = found.choice(largest[key])
        lines.append(f"rule: {key}: {count} of {sum(counts.values())} matrices (largest: {choice and choice.why})")
    return lines
