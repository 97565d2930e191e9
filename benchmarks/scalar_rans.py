"""scalar_rans.cpp, compiled for this machine when it is needed."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Symbols = NDArray[np.uint8]


def scalar_decoder(symbols: Symbols, folder: Path) -> Callable[[], Symbols] | None:
    """A function that decodes `symbols`, 0 to 15 and a multiple of 8 of them; None without a compiler."""
    library = _compile(folder)
    if library is None:
        return None
    freq = _frequencies(symbols)
    buffer = np.zeros(symbols.size + 64, np.uint16)
    end = buffer.ctypes.data + buffer.nbytes - 2  # the decoder looks one word ahead
    stream = library.scalar_encode(symbols.ctypes.data, symbols.size, freq.ctypes.data, end)
    out = np.empty_like(symbols)

    def run(_: object = buffer) -> Symbols:  # the stream lives in the buffer
        library.scalar_decode(stream, symbols.size, freq.ctypes.data, out.ctypes.data)
        return out

    return run


def _frequencies(symbols: Symbols) -> NDArray[np.uint32]:
    """Of 12 bits, none of a symbol that occurs is zero."""
    count = np.bincount(symbols, minlength=16)
    freq = np.maximum(np.round(4096 * count / count.sum()), count > 0).astype(np.uint32)
    freq[freq.argmax()] += np.uint32(4096) - freq.sum(dtype=np.uint32)  # wraps where it is negative
    return freq


def _compile(folder: Path) -> ctypes.CDLL | None:
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if not compiler:
        return None
    target = folder / "scalar_rans.so"
    flags = ["-O3", "-march=native", "-shared", "-fPIC", "-std=c++20"]
    subprocess.run([compiler, *flags, str(Path(__file__).with_suffix(".cpp")), "-o", str(target)], check=True)
    library = ctypes.CDLL(str(target))
    library.scalar_encode.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p]
    library.scalar_encode.restype = ctypes.c_void_p
    library.scalar_decode.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p]
    library.scalar_decode.restype = None
    return library
