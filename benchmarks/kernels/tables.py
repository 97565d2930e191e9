"""Write what was measured of products into docs/kernels.md: python benchmarks/kernels/tables.py"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from timing import FOLDER, SHAPES, machine

DOCUMENT = Path(__file__).parents[2] / "docs" / "kernels.md"
BEGIN, END = "<!-- begin: written by benchmarks/kernels/tables.py -->", "<!-- end -->"
Row = dict[str, Any]


class Goal(NamedTuple):
    """`contender` is to be so many times as fast as `peer`, with (tokens, cold)."""

    contender: str
    peer: str
    tokens: int
    cold: bool
    least: float


GOALS = (
    *(Goal("f32", "torch", *case) for case in ((1, False, 1.6), (1, True, 1.0), (16, False, 1.5), (128, False, 1.0))),
    *(Goal("coarse 50%", "torch", *case) for case in ((1, False, 3.2), (16, False, 3.4), (128, False, 2.3))),
    *(Goal("16x1 50%", "torch", *case) for case in ((1, False, 3.0), (16, False, 3.5), (128, False, 2.0))),
    *(Goal("16x1 80%", "torch", *case) for case in ((1, False, 7.0), (16, False, 9.0), (128, False, 4.2))),
    *(Goal("fine 80%", "torch", *case) for case in ((16, False, 5.0), (128, False, 4.0))),
    *(Goal("fine 90%", "torch", *case) for case in ((16, False, 9.5), (128, False, 6.5))),
    *(Goal(f"fine {s}%", f"DeepSparse {s}%", 128, False, 1.3) for s in (80, 90, 95)),
    Goal("i8", "torch", 1, True, 3.0),
    Goal("i4 of 32", "torch", 1, True, 4.5),
    *(Goal("int8", "ONNX Runtime int8", tokens, False, 1.0) for tokens in (16, 128)),
    *(Goal("int8, 16x4 50%", "ONNX Runtime int8", tokens, False, 1.4) for tokens in (16, 128)),
)


def main() -> None:
    """Replace the tables between the marks."""
    products, rival = (_read(name) for name in ("products", "deepsparse"))
    integers = _read("integers")["rows"]
    parts = [*_machine(products, rival), *_goals(products["rows"], rival["rows"])]
    for tokens, cold in ((1, False), (1, True), (16, False), (128, False)):
        parts += _times([row for row in products["rows"] if (row["tokens"], row["cold"]) == (tokens, cold)])
    parts += _deepsparse(rival["rows"]) + _integers(integers)
    text = DOCUMENT.read_text()
    head, tail = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    DOCUMENT.write_text(head + "\n\n" + "\n".join(parts) + "\n" + tail)


def _read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"{name}-{machine.kind()}.json").read_text())
    return found


def _table(titles: Sequence[str], rows: Iterable[Iterable[object]]) -> list[str]:
    lines = [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
    return [*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows), ""]


def _shape(row: Row) -> str:
    return f"{row['rows']} x {row['columns']}"


def _machine(products: dict[str, Any], rival: dict[str, Any]) -> list[str]:
    found = products["machine"]
    peers = {**products["peers"], "deepsparse": rival["peers"].get("deepsparse", "-")}
    versions = ", ".join(f"{name} {number}" for name, number in peers.items())
    return [
        f"{found['cpu']['name']} (family {found['cpu']['family']}, model {found['cpu']['model']}), {found['cores']} "
        f"processors, {found['l2_kib']} KiB of L2, {found['instruction_set']}; torch {found['packages']['torch']}, "
        f"{versions}.",
        "",
    ]


def _ratio(row: Row, contender: str, peer: str) -> float:
    return float(row["us"][peer] / row["us"][contender])


def _number(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def _goals(products: list[Row], rival: list[Row]) -> list[str]:
    lines = []
    for goal in GOALS:
        rows = rival if "DeepSparse" in goal.peer else products
        chosen = [row for row in rows if (row["tokens"], row["cold"]) == (goal.tokens, goal.cold)]
        ratios = [_ratio(row, goal.contender, goal.peer) for row in chosen]
        met = sum(ratio >= goal.least for ratio in ratios)
        where = f"{goal.tokens}{', from DRAM' if goal.cold else ''}"
        cells = [f"**{_number(ratio)}**" if ratio >= goal.least else _number(ratio) for ratio in ratios]
        lines.append([goal.contender, where, goal.peer, goal.least, *cells, f"{met} of {len(ratios)}"])
    titles = ["product", "tokens", "times as fast as", "goal", *(f"{r} x {c}" for r, c in SHAPES), "met"]
    return ["### Goals", "", *_table(titles, lines)]


def _times(rows: list[Row]) -> list[str]:
    """Of one number of tokens: torch in microseconds, others as how many times as fast."""
    tokens, cold = rows[0]["tokens"], rows[0]["cold"]
    others = [name for name in rows[0]["us"] if name != "torch"]
    lines = [["torch, µs", *(f"{row['us']['torch']:.4g}" for row in rows)]]
    lines += [[name, *(_number(_ratio(row, name, "torch")) for row in rows)] for name in others]
    title = f"### {tokens} token{'s' * (tokens > 1)}{', weights from DRAM' if cold else ''}"
    return [title, "", *_table(["times as fast as torch", *map(_shape, rows)], lines)]


def _deepsparse(rows: list[Row]) -> list[str]:
    lines = []
    for row in rows:
        for sparsity in (80, 90, 95):
            ours, theirs = (_ratio(row, f"{name} {sparsity}%", "torch") for name in ("fine", "DeepSparse"))
            lines.append([_shape(row), row["tokens"], f"{sparsity} %", *map(_number, (ours, theirs, ours / theirs))])
    titles = ["shape", "tokens", "dropped", "fine / torch", "DeepSparse / torch", "fine / DeepSparse"]
    return ["### Fine masks and DeepSparse", "", *_table(titles, lines)]


def _integers(rows: list[Row]) -> list[str]:
    lines = [
        [
            row["set"],
            _shape(row),
            row["tokens"],
            row["gops"],
            row["onnxruntime_gops"],
            *(_number(row[name]) for name in ("int8", "16x4 50%", "16x4 75%")),
            _number(row["int8"] / row["torch"]),
        ]
        for row in rows
    ]
    titles = [
        "instruction set",
        "shape",
        "tokens",
        "Gop/s",
        "ONNX Runtime's",
        "dense / ONNX Runtime",
        "50 % of blocks out",
        "75 %",
        "dense / torch fp32",
    ]
    return ["### int8 x int8, tokens quantized in the time", "", *_table(titles, lines)]


if __name__ == "__main__":
    main()
