"""Other lossless tools in one shape: bytes in, bytes out, each with the settings and the reading that suit it best.

They compress the whole plain safetensors file; loading ends with views of its tensors, without a copy.
"""

from __future__ import annotations

import json
import mmap
import struct
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]

_ZIPNN = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
_NUMPY = {"BF16": np.dtype(ml_dtypes.bfloat16), "F16": np.dtype("f2"), "F32": np.dtype("f4"), "I64": np.dtype("i8")}


@dataclass(frozen=True, slots=True)
class Peer:
    """A tool with its number of threads bound in.

    compress: may destroy its input. decompress: gives fresh memory. into: fills memory of the right size, where the
    tool can. fast: whether it takes part where speed is measured.
    """

    name: str
    compress: Callable[[bytearray], bytes]
    decompress: Callable[[Any], Any]
    into: Callable[[Any, Any], object] | None = None
    fast: bool = True


def peers(dtype: str, threads: int = 1) -> list[Peer]:
    """The tools that are installed and can use that many threads. `dtype` is that of most of the weights."""
    found = [_zipnn(dtype, threads), *_blosc2(2 if dtype in ("BF16", "F16") else 4, threads)]
    if threads == 1:
        found += _zstd()
    return [peer for peer in found if peer is not None]


def missing() -> list[str]:
    """The tools that are not installed."""
    return [name for name in ("zipnn", "blosc2", "zstandard") if _module(name) is None]


def mapped(path: Path) -> memoryview:
    """A file of the page cache as memory, without a copy: no tool here loads faster from bytes that it was handed."""
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))


def views(plain: Any) -> Arrays:
    """The tensors of a plain safetensors file in memory, without a copy and without a check."""
    (length,) = struct.unpack_from("<Q", plain)
    header = json.loads(bytes(memoryview(plain)[8 : 8 + length]))
    header.pop("__metadata__", None)
    data = np.frombuffer(plain, np.uint8, offset=8 + length)
    return {name: _view(data, **entry) for name, entry in header.items()}


def same_bits(a: Arrays, b: Arrays) -> bool:
    """Whether both have the same names, and under each the same dtype, shape and bits."""
    return a.keys() == b.keys() and all(
        a[name].dtype == b[name].dtype
        and a[name].shape == b[name].shape
        and np.array_equal(a[name].reshape(-1).view(np.uint8), b[name].reshape(-1).view(np.uint8))
        for name in a
    )


def _view(data: NDArray[np.uint8], dtype: str, shape: Sequence[int], data_offsets: Sequence[int]) -> NDArray[Any]:
    return data[slice(*data_offsets)].view(_NUMPY[dtype]).reshape(shape)


def _module(name: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return import_module(name)
    except ImportError:
        return None


def _zipnn(dtype: str, threads: int) -> Peer | None:
    """Its own defaults. It can't decompress into memory that it is given."""
    module = _module("zipnn")
    if module is None:
        return None
    tool = module.ZipNN(input_format="byte", bytearray_dtype=_ZIPNN[dtype], threads=threads)
    return Peer("ZipNN", tool.compress, tool.decompress)


def _zstd() -> list[Peer]:
    module = _module("zstandard")
    if module is None:
        return []
    decompress = module.ZstdDecompressor().decompress

    def into(source: Any, target: Any) -> None:
        module.ZstdDecompressor().stream_reader(source).readinto(target)

    fast, small = module.ZstdCompressor(level=3), module.ZstdCompressor(level=19)
    return [
        Peer("zstd -3", fast.compress, decompress, into),
        Peer("zstd -19", small.compress, decompress, into, fast=False),
    ]


def _blosc2(size: int, threads: int) -> list[Peer]:
    module = _module("blosc2")
    if module is None:
        return []

    def tool(name: str, codec: Any, level: int) -> Peer:
        settings = {"typesize": size, "nthreads": threads, "codec": codec, "clevel": level}
        return Peer(
            name,
            lambda plain: module.compress2(plain, filters=[module.Filter.SHUFFLE], **settings),
            lambda source: module.decompress2(source, nthreads=threads),
            lambda source, target: module.decompress2(source, dst=target, nthreads=threads),
        )

    return [
        tool("blosc2 shuffle + zstd 1", module.Codec.ZSTD, 1),
        tool("blosc2 shuffle + blosclz 5", module.Codec.BLOSCLZ, 5),
    ]
