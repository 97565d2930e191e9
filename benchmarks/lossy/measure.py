"""Measure lossy peers: python benchmarks/lossy/measure.py [--tool NAME ...] [--only-fidelity] [--resume]

Seconds are those of one processor, so other work on the machine hardly counts. Rows of the file of results that are
not measured stay.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import results
import torch
from peers import PEERS, Peer
from subject import State, audit, original


def main() -> None:
    tools = sorted({peer.tool for peer in PEERS})
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tool", action="append", choices=tools, help="only this one; may be repeated (default: all)")
    parser.add_argument("--only-fidelity", action="store_true", help="D without the task's metrics: four times faster")
    parser.add_argument("--resume", action="store_true", help="leave out what the file of results has already")
    parser.add_argument("--results", type=Path, default=results.FOLDER, help="folder to write to")
    args = parser.parse_args()
    torch.set_num_threads(1)
    path = results.file(args.results)
    wanted = [peer for peer in PEERS if not args.tool or peer.tool in args.tool]
    if args.resume:
        last = "D" if args.only_fidelity else "similarity"
        done = {(row["tool"], row["version"], row["config"]) for row in results.read(path, "rows") if last in row}
        wanted = [peer for peer in wanted if (peer.tool, results.installed(peer.tool), peer.config) not in done]
    state = original()
    for peer in wanted:
        row = measure(peer, state, metrics=not args.only_fidelity)
        results.keep(path, "rows", row)
        print(f"{row['tool']:15} {row['config']:50} {row['bits_per_weight']:7.3f} b/w  D {row['D']:.6f}", flush=True)


def measure(peer: Peer, state: State, *, metrics: bool = True) -> results.Row:
    """One row: how large what the peer stores is, how good, and how long storing took on one thread."""
    start = time.process_time()
    stored = peer.store(state)
    seconds = time.process_time() - start
    weights = results.weights()
    row: results.Row = {
        "tool": peer.tool,
        "version": results.installed(peer.tool),
        "config": peer.config,
        "bytes": stored.bytes,
        "bits_per_weight": 8 * stored.bytes / weights,
        **audit(stored.state, metrics=metrics),
        "seconds": seconds - (stored.decode_seconds or 0.0),
    }
    if stored.decode_seconds is not None:
        row["decode_weights_per_s"] = weights / stored.decode_seconds
    return row | {"note": peer.note}


if __name__ == "__main__":
    main()
