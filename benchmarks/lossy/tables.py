"""Write what was measured of lossy compression into docs/lossy.md: python benchmarks/lossy/tables.py"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import machine
from lossy.frontier import bytes_at, frontier_match, regrain_points

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "lossy"
DOCUMENT = ROOT / "docs" / "lossy.md"
BEGIN, END = "<!-- begin: written by benchmarks/lossy/tables.py -->", "<!-- end -->"


def main() -> None:
    """Replace the tables between the marks."""
    files = sorted(RESULTS.glob(f"honored*-{machine.kind()}.json"))
    runs = {key: run for file in files for key, run in json.loads(file.read_text())["runs"].items()}
    peers = json.loads((RESULTS / f"lossy-peers-{machine.kind()}.json").read_text())
    parts = [
        *_budgets(runs),
        *_similarity([run for key, run in runs.items() if key.startswith("MiniLM, similarity")]),
        *_frontiers(runs),
        *_predictions(runs),
        *_peers(runs, peers),
        *_rivals(runs, peers.get("rivals", [])),
    ]
    text = DOCUMENT.read_text()
    head, tail = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    DOCUMENT.write_text(head + "\n\n" + "\n".join(parts) + "\n" + tail)


def _table(titles: Iterable[str], rows: Iterable[Iterable[object]]) -> list[str]:
    titles = list(titles)
    lines = [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
    return [*lines, *(f"| {' | '.join(str(cell) for cell in row)} |" for row in rows), ""]


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _budgets(runs: dict[str, Any]) -> list[str]:
    kept, near = sum(run["kept"] for run in runs.values()), 0
    rows = []
    for key, run in runs.items():
        name, seed, limits = key.split(" | ")
        over = run["over_oracle"]
        near += over is not None and over <= 0.3
        (limit, value), *confidence = json.loads(limits).items()
        rows.append(
            [
                name,
                f"{limit} {value:g}" + "".join(f", confidence {share:g}" for _, share in confidence),
                seed,
                _number(run["bits_per_weight"]),
                _number(run["oracle_bits_per_weight"]),
                f"{run['loss']:.2g}",
                "; ".join(f"{100 * metric['drop']:.2f}" for metric in run["metrics"].values()),
                "yes" if run["kept"] else "**no**",
            ]
        )
    return [
        "## Budgets on data that no run ever saw",
        "",
        f"{kept} of {len(rows)} runs kept their budget on the audit split; {near} are within 0.3 bits a weight of the",
        "smallest recipe that keeps it there (the oracle, which looks at the audit split itself).",
        "",
        *_table(
            ("model", "limit", "seed", "bits/weight", "oracle", "D or KL", "drop, %", "kept"),
            rows,
        ),
    ]


def _frontiers(runs: dict[str, Any]) -> list[str]:
    found: dict[str, list[list[float]]] = {}
    for key, run in runs.items():
        name, seed, _ = key.split(" | ")
        if seed == "0":
            found.setdefault(name, run["frontier"])
    rows = []
    for name, points in found.items():
        rows += [[name, _number(bits), f"{loss:.2g}"] for bits, loss in sorted(points, reverse=True)]
    return [
        "## Size against loss on the audit split",
        "",
        "Every point is a recipe of the planner, built and measured; headers are counted.",
        "",
        *_table(("model and task", "bits/weight", "D or KL"), rows),
    ]


def _predictions(runs: dict[str, Any]) -> list[str]:
    first: dict[str, list[float]] = {}
    later: dict[str, list[float]] = {}
    for key, run in runs.items():
        name = key.split(" | ")[0].split(",")[0]
        for number, (_, predicted, measured) in enumerate(run["search"][1:]):  # lossless has nothing to predict
            if measured > 0.0:
                (later if number else first).setdefault(name, []).append(abs(math.log(predicted / measured)))
    rows = [
        [name, *_errors(first.get(name, [])), *_errors(later.get(name, []))] for name in dict.fromkeys([*first, *later])
    ]
    return [
        "## Predicted against measured loss",
        "",
        "D or KL of the search data against what was predicted before they were asked: of each run's first point,",
        "which has nothing to be corrected by, and of the points after it, corrected by those before.",
        "",
        *_table(
            ("model", "first points", "median error", "within 15 %", "later points", "median error", "within 15 %"),
            rows,
        ),
    ]


def _similarity(runs: list[dict[str, Any]]) -> list[str]:
    """Drops of similarity over all fifths of the pairs together, each from the run that had it for audit."""
    if not runs:
        return []
    points = [
        (
            sum(run["frontier"][at][0] for run in runs) / len(runs),
            sum(run["frontier"][at][1] for run in runs) / len(runs),
            *_pooled([run["frontier_drops"][at]["similarity"] for run in runs]),
        )
        for at in range(len(runs[0]["frontier"]))
    ]
    chosen = _pooled([run["metrics"]["similarity"] for run in runs])
    size, loss = (sum(run[name] for run in runs) / len(runs) for name in ("bits_per_weight", "loss"))
    rows = [("frontier, at most with 95 % confidence", *point) for point in points]
    rows.append(("what the command chose, with 80 %", size, loss, *chosen))
    return [
        f"## Word similarity, {len(runs)} runs",
        "",
        "Spearman's correlation with human judgments. Each run has another fifth of the 1,340 pairs for",
        "audit; these are means over the runs.",
        "",
        *_table(
            ("", "bits/weight", "D", "drop, %", "at most, %"),
            [
                (name, f"{size:.2f}", f"{loss:.2g}", f"{100 * drop:.2f}", f"{100 * most:.2f}")
                for name, size, loss, drop, most in rows
            ],
        ),
    ]


def _pooled(drops: list[dict[str, Any]]) -> tuple[float, float]:
    """Mean relative drop of independent audits, and its upper bound at the confidence that they share."""
    mean = sum(drop["relative"] for drop in drops) / len(drops)
    reach = math.sqrt(sum((drop["relative_upper"] - drop["relative"]) ** 2 for drop in drops)) / len(drops)
    return mean, mean + reach


def _errors(errors: list[float]) -> list[str]:
    if not errors:
        return ["0", "-", "-"]
    near = sum(error <= math.log(1.15) for error in errors)
    return [
        str(len(errors)),
        f"{100 * math.expm1(sorted(errors)[len(errors) // 2]):.0f} %",
        f"{100 * near / len(errors):.0f} %",
    ]


def _peers(runs: dict[str, Any], peers: dict[str, Any]) -> list[str]:
    points = [
        (round(bits * peers["weights"] / 8), loss)
        for key, run in runs.items()
        if key.startswith("MiniLM, fidelity | 0")
        for bits, loss in run["frontier"]
    ]
    if not points:
        return []
    frontier = regrain_points(points)
    rows = [row for row in peers["rows"] if row.get("D")]
    by_name = {(row["tool"], row["config"]): row for row in rows}
    table = []
    for match in frontier_match(rows, frontier):
        row = by_name[match.tool, match.config]
        table.append(
            [
                match.tool,
                match.config,
                f"{row['D']:.2g}",
                _number(row["bits_per_weight"], 2),
                _number(None if match.regrain_bytes is None else 8 * match.regrain_bytes / peers["weights"], 2),
                _number(match.ratio, 2),
                _number(match.limit, 2),
            ]
        )
    assert bytes_at(frontier, frontier[0].D) is not None
    return [
        "## Other tools on all-MiniLM-L6-v2, at their own D",
        "",
        "regrain's size is read off its frontier at the other tool's D, between two measured points; a dash where that",
        "D is beyond them. `at most` is the goal for the ratio.",
        "",
        *_table(("tool", "setting", "D", "its bits/weight", "regrain's", "ratio", "at most"), table),
    ]


def _rivals(runs: dict[str, Any], rivals: list[dict[str, Any]]) -> list[str]:
    if not rivals:
        return []
    ours = {
        "fashion_mnist": 'Fashion-MNIST ResNet | 0 | {"max_drop_abs": 0.005}',
        "minilm/retrieval": 'MiniLM, retrieval | 0 | {"max_drop": 0.01}',
    }
    rows = [
        [
            f"{row['tool']} {row['version']}, {row['config']}",
            row["task"],
            f"{100 * row['budget']:g} {'%' if row['relative'] else 'points'}",
            _number(row["bits_per_weight"], 2),
            f"{100 * row['audit_drop']:.2f}",
            "yes" if row["within_budget"] else "**no**",
        ]
        for row in rivals
    ]
    for task, key in ours.items():
        run = runs.get(key)
        if run is not None:
            relative = task.startswith("minilm")
            (metric,) = run["metrics"].values()
            rows.append(
                [
                    "regrain",
                    task,
                    "1 %" if relative else "0.5 points",
                    _number(run["bits_per_weight"], 2),
                    f"{100 * metric['relative' if relative else 'drop']:.2f}",
                    "yes" if run["kept"] else "**no**",
                ]
            )
    return [
        "## Tools that keep an accuracy budget",
        "",
        "They validate on the splits for search and for holding out, as often as they like; the drop is that of the",
        "audit split. NNCF quantizes activations as well, for speed.",
        "",
        *_table(
            ("tool", "task", "budget", "bits/weight", "audit drop", "within"), sorted(rows, key=lambda row: row[1])
        ),
    ]


if __name__ == "__main__":
    main()
