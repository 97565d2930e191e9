"""Loading a model from the page cache, all checks on, beside other tools."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import machine
import numpy as np
from models import MODELS, artifact_file, model_file, need
from pagecache import settle
from peers import Arrays, Peer, mapped, peers, same_bits, views
from setup import Setup
from tables import Goal, Shown, Table
from timing import Contender, median, race, ratio

import regrain.numpy
from regrain import kernels

NAMES = ("minilm-bf16", "minilm-fp16", "minilm-fp32")
GOALS = {"minilm-bf16": (4.0, 6.0, 1.7)}


def measure(setup: Setup) -> dict[str, Any]:
    return {name: _measure(name, setup) for name in (NAMES[:1] if setup.quick else NAMES)}


def _measure(name: str, setup: Setup) -> dict[str, Any]:
    plain = settle(need(model_file(name, setup.folder), MODELS[name].package))
    artifact = settle(need(artifact_file(name, setup.folder), MODELS[name].package))
    original = bytearray(plain.read_bytes())
    right = partial(same_bits, views(original))
    sizes = {"regrain": artifact.stat().st_size}
    contenders = list(_regrain(artifact, plain, right))
    for peer in peers(MODELS[name].dtype):
        if not peer.fast:
            continue
        path = _compressed(peer, original, setup.folder / f"{name}.{len(sizes)}.bin")
        sizes[peer.name] = path.stat().st_size
        contenders += _peer(peer, path, len(original), right)
    if machine.cores() > 1:
        best = kernels.instruction_sets()[-1]
        contenders.append(_load("regrain, 2 threads", artifact, 2, best, None, right))
        contenders.append(_load("regrain, out=, 2 threads", artifact, 2, best, _target(original), right))
        for peer in peers(MODELS[name].dtype, 2):
            path = _compressed(peer, original, setup.folder / f"{name}.two.{len(contenders)}.bin")
            contenders += list(_peer(peer, path, len(original), right, 2))[:1]
    source = mapped(plain)
    contenders.append(Contender("memory copy of the plain file", lambda: np.array(np.frombuffer(source, np.uint8))))
    return {
        "plain_bytes": len(original),
        "sizes": sizes,
        "seconds": race(contenders, setup.rounds),
        "huge_share": _huge_share(name, setup.folder, len(original)),
    }


def _regrain(artifact: Path, plain: Path, right: Any) -> Iterator[Contender]:
    for isa in kernels.instruction_sets()[::-1]:
        label = "regrain" if isa == kernels.instruction_sets()[-1] else f"regrain, {isa}"
        yield _load(label, artifact, 1, isa, None, right)
        if isa != "portable":
            yield _load(
                label.replace("regrain", "regrain, out="),
                artifact,
                1,
                isa,
                _target(bytearray(plain.read_bytes())),
                right,
            )


def _load(name: str, path: Path, threads: int, isa: str, out: Arrays | None, right: Any) -> Contender:
    return Contender(
        name,
        lambda: regrain.numpy.load_file(path, threads=threads, out=out),
        threads,
        partial(kernels.use_instruction_set, isa),
        right,
    )


def _target(plain: bytearray) -> Arrays:
    """Arrays in memory that is there, for `out=`."""
    return {name: np.zeros_like(array) for name, array in views(plain).items()}


def _compressed(peer: Peer, plain: bytearray, path: Path) -> Path:
    path.write_bytes(peer.compress(bytearray(plain)))
    return settle(path)


def _peer(peer: Peer, path: Path, nbytes: int, right: Any, threads: int = 1) -> Iterator[Contender]:
    label = peer.name if threads == 1 else f"{peer.name}, {threads} threads"
    yield Contender(label, lambda: views(peer.decompress(mapped(path))), threads, check=right)
    if peer.into is not None:
        target = np.zeros(nbytes, np.uint8)
        into = peer.into

        def run() -> Arrays:
            into(mapped(path), target)
            return views(target)

        yield Contender(f"{peer.name}, into memory that is there", run, threads, check=right)


def _huge_share(name: str, folder: Path, nbytes: int) -> float | None:
    """Which share of a fresh result of ZipNN was in huge pages: the same treatment for all, or not."""
    peer = next((peer for peer in peers(MODELS[name].dtype) if peer.name == "ZipNN"), None)
    if peer is None:
        return None
    data = peer.compress(bytearray(need(model_file(name, folder), name).read_bytes()))
    before = machine.huge_bytes()
    result = peer.decompress(data)
    share = (machine.huge_bytes() - before) / nbytes
    del result
    return max(0.0, min(1.0, share))


def show(result: dict[str, Any]) -> Shown:
    shown = Shown()
    for name, found in result.items():
        seconds, sizes = found["seconds"], found["sizes"]
        giga = found["plain_bytes"] / 1e9
        peer = "ZipNN" if "ZipNN" in seconds else None
        rows = [
            [
                label,
                f"{sizes[tool] / 1e6:.2f}" if (tool := label.split(",")[0]) in sizes else "",
                f"{1e3 * median(seconds, label):.2f}",
                f"{giga / median(seconds, label):.2f}",
                str(ratio(seconds, label, peer)) if peer else "",
            ]
            for label in seconds
        ]
        columns = ["contender", "MB", "ms", "GB/s", "times ZipNN, one thread (rounds)"]
        share = found["huge_share"]
        note = "" if share is None else f"{share:.0%} of a fresh result of ZipNN was in huge pages."
        shown.tables.append(Table(MODELS[name].title, columns, rows, note))
        if name in GOALS and peer:
            fresh, into, threads = GOALS[name]
            title = MODELS[name].title
            shown.goals.extend(
                [
                    Goal(f"{title}: load, fresh, times ZipNN", ratio(seconds, "regrain", peer).of_medians, fresh),
                    Goal(f"{title}: load, `out=`, times ZipNN", ratio(seconds, "regrain, out=", peer).of_medians, into),
                    Goal(
                        f"{title}: file, share of ZipNN's", sizes["regrain"] / sizes[peer], 1, least=False, form=".4f"
                    ),
                ]
            )
            if "regrain, 2 threads" in seconds:
                twice = ratio(seconds, "regrain, 2 threads", "regrain").of_medians
                shown.goals.append(Goal(f"{title}: load, 2 threads, times one", twice, threads))
    return shown
