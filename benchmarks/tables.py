"""What a benchmark shows: tables, and goals that are met or missed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Goal:
    """What is wanted of one figure. `least` tells a floor from a ceiling."""

    text: str
    value: float
    wanted: float
    least: bool = True
    form: str = ".2f"

    @property
    def met(self) -> bool:
        return self.value >= self.wanted if self.least else self.value <= self.wanted

    def cells(self) -> list[str]:
        sign = "≥" if self.least else "≤"
        return [
            self.text,
            f"{sign} {self.wanted:{self.form}}",
            f"{self.value:{self.form}}",
            "met" if self.met else "**missed**",
        ]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells below a title; `note` says what one has to know to read them."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Shown:
    """Everything that one benchmark shows."""

    tables: list[Table] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)


def goals_table(goals: Sequence[Goal]) -> Table:
    """All goals as a table."""
    return Table("Goals", ["goal", "wanted", "measured", ""], [goal.cells() for goal in goals])


def markdown(table: Table, level: int = 3) -> str:
    """A table as Markdown; the first column to the left, the others to the right."""
    lines = [f"{'#' * level} {table.title}", ""]
    if table.note:
        lines += [table.note, ""]
    lines += [_line(table.columns), _line(["---", *["---:"] * (len(table.columns) - 1)])]
    lines += [_line(row) for row in table.rows]
    return "\n".join([*lines, ""])


def plain(table: Table) -> str:
    """A table for a terminal."""
    rows = [[cell.replace("**", "") for cell in row] for row in [table.columns, *table.rows]]
    widths = [max(len(row[index]) for row in rows) for index in range(len(table.columns))]
    lines = [f"\n{table.title}"]
    for row in rows:
        first, *rest = (
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join(["", first, *rest]).rstrip())
    return "\n".join([*lines, *([f"  {table.note}"] if table.note else [])])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
