"""Print what was measured of pruning as Markdown: python benchmarks/pruning/tables.py [--results FOLDER]"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from statistics import median

import results
from results import Row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=results.FOLDER, help="folder to read from")
    rows = results.read(results.file(parser.parse_args().results))
    for subject in dict.fromkeys(row["subject"] for row in rows):
        print("\n".join(tables([row for row in rows if row["subject"] == subject])))


def tables(rows: list[Row]) -> list[str]:
    """Of one subject: single weights, whole channels, and regrain's recipes with the best peer that removes as much."""
    loss = "D" if "D" in rows[0] else "KL"
    groups = {
        "Single weights": [row for row in rows if not row["amount"].startswith(("removed", "recipe"))],
        "Whole channels": [row for row in rows if row["amount"].startswith("removed")],
    }
    lines: list[str] = []
    for title, chosen in groups.items():
        if chosen:
            lines += [f"### {chosen[0]['subject']}: {title.lower()}", "", *_matrix(chosen, loss)]
    ours = [row for row in rows if row["tool"] == "regrain"]
    if ours:
        lines += [f"### {ours[0]['subject']}: regrain", "", *_recipes(ours, groups["Whole channels"], loss)]
    return lines


def _matrix(rows: list[Row], loss: str) -> list[str]:
    amounts = list(dict.fromkeys(row["amount"] for row in rows))
    found = {(*_name(row), row["amount"]): row for row in rows}
    body = []
    for name in dict.fromkeys(_name(row) for row in rows):
        cells = [found.get((*name, amount)) for amount in amounts]
        seconds = median(row["seconds"] for row in cells if row)
        body.append([*name, *(_loss(row, loss) if row else "" for row in cells), f"{seconds:.1f}"])
    return _table(("tool", "setting", *amounts, "seconds"), body)


def _recipes(rows: list[Row], peers: list[Row], loss: str) -> list[str]:
    body = []
    for row in sorted(rows, key=lambda row: (row["skipped"], row["zeroed"])):
        better = [peer for peer in peers if peer["skipped"] >= row["skipped"] - 0.005]
        best = min(better, key=lambda peer: peer[loss], default=None)
        body.append(
            [
                row["config"],
                *(f"{100 * row[name]:.1f}" for name in ("skipped", "zeroed", "kept")),
                _loss(row, loss),
                f"{row['seconds']:.1f}",
                f"{_loss(best, loss)}: {' '.join(filter(None, _name(best)))}" if best else "-",
            ]
        )
    titles = (
        "recipe",
        "work skipped, %",
        "work zeroed, %",
        "weights kept, %",
        loss,
        "seconds",
        "best peer by channels",
    )
    return _table(titles, body)


def _name(row: Row) -> tuple[str, str]:
    return f"{row['tool']} {row['version']}".strip(), ", ".join(filter(None, (row["config"], row["variant"])))


def _loss(row: Row, loss: str) -> str:
    """D, or KL with the drop of accuracy in points; what was removed instead where that is not what was asked for."""
    text = f"{row[loss]:.3g}" + (f" ({100 * row['drop']:+.1f})" if "drop" in row else "")
    asked, _, fraction = row["amount"].partition(" ")
    off = asked == "removed" and abs(row["skipped"] - float(fraction)) > 0.01
    return f"{text} at {row['skipped']:.3f}" if off else text


def _table(titles: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    titles = list(titles)
    lines = [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows), ""]


if __name__ == "__main__":
    main()
