"""PyTorch tensors from a file in the page cache, beside safetensors; and from which disks the smaller file wins."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from models import MODELS, artifact_file, model_file, need
from pagecache import settle
from setup import Setup
from tables import Shown, Table
from timing import Contender, Seconds, median, race

import regrain.torch

NAMES = ("minilm-bf16", "minilm-fp32")
DISKS = (0.2, 0.5, 1.0, 2.0, 3.5, 7.0)
PAGE = 4096

Tensors = dict[str, torch.Tensor]


def measure(setup: Setup) -> dict[str, Any]:
    torch.set_num_threads(1)
    return {name: _measure(name, setup) for name in (NAMES[:1] if setup.quick else NAMES)}


def _measure(name: str, setup: Setup) -> dict[str, Any]:
    plain = settle(need(model_file(name, setup.folder), MODELS[name].package))
    artifact = settle(need(artifact_file(name, setup.folder), MODELS[name].package))
    right = partial(_same, safetensors.torch.load_file(plain))
    mine = partial(regrain.torch.load_file, threads=1)
    theirs = safetensors.torch.load_file
    contenders = [
        _contender("regrain", mine, artifact, None, right),
        _contender("regrain, every page read", mine, artifact, _touch, right),
        _contender("safetensors, mapped only", theirs, plain, None, right),
        _contender("safetensors, every page read", theirs, plain, _touch, right),
        _contender("safetensors, copied to own memory", theirs, plain, _copy, right),
        Contender("regrain, 2 threads", partial(regrain.torch.load_file, artifact, threads=2), 2, check=right),
    ]
    return {
        "plain_bytes": plain.stat().st_size,
        "bytes": artifact.stat().st_size,
        "seconds": race(contenders, setup.rounds),
    }


def _contender(
    name: str, load: Callable[[Path], Tensors], path: Path, then: Callable[[Tensors], Tensors] | None, right: Any
) -> Contender:
    return Contender(name, (lambda: load(path)) if then is None else (lambda: then(load(path))), check=right)


def _touch(tensors: Tensors) -> Tensors:
    """Read one byte of each page, as the first use of the weights does."""
    for tensor in tensors.values():  # by NumPy: PyTorch would wait for threads of its own, bound to the same processor
        tensor.reshape(-1).view(torch.uint8).numpy()[::PAGE].sum()
    return tensors


def _copy(tensors: Tensors) -> Tensors:
    return {name: tensor.clone() for name, tensor in tensors.items()}


def _same(right: Tensors, found: Tensors) -> bool:
    return right.keys() == found.keys() and all(
        right[name].dtype == tensor.dtype
        and torch.equal(right[name].reshape(-1).view(torch.uint8), tensor.reshape(-1).view(torch.uint8))
        for name, tensor in found.items()
    )


def break_even(found: dict[str, Any], mine: str, theirs: str) -> float:
    """Bytes per second of a disk from which both files load equally long: slower ones favor the smaller file.

    Reading first, then loading from the page cache: n/r + t_plain = s/r + t_regrain gives r = (n - s) / (t_regrain -
    t_plain), with n bytes of the plain file and s of the artifact.
    """
    extra = median(found["seconds"], mine) - median(found["seconds"], theirs)
    return (found["plain_bytes"] - found["bytes"]) / extra if extra > 0 else float("inf")


def _disk(found: dict[str, Any], rate: float) -> list[str]:
    seconds: Seconds = found["seconds"]
    plain = found["plain_bytes"] / rate + median(seconds, "safetensors, every page read")
    small = [
        found["bytes"] / rate + median(seconds, name) for name in ("regrain, every page read", "regrain, 2 threads")
    ]
    cells = [f"{1e3 * plain:.1f}"]
    for took in small:
        cells += [f"{1e3 * took:.1f}", f"{plain / took:.2f}"]
    return cells


def show(result: dict[str, Any]) -> Shown:
    shown = Shown()
    for name, found in result.items():
        title, seconds = MODELS[name].title, found["seconds"]
        rows = [
            [label, f"{1e3 * median(seconds, label):.2f}", f"{found['plain_bytes'] / 1e9 / median(seconds, label):.2f}"]
            for label in seconds
        ]
        shown.tables.append(Table(f"{title}: from the page cache", ["contender", "ms", "GB/s"], rows))
        rows = [[f"{rate} GB/s", *_disk(found, rate * 1e9)] for rate in DISKS]
        even = [
            break_even(found, mine, "safetensors, every page read") / 1e9
            for mine in ("regrain, every page read", "regrain, 2 threads")
        ]
        note = (
            "Calculated from the times above, reading first and loading after it; safetensors with every page read. "
            f"Break-even at {even[0]:.2f} GB/s with one thread, {even[1]:.2f} GB/s with two: from slower disks "
            "regrain's file is there first, from faster ones the plain file."
        )
        columns = ["disk", "safetensors, ms", "regrain, ms", "times", "2 threads, ms", "times"]
        shown.tables.append(Table(f"{title}: from a disk", columns, rows, note))
    return shown
