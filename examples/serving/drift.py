# ruff: noqa: T201 - away from a terminal, the script says what it sees by printing
"""Serve all-MiniLM-L6-v2 while its inputs drift from news to reviews to an encyclopedia, and watch it adapt.

python examples/serving/drift.py --density 0.8
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tasks"))

import torch
from minilm import data
from minilm import model as encoder
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from regrain.policies import POLICIES
from regrain.runtime import Attachment, attach, calibrate

SIGNS = {"fine": "·", "medium": "▪", "coarse": "■", "None": "█"}
BARS = " ▁▂▃▄▅▆▇█"
SHOWN = 48  # batches of a history


@dataclass
class Seen:
    """What came of the stream so far: milliseconds by torch and served, and the distance of the embeddings."""

    domain: str = ""
    plain: list[float] = field(default_factory=list)
    served: list[float] = field(default_factory=list)
    distance: list[float] = field(default_factory=list)


def main() -> None:
    """Calibrate on the mixture, then stream one domain after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", choices=list(POLICIES), default="auto", help="what decides [auto]")
    parser.add_argument("--density", type=float, default=0.8, help="what may be kept of each matrix [0.8]")
    parser.add_argument("--pattern", help="build a bank of compensated patterns, such as column: takes a minute [none]")
    parser.add_argument("--batches", type=int, default=24, help="of each domain [24]")
    parser.add_argument("--threads", type=int, default=1, help="for torch and for regrain [1]")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    console = Console()
    original, model = encoder.load(), encoder.load()
    domains = {
        "news": data.news(),
        "reviews": data.reviews(),
        "encyclopedia": tuple(text for article in data.wikipedia() for text in article.paragraphs),
    }
    with console.status("calibrating on a little of each domain"), torch.inference_mode():
        runs = [lambda texts=texts[:96]: (encoder.embed(model, batch) for batch in encoder.inputs(texts))
                for texts in domains.values()]  # fmt: skip
        known = calibrate(model, runs, density=arguments.density, pattern=arguments.pattern)
    streams = {name: texts[96:] for name, texts in domains.items()}
    seen = Seen()
    with attach(model, policy=arguments.policy, calibration=known, threads=arguments.threads) as attachment:
        attachment.acquaint(lambda: chain.from_iterable(run() for run in runs))
        if not console.is_terminal:
            for _ in stream(streams, arguments.batches, original, model, seen):
                pass
        else:
            with Live(console=console, transient=True, refresh_per_second=8) as live:
                for _ in stream(streams, arguments.batches, original, model, seen):
                    live.update(picture(attachment, seen))
        attachment.settle()
        console.print(picture(attachment, seen))


def stream(
    streams: dict[str, tuple[str, ...]], count: int, original: torch.nn.Module, model: torch.nn.Module, seen: Seen
) -> Iterator[None]:
    """Batches of each domain in turn, by torch and served; the first of all is not timed."""
    first = next(encoder.inputs(next(iter(streams.values()))))
    with torch.inference_mode():
        encoder.embed(original, first), encoder.embed(model, first)
        for seen.domain, texts in streams.items():
            batches = list(encoder.inputs(texts))
            for number in range(count):
                batch = batches[number % len(batches)]
                start = time.perf_counter()
                wanted = encoder.embed(original, batch)
                middle = time.perf_counter()
                found = encoder.embed(model, batch)
                seen.plain.append(1e3 * (middle - start))
                seen.served.append(1e3 * (time.perf_counter() - middle))
                seen.distance.append(float(1 - (wanted * found).sum(dim=1).mean()))
                yield
            last = seen.distance[-count:]
            print(
                f"{seen.domain}: distance {sum(last) / len(last):.4f}, at first {last[0]:.4f}, at last {last[-1]:.4f}"
            )


def picture(attachment: Attachment, seen: Seen) -> Group:
    """A line a matrix: what is dropped of it, how much is kept, how often that changed."""
    table = Table(box=None, pad_edge=False)
    for column, side in (("matrix", "left"), ("", "left"), ("kept", "left"), ("switches", "right"), ("bias", "right")):
        table.add_column(column, justify=side)  # type: ignore[arg-type]
    for name, engine in attachment.engines.items():
        decision, adaptation = engine.layout.decision, engine.adaptation
        if decision is None or adaptation is None:
            continue
        dense = sum(1 for kind in decision.classes if kind == 0) / decision.classes.size
        bar = "█" * round(20 * dense) + "▒" * round(20 * max(decision.density - dense, 0.0))
        switched = Text(f"{adaptation.switches}", style="bold" if adaptation.switches else "dim")
        table.add_row(name.removesuffix(".weight"), SIGNS[str(decision.granularity)], f"{bar:20}", switched,
                      f"{adaptation.refreshes}")  # fmt: skip
    faster = sum(seen.plain) / max(sum(seen.served), 1e-9)
    lines = [
        Text(f"{seen.domain}: {len(seen.served)} batches, {faster:.2f} times as fast as torch", style="bold"),
        Text(f"ms       {history(seen.served)} {seen.served[-1] if seen.served else 0:.0f}"),
        Text(f"distance {history(seen.distance)} {seen.distance[-1] if seen.distance else 0:.4f}"),
        Text("kept: █ in every panel ▒ in some; dropped by · weights ▪ blocks ■ channels", style="dim"),
    ]
    return Group(table, *lines)


def history(values: list[float]) -> str:
    """The last values as bars, beside the largest of them."""
    shown = values[-SHOWN:]
    most = max(shown, default=0.0) or 1.0
    return "".join(BARS[min(8, int(9 * value / most))] for value in shown)


if __name__ == "__main__":
    main()
