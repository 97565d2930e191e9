"""regrain, plain files and other lossless tools in one shape, so that one stopwatch measures them all."""

from __future__ import annotations

import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
import safetensors.torch
import torch

import regrain.torch
from regrain.artifact.container import Container
from regrain.core.errors import RegrainError
from regrain.models.statedict import torch_dtype

Tensors = dict[str, torch.Tensor]

_TOUCH = 4096
"""Bytes between those that are read of every loaded tensor: a page, so that a mapped file is really loaded."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One tool, with its number of threads bound in.

    encode: the plain file's bytes, which it may destroy, and its tensors -> compressed bytes. load: a file of those
    bytes -> tensors.
    """

    name: str
    threads: int
    encode: Callable[[bytearray, Tensors], bytes]
    load: Callable[[Path], Tensors]


@dataclass(frozen=True, slots=True)
class Rate:
    """Medians over the rounds, in GB/s of the original's bytes; `nbytes` is the size of the tool's file."""

    name: str
    threads: int
    nbytes: int
    encode: float
    load: float

    def to_json(self) -> dict[str, object]:
        """A JSON object with every field."""
        return {
            "name": self.name,
            "threads": self.threads,
            "bytes": self.nbytes,
            "encode_gb_per_s": self.encode,
            "load_gb_per_s": self.load,
        }


def peers(dtype: str, threads: Sequence[int]) -> tuple[list[Peer], tuple[str, ...]]:
    """Every tool that is installed, once for each number of threads it can use, and the names of those missing.

    `dtype`, "F32" or "BF16", is what most of the weights are: ZipNN wants to know.
    """
    found = [_regrain(count) for count in threads]
    missing: list[str] = []
    for name, module, make in (("ZipNN", "zipnn", _zipnn), ("zstd -3", "zstandard", _zstd)):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # between a peer and what it uses
                loaded = import_module(module)
        except ImportError:
            missing.append(module)
            continue
        found += [peer for count in threads if (peer := make(name, loaded, dtype, count)) is not None]
    found.append(Peer("plain safetensors", 1, _save_plain, safetensors.torch.load_file))
    return found, tuple(missing)


def race(
    tools: Sequence[Peer], plain: bytes, folder: Path, rounds: int, said: Callable[[str], None] = lambda _: None
) -> list[Rate]:
    """Time every tool on the plain safetensors file `plain`, in turn in every round, after one round that only checks.

    Encoding goes from memory to memory; loading from a file in the page cache to tensors, one byte of each page read.
    Tools with one thread run bound to one processor, helper threads included. Raises RegrainError unless every tool
    gives back every bit.
    """
    tensors = safetensors.torch.load(plain)
    encode: dict[Peer, list[float]] = {tool: [] for tool in tools}
    load: dict[Peer, list[float]] = {tool: [] for tool in tools}
    files = {tool: folder / f"peer-{index}.bin" for index, tool in enumerate(tools)}
    said("checking that every tool gives back every bit")
    for tool, path in files.items():
        with path.open("wb") as file:
            file.write(tool.encode(bytearray(plain), tensors))
            os.fsync(file.fileno())  # or the system would still be writing while others are timed
        if not same_bits(tool.load(path), tensors):
            raise RegrainError(
                f"{tool.name} with {tool.threads} threads must give back every bit, but does not: report it"
            )
    for turn in range(1, rounds + 1):
        said(f"measuring, round {turn} of {rounds}")
        for tool, path in files.items():
            scratch = bytearray(plain)
            with _processors(tool.threads):
                start = time.perf_counter()
                tool.encode(scratch, tensors)
                encode[tool].append(time.perf_counter() - start)
                # not counted: memory that nobody has touched yet on this processor costs whoever comes first, much of
                # it where the machine is a virtual one
                _touch(tool.load(path))
                start = time.perf_counter()
                _touch(tool.load(path))
                load[tool].append(time.perf_counter() - start)
    sizes = {tool: path.stat().st_size for tool, path in files.items()}
    for path in files.values():
        path.unlink()
    giga = len(plain) / 1e9
    return [
        Rate(
            tool.name,
            tool.threads,
            sizes[tool],
            giga / statistics.median(encode[tool]),
            giga / statistics.median(load[tool]),
        )
        for tool in tools
    ]


def same_bits(a: Tensors, b: Tensors) -> bool:
    """Whether both have the same names, and under each the same dtype, shape and bits."""
    return a.keys() == b.keys() and all(
        a[name].dtype == b[name].dtype
        and a[name].shape == b[name].shape
        and torch.equal(_bytes(a[name]), _bytes(b[name]))
        for name in a
    )


def _views(plain: bytes | bytearray) -> Tensors:
    """The tensors of a plain safetensors file in memory, without a copy: the best that can follow decompression."""
    container = Container(np.frombuffer(plain, np.uint8), "memory")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the memory of `bytes` is read-only; nobody writes to it
        return {
            name: torch.from_numpy(container.bytes_of(name)).view(torch_dtype(entry.dtype)).view(entry.shape)
            for name, entry in container.header.entries.items()
        }


def _touch(tensors: Tensors) -> None:
    for tensor in tensors.values():  # by NumPy: PyTorch would wait for threads of its own, bound to the same processor
        _bytes(tensor).numpy()[::_TOUCH].sum()


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.reshape(-1).view(torch.uint8)


@contextmanager
def _processors(threads: int) -> Iterator[None]:
    """Bind this thread, and what it starts, to one processor if `threads` is 1, where the system can."""
    if threads > 1 or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _regrain(threads: int) -> Peer:
    return Peer(
        "regrain",
        threads,
        lambda _, tensors: regrain.torch.save(tensors, threads=threads),
        lambda path: regrain.torch.load_file(path, threads=threads),
    )


def _save_plain(_: bytearray, tensors: Tensors) -> bytes:
    data: bytes = safetensors.torch.save(tensors)
    return data


def _zipnn(name: str, module: object, dtype: str, threads: int) -> Peer:
    kind = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}[dtype]
    tool = module.ZipNN(input_format="byte", bytearray_dtype=kind, threads=threads)  # type: ignore[attr-defined]
    return Peer(
        name,
        threads,
        lambda plain, _: tool.compress(plain),
        lambda path: _views(tool.decompress(path.read_bytes())),
    )


def _zstd(name: str, module: object, _: str, threads: int) -> Peer | None:
    """One thread only: zstd has no threads to decompress with."""
    if threads != 1:
        return None
    compressor, decompressor = module.ZstdCompressor(level=3), module.ZstdDecompressor()  # type: ignore[attr-defined]
    return Peer(
        name,
        threads,
        lambda plain, _: compressor.compress(plain),
        lambda path: _views(decompressor.decompress(path.read_bytes())),
    )
