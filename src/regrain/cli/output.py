"""What is printed: consoles, JSON, numbers, names."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

CHANGED = "quantized or pruned weights are not the original's"
"""What is said of an artifact that has some."""


def stdout() -> Console:
    """Where results go. Names and paths are printed as they are: no markup, no emoji, no highlighting."""
    return Console(markup=False, emoji=False, highlight=False)


def emit_json(value: object) -> None:
    """Print one JSON document, canonical (sorted keys, no blanks, ASCII), on one line."""
    sys.stdout.write(json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False) + "\n")
    sys.stdout.flush()


def megabytes(count: int) -> str:
    """Bytes in units of 10^6, without the unit."""
    return f"{count / 1e6:,.{3 if count < 10_000_000 else 2}f}"


def bits(value: float | None, digits: int = 2) -> str:
    """Bits, or a dash."""
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def percent(fraction: float | None, digits: int = 1) -> str:
    """A fraction of 1 in percent, or a dash; small ones are never shown as nothing."""
    if fraction is None:
        return "-"
    smallest = 10.0**-digits
    if 0 < 100 * fraction < smallest:
        return f"<{smallest:.{digits}f}"
    return f"{100 * fraction:.{digits}f}"


def work_line(before: int, after: int) -> str:
    """Multiply-adds before and after, and the fraction that is left."""
    left = percent(after / before) if before else "-"
    counts = [f"{count:,}" if before < 1e6 else f"{count / 1e6:,.1f}" for count in (before, after)]
    unit = "" if before < 1e6 else " million"
    return f"multiply-adds for each example: {counts[0]} → {counts[1]}{unit} ({left} %)"


def shape_text(shape: Iterable[int]) -> str:
    """384x1536; a scalar has the empty shape."""
    return "x".join(map(str, shape)) or "scalar"


def shorten(name: str, width: int) -> str:
    """At most `width` characters: leading parts of a dotted name shrink from the left, then the middle gives way.

    >>> shorten("encoder.layer.0.attention.self.query.weight", 29)
    'enc.lay.0.att.sel.que.weight'
    """
    parts = name.split(".")
    for letters in (3, 1):
        for index, part in enumerate(parts[:-1]):
            if len(".".join(parts)) <= width:
                break
            parts[index] = part if part.isdigit() else part[:letters]
    name = ".".join(parts)
    if len(name) <= width:
        return name
    head = (width - 1) // 2
    return f"{name[:head]}…{name[len(name) - (width - 1 - head) :]}"


def table(*columns: str, left: int = 1) -> Table:
    """An empty table: the first `left` columns are text, the others numbers."""
    made = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for index, column in enumerate(columns):
        made.add_column(column, justify="left" if index < left else "right", no_wrap=True)
    return made


def rows_to_show(total: int, everything: bool, most: int = 24) -> int:
    """How many rows of a long table are printed; one row is never hidden behind a line that says so."""
    return total if everything or total <= most + 1 else most


def bold(text: str) -> Text:
    """Text that stands out on a terminal."""
    return Text(text, style="bold")
