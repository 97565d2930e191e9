"""safetensors.numpy's functions, for artifacts and plain files alike: change one import.

bfloat16 and the float8 types come as those of ml_dtypes. What `save_file` writes is an artifact: smaller, and
read back bit for bit by `load_file`. Of a lossy artifact come dense weights in the original's type. Any checksum that
fails raises regrain.CorruptArtifactError.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regrain import __version__
from regrain.artifact.container import Container
from regrain.artifact.handle import Handle, Slice, check_names, open_all, read_all
from regrain.artifact.output import OutputBytes, output_file
from regrain.artifact.reader import open_container
from regrain.artifact.source import Lazy, Source, array_bytes, from_tensors
from regrain.artifact.threads import resolve_threads
from regrain.artifact.writer import write_artifact
from regrain.core.dtypes import Bytes, from_numpy, numpy_dtype

__all__ = ["Slice", "load", "load_file", "open", "safe_open", "save", "save_file"]

Array = NDArray[Any]


def load_file(
    filename: str | os.PathLike[str], *, threads: int | None = None, out: Mapping[str, Array] | None = None
) -> dict[str, Array]:
    """Every tensor of a file; of an index JSON or a directory, those of all its shards.

    `out` maps each name to an array of the same dtype and shape, writeable and in C order, that is filled instead of
    a fresh one; after an error its content is undefined. `threads` None means every processor.
    """
    files = open_all(filename)
    count = resolve_threads(threads)
    if out is None:
        return {name: array for file in files for name, array in _fresh(file, count).items()}
    check_names(files, out, filename)
    for file in files:
        file.read([(name, _target(name, out[name], *entry[:2])) for name, entry in file.tensors.items()], count)
    return dict(out)


def load(data: bytes, *, threads: int | None = None) -> dict[str, Array]:
    """Every tensor of a file's bytes."""
    return _fresh(open_container(Container(np.frombuffer(data, np.uint8), "bytes")), resolve_threads(threads))


def save_file(
    tensor_dict: Mapping[str, Array],
    filename: str | os.PathLike[str],
    metadata: Mapping[str, str] | None = None,
    *,
    threads: int | None = None,
) -> None:
    """Write tensors as an artifact. A file that is there is replaced, at the end and at once."""
    source = _source(tensor_dict, metadata)
    with output_file(Path(filename), force=True) as sink:
        write_artifact(source, sink, version=__version__, threads=resolve_threads(threads))


def save(
    tensor_dict: Mapping[str, Array], metadata: Mapping[str, str] | None = None, *, threads: int | None = None
) -> bytes:
    """The bytes of the artifact that `save_file` writes."""
    sink = OutputBytes()
    write_artifact(_source(tensor_dict, metadata), sink, version=__version__, threads=resolve_threads(threads))
    return sink.getvalue()


class safe_open(Handle[Array]):  # noqa: N801 - safetensors' name
    """A model, opened lazily: `with safe_open("x.regrain.safetensors") as f: f.get_slice("w")[10:20]`."""

    def __init__(
        self,
        filename: str | os.PathLike[str],
        framework: str = "np",
        device: str = "cpu",
        *,
        threads: int | None = None,
    ) -> None:
        if framework not in ("np", "numpy"):
            raise ValueError(
                f"framework must be 'np', not {framework!r}: regrain.torch.safe_open gives PyTorch's tensors"
            )
        if device != "cpu":
            raise ValueError(f"device must be 'cpu' for NumPy, not {device!r}")
        super().__init__(open_all(filename), threads)

    def _wrap(self, data: Bytes, dtype: str, shape: tuple[int, ...]) -> Array:
        return np.ndarray(shape, numpy_dtype(dtype), data)

    def _pick(self, array: Array, rest: tuple[slice | int, ...]) -> Array:
        part: Array = array[(*rest, ...)]
        return part if part.flags.c_contiguous and part.size == array.size else part.copy()


def open(filename: str | os.PathLike[str], *, threads: int | None = None) -> safe_open:  # noqa: A001 - regrain.open
    """Open a model to look around: an artifact or a plain file; an index JSON or a directory with all its shards.

    Nothing but headers is read. `keys()` are the names, `get_tensor(name)` is an array, `get_slice(name)[rows]` a part
    of one, `descriptor(name)` says how it is stored, `metadata()` is that of the original file. Use it in a `with`
    block, or let go of it.

    Raises OSError if a file cannot be opened, CorruptArtifactError if its header contradicts itself,
    UnsupportedArtifactError if a newer regrain wrote it.
    """
    return safe_open(filename, threads=threads)


def _fresh(file: Any, threads: int) -> dict[str, Array]:
    entries = file.tensors
    dtypes = {name: numpy_dtype(entry.dtype) for name, entry in entries.items()}  # before anything is decoded
    return {name: np.ndarray(entries[name].shape, dtypes[name], data) for name, data in read_all(file, threads).items()}


def _target(name: str, array: Array, dtype: str, shape: tuple[int, ...]) -> Bytes:
    wanted = numpy_dtype(dtype)
    if array.dtype != wanted or array.shape != shape:
        raise ValueError(f"out[{name!r}] must be {wanted} of shape {shape}, not {array.dtype} of {array.shape}")
    if not array.flags.c_contiguous or not array.flags.writeable:
        raise ValueError(f"out[{name!r}] must be writeable and in C order")
    return array.reshape(-1).view(np.uint8)


def _source(tensors: Mapping[str, Array], metadata: Mapping[str, str] | None) -> Source:
    lazy = {name: _lazy(np.asarray(array)) for name, array in tensors.items()}
    return from_tensors(lazy, metadata, "tensors")


def _lazy(array: Array) -> Lazy:
    return Lazy(from_numpy(array.dtype).name, array.shape, lambda: array_bytes(array))
