"""Measure ways to prune: python benchmarks/pruning/measure.py [--tool NAME ...] [--recipes FOLDER] [--resume]

Seconds are those of one processor, so other work on the machine hardly counts. Rows of the file of results that are
not measured stay.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import results
import torch
from ours import regrain_points
from peers import PEERS, Peer
from subject import SUBJECTS, audit, reestimate
from work import work


def main() -> None:
    tools = sorted({peer.tool for peer in PEERS})
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tool", action="append", choices=tools, help="only this one; may be repeated (default: all)")
    parser.add_argument(
        "--recipes", type=Path, help="measure regrain instead: FOLDER/fashion_mnist/*.json, FOLDER/minilm/*.json"
    )
    parser.add_argument("--resume", action="store_true", help="leave out what the file of results has already")
    parser.add_argument("--results", type=Path, default=results.FOLDER, help="folder to write to")
    args = parser.parse_args()
    torch.set_num_threads(1)
    path = results.file(args.results)
    done = {results.key(row) for row in results.read(path)} if args.resume else set()
    for rows in _recipes(args.recipes) if args.recipes else _peers(args.tool, done):
        results.keep(path, rows)
        for row in rows:
            print({name: value for name, value in row.items() if name != "version"}, flush=True)


def _recipes(folder: Path) -> Iterator[list[results.Row]]:
    with tempfile.TemporaryDirectory() as work_folder:
        for subject in SUBJECTS:
            files = sorted((folder / subject.task.parent.name).glob("*.json"))
            for row in regrain_points(subject, files, Path(work_folder)):
                yield [row]


def _peers(tools: list[str] | None, done: set[tuple[str, ...]]) -> Iterator[list[results.Row]]:
    for peer in PEERS:
        key = (peer.subject.name, peer.tool, peer.config, "", peer.amount)
        if (not tools or peer.tool in tools) and key not in done:
            yield measure(peer)


def measure(peer: Peer) -> list[results.Row]:
    """A row of the network as the tool leaves it, and another one with batch normalization, if any, estimated anew."""
    start = time.process_time()
    model = peer.run()
    seconds = time.process_time() - start
    common = {
        "subject": peer.subject.name,
        "tool": peer.tool,
        "version": results.installed(peer.tool),
        "config": peer.config,
        "amount": peer.amount,
        **asdict(work(peer.subject, model)),
        "seconds": seconds,
    }
    rows = [common | {"variant": "", **audit(peer.subject, model)}]
    if reestimate(peer.subject, model):
        rows.append(common | {"variant": "BN anew", **audit(peer.subject, model)})
    return rows


if __name__ == "__main__":
    main()
