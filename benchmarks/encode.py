"""Compressing: in memory, and with everything that `regrain compress` does until the file is safe on the disk."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import machine
import numpy as np
from models import MODELS, model_file, need
from pagecache import settle
from peers import Arrays, Peer, peers, same_bits, views
from setup import Setup
from tables import Goal, Shown, Table
from timing import Contender, median, race, ratio

import regrain
import regrain.numpy
from regrain import kernels
from regrain.codecs import CODECS
from regrain.core.descriptor import Coder
from regrain.core.dtypes import from_numpy

NAMES = ("minilm-bf16", "minilm-fp16", "minilm-fp32")


def measure(setup: Setup) -> dict[str, Any]:
    return {name: _measure(name, setup) for name in (NAMES[:1] if setup.quick else NAMES)}


def _measure(name: str, setup: Setup) -> dict[str, Any]:
    plain = settle(need(model_file(name, setup.folder), MODELS[name].package))
    original = plain.read_bytes()
    tensors = views(original)
    best = kernels.instruction_sets()[-1]
    memory = [_save(f"regrain, {isa}" if isa != best else "regrain", tensors, isa, 1) for isa in (best, "avx2")]
    memory.append(_payloads(tensors, best))
    disk = [_verb("regrain compress", plain, setup.folder, 1)]
    if machine.cores() > 1:
        memory.append(_save("regrain, 2 threads", tensors, best, 2))
        disk.append(_verb("regrain compress, 2 threads", plain, setup.folder, 2))
    for peer in peers(MODELS[name].dtype):
        if peer.fast:
            memory.append(_compress(peer, original))
            disk.append(_write(peer, plain, setup.folder))
    if machine.cores() > 1:
        memory += [_compress(peer, original, 2) for peer in peers(MODELS[name].dtype, 2)]
    rounds = setup.rounds if setup.quick else max(3, setup.rounds // 2)
    return {
        "plain_bytes": len(original),
        "memory": race(_distinct(memory), rounds),
        "disk": race(disk, rounds),
    }


def _distinct(contenders: list[Contender]) -> list[Contender]:
    """Without the one for AVX2 where that is what is best, or missing."""
    known = {contender.name: contender for contender in contenders}
    if "avx2" not in kernels.instruction_sets() or kernels.instruction_sets()[-1] == "avx2":
        known.pop("regrain, avx2", None)
    return list(known.values())


def _save(name: str, tensors: Arrays, isa: str, threads: int) -> Contender:
    return Contender(
        name,
        partial(regrain.numpy.save, tensors, threads=threads),
        threads,
        partial(kernels.use_instruction_set, isa),
        lambda data: same_bits(regrain.numpy.load(data), tensors),
    )


def _payloads(tensors: Arrays, isa: str) -> Contender:
    """What the codec does, without header, digest of the original, search for ties and one contiguous result."""
    coded = [(CODECS[from_numpy(array.dtype).name], array) for array in tensors.values()]
    jobs = [
        (codec, array.reshape(-1).view(f"u{array.itemsize}"), array.shape)
        for codec, array in coded
        if codec.coder is Coder.RANS
    ]

    def run() -> list[Any]:
        return [codec.encode(words, shape, seed=1, threads=1) for codec, words, shape in jobs]

    def check(payloads: list[Any]) -> bool:
        for (_, words, _), payload in zip(jobs, payloads, strict=True):
            if payload is not None:  # None: not worth it
                out = np.empty_like(words)
                kernels.decode(payload, out, seed=1)
                if not np.array_equal(out, words):
                    return False
        return True

    return Contender("regrain, payloads alone", run, 1, partial(kernels.use_instruction_set, isa), check)


def _compress(peer: Peer, original: bytes, threads: int = 1) -> Contender:
    """ZipNN destroys its input, so everyone gets a new copy, made outside the clock."""
    scratch = bytearray()

    def prepare() -> None:
        scratch[:] = original

    return Contender(
        peer.name if threads == 1 else f"{peer.name}, {threads} threads",
        lambda: peer.compress(scratch),
        threads,
        prepare,
        lambda data: peer.decompress(data) == original,
    )


def _verb(name: str, plain: Path, folder: Path, threads: int) -> Contender:
    target = folder / "encoded.regrain.safetensors"

    def prepare() -> None:
        kernels.use_instruction_set(kernels.instruction_sets()[-1])
        target.unlink(missing_ok=True)

    def check(_: object) -> bool:
        regrain.verify(target, plain)
        return True

    return Contender(name, partial(regrain.compress, plain, target, threads=threads), threads, prepare, check)


def _write(peer: Peer, plain: Path, folder: Path) -> Contender:
    """Read the plain file, compress, write, fsync."""
    target = folder / "encoded.bin"

    def run() -> None:
        data = peer.compress(bytearray(plain.read_bytes()))
        with target.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    return Contender(peer.name, run, 1, partial(target.unlink, missing_ok=True))


def show(result: dict[str, Any]) -> Shown:
    shown = Shown()
    for name, found in result.items():
        title, giga = MODELS[name].title, found["plain_bytes"] / 1e9
        for place, what in (("memory", "in memory"), ("disk", "file to file, fsync included")):
            seconds = found[place]
            mine = next(iter(seconds))
            rows = [
                [
                    label,
                    f"{1e3 * median(seconds, label):.1f}",
                    f"{giga / median(seconds, label):.3f}",
                    str(ratio(seconds, label, "ZipNN")) if "ZipNN" in seconds else "",
                ]
                for label in seconds
            ]
            columns = ["contender", "ms", "GB/s", "times ZipNN, one thread (rounds)"]
            shown.tables.append(Table(f"{title}, {what}", columns, rows))
            if place == "memory" and name == "minilm-bf16" and "ZipNN" in seconds:
                times = ratio(seconds, mine, "ZipNN").of_medians
                shown.goals.append(Goal(f"{title}: encode in memory, times ZipNN", times, 3))
    return shown
