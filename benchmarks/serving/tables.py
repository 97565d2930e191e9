"""Print what was measured of whole models as Markdown: python benchmarks/serving/tables.py"""

from __future__ import annotations

from results import Row, read


def main() -> None:
    print("\n".join([*encoder(read("encoder")), *decoder(read("decoder")), *images(read("images"))]))


def encoder(rows: list[Row]) -> list[str]:
    """Milliseconds a batch at each shape, times ONNX Runtime's dynamic int8, and D."""
    if not rows:
        return []
    shapes = list(dict.fromkeys((row["tokens"], row["batch"]) for row in rows))
    found = {(row["engine"], row["tokens"], row["batch"]): row for row in rows}
    titles = ["engine", *(f"{batch} of {tokens} tokens" for tokens, batch in shapes), "D"]
    body = []
    for engine in dict.fromkeys(row["engine"] for row in rows):
        cells = [found[engine, *shape] for shape in shapes if (engine, *shape) in found]
        times = [f"{row['cpu_ms']:.1f} ({row['ratio']:.2f})" for row in cells]
        body.append([engine, *times, _loss(max(row["D"] for row in cells))])
    return ["### all-MiniLM-L6-v2, milliseconds a batch (times ONNX Runtime's dynamic int8)", "", *_table(titles, body)]


def decoder(rows: list[Row]) -> list[str]:
    """Tokens a second, times torch, KL and agreement."""
    if not rows:
        return []
    body = [
        [
            row["engine"],
            f"{1e3 / row['cpu_ms']:.1f}",
            f"{1.0 / row['ratio']:.2f}",
            _loss(row["KL"]),
            f"{row['top1']:.3f}",
        ]
        for row in rows
    ]
    titles = ["engine", "tokens/s", "times torch fp32", "KL", "top-1"]
    return ["### SmolLM2-135M, 128 tokens after a prompt of 16, batch 1", "", *_table(titles, body)]


def images(rows: list[Row]) -> list[str]:
    """Microseconds an image, times the fastest peer, and accuracy."""
    if not rows:
        return []
    batches = list(dict.fromkeys(row["batch"] for row in rows))
    found = {(row["engine"], row["batch"]): row for row in rows}
    body = []
    for engine in dict.fromkeys(row["engine"] for row in rows):
        cells = [found[engine, batch] for batch in batches if (engine, batch) in found]
        times = [f"{1e3 * row['cpu_ms'] / row['batch']:.0f} ({row['ratio']:.2f})" for row in cells]
        body.append([engine, *times, f"{100 * cells[0]['drop']:+.2f}"])
    titles = ["engine", *(f"batch {batch}" for batch in batches), "points lost"]
    return ["### Fashion-MNIST ResNet, microseconds an image (times the fastest peer)", "", *_table(titles, body)]


def _loss(value: float) -> str:
    return "0" if abs(value) < 5e-6 else f"{value:.4f}"


def _table(titles: list[str], rows: list[list[str]]) -> list[str]:
    lines = [f"| {' | '.join(titles)} |", f"|---|{'---:|' * (len(titles) - 1)}"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows), ""]


if __name__ == "__main__":
    main()
