"""Arguments and options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL",
        help="A .safetensors file, an .index.json with its shards, a model directory, or a PyTorch state dict (.pt, "
        ".pth, .bin; read without running code in it).",
        show_default=False,
    ),
]
ArtifactPath = Annotated[
    Path,
    typer.Argument(metavar="ARTIFACT", help="A file or directory that regrain compress wrote.", show_default=False),
]
Force = Annotated[bool, typer.Option("--force", "-f", help="Overwrite an output that exists.")]
Json = Annotated[bool, typer.Option("--json", help="Print one line of JSON instead of text.")]
Threads = Annotated[
    int | None,
    typer.Option("--threads", min=1, help="Threads to use.", show_default="every processor"),
]
Everything = Annotated[bool, typer.Option("--all", "-a", help="Show every tensor, not only the largest.")]

TaskOption = Annotated[
    Path | None,
    typer.Option(
        "--task",
        "-t",
        metavar="TASK",
        help="A Python file that says what the model is for: its inputs, its output and how it is scored. It is run.",
        show_default=False,
    ),
]
TaskFile = Annotated[
    Path,
    typer.Option(
        "--task",
        "-t",
        metavar="TASK",
        help="A Python file that says what the model is for. It is run.",
        show_default=False,
    ),
]
MaxDrop = Annotated[
    str | None,
    typer.Option(metavar="FRACTION", help="Every metric may get worse by so much: 1% or 0.01.", show_default=False),
]
MaxDropAbs = Annotated[
    float | None, typer.Option(metavar="UNITS", help="The same in each metric's own units.", show_default=False)
]
MinFidelity = Annotated[
    str | None,
    typer.Option(
        metavar="FRACTION",
        help="Outputs must be this close: 0.995 allows D or KL of 0.005.",
        show_default=False,
    ),
]
MaxSize = Annotated[
    str | None, typer.Option(metavar="SIZE", help="At most 12MB, 500kB, or so many bytes.", show_default=False)
]
MaxWork = Annotated[
    str | None,
    typer.Option(
        metavar="FRACTION", help="At most 50% of the multiply-adds; with --objective work.", show_default=False
    ),
]
Bits = Annotated[
    float | None, typer.Option(metavar="BITS", help="At most so many bits per weight.", show_default=False)
]
Confidence = Annotated[float, typer.Option(metavar="FRACTION", help="How sure it must be that the limits are kept.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the random projections that measure sensitivity.")]
Cells = Annotated[
    str | None,
    typer.Option(
        metavar="CELLS",
        help="What may share a step: tensor, row, column, group:32, block:16x16, ...",
        show_default="tensor,row",
    ),
]
Objective = Annotated[
    str,
    typer.Option(
        metavar="bytes|work|both|latency",
        help="What to make small: bytes; multiply-adds (by pruning; weights that are kept are not rounded); both; or "
        "the time that loading takes, by what this machine is measured to need.",
    ),
]
Patterns = Annotated[
    str | None,
    typer.Option(
        metavar="PATTERNS",
        help="How weights may be pruned: fine, 2:4, block:4x1, block:16x1, column, row, ...; none for not at all.",
        show_default="block:16x1,column for work and both",
    ),
]
Slim = Annotated[
    bool,
    typer.Option(
        "--slim",
        help="Remove channels that nothing uses any more: the artifact is that of a smaller model, for "
        "regrain.models.slim.fit. Of use with --objective work or both.",
    ),
]
Dynamic = Annotated[
    bool,
    typer.Option(
        "--dynamic",
        help="Let a run time change the granularity of every matrix (dynamic sparsity enable): see regrain run.",
    ),
]
Selector = Annotated[
    str,
    typer.Option(
        metavar="search|closed-form|learned|rule",
        help="Who decides what is done to each tensor: measured candidates, a formula, a small neural network, or the "
        "rule of regrain profile.",
    ),
]
_RULE = "Options of --selector rule"
HighEntropy = Annotated[
    float | None,
    typer.Option(
        metavar="BITS",
        help="Above so many bits, and not sparse: lossless.",
        show_default="6",
        rich_help_panel=_RULE,
    ),
]
LowEntropy = Annotated[
    float | None,
    typer.Option(
        metavar="BITS", help="Below so many bits: quantized, a step a row.", show_default="4", rich_help_panel=_RULE
    ),
]
MaxSparsity = Annotated[
    str | None,
    typer.Option(
        metavar="FRACTION",
        help="A layer with fewer zeros is not sparse: 0.3 or 30%.",
        show_default="30%",
        rich_help_panel=_RULE,
    ),
]
RuleBits = Annotated[
    int | None,
    typer.Option(metavar="BITS", help="Of an index, where it is quantized.", show_default="8", rich_help_panel=_RULE),
]
RuleDensity = Annotated[
    float | None,
    typer.Option(
        metavar="FRACTION",
        help="Of the 16x1 blocks that are kept, where it is pruned.",
        show_default="0.7",
        rich_help_panel=_RULE,
    ),
]
Work = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Where measurements are kept.", show_default=".regrain beside the model"),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from measurements, and fail if there are none.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Measure everything again.")]
