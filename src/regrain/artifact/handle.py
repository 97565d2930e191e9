"""What `safe_open` of regrain.numpy and of regrain.torch have in common: an open model, read lazily."""

from __future__ import annotations

import math
import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Generic, Self, TypeVar

import numpy as np

from regrain import kernels
from regrain.artifact.header import Entry
from regrain.artifact.layout import find_weights
from regrain.artifact.reader import WeightFile, open  # noqa: A004 - regrain.open
from regrain.artifact.slicing import Index, narrow
from regrain.artifact.threads import resolve_threads
from regrain.codecs.quantized import Quantized
from regrain.codecs.sparse import Sparse
from regrain.core.descriptor import WeightDescriptor
from regrain.core.dtypes import BITS, DTYPES, Bytes
from regrain.core.errors import UnsupportedModelError

T = TypeVar("T")

_LARGE = 2 * 1024 * 1024  # from here on a huge page of its own pays


class Handle(Generic[T]):
    """An open model, its files artifacts or plain; a subclass says what its arrays are."""

    def __init__(self, files: Sequence[WeightFile], threads: int | None = None) -> None:
        self._open_files: Sequence[WeightFile] | None = files
        self._threads = resolve_threads(threads)

    @abstractmethod
    def _wrap(self, data: Bytes, dtype: str, shape: tuple[int, ...]) -> T:
        """An array over those bytes."""

    @abstractmethod
    def _pick(self, array: T, rest: tuple[slice | int, ...]) -> T:
        """array[rest], contiguous and of its own."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open_files = None

    def keys(self) -> list[str]:
        """The names, sorted."""
        return sorted(name for file in self._files for name in file.tensors)

    def offset_keys(self) -> list[str]:
        """The names in the order of the original file's bytes."""
        return [name for file in self._files for name in file.original.entries]

    def metadata(self) -> dict[str, str] | None:
        """The metadata of the original file. Of shards, the first one that has a key says its value."""
        found = [file.original.metadata for file in reversed(self._files) if file.original.metadata is not None]
        return {key: text for metadata in found for key, text in metadata.items()} if found else None

    def descriptor(self, name: str) -> WeightDescriptor:
        """How a tensor is stored."""
        return self._find(name)[0].descriptor(name)

    def get_tensor(self, name: str) -> T:
        """One whole tensor."""
        file, entry = self._find(name)
        data = fresh(_bytes(entry))
        file.read([(name, data)], self._threads)
        return self._wrap(data, entry.dtype, entry.shape)

    def quantized(self, name: str) -> Quantized | None:
        """Indices and scale codes of a quantized tensor, decoded; None for one that is not quantized, or pruned too.

        Of a tied tensor, those of the tensor that it is tied to. Raises KeyError for a name that is none.
        """
        file, _ = self._find(name)
        return file.quantized(name, self._threads)

    def sparse(self, name: str) -> Sparse | None:
        """The mask of a pruned tensor and the weights that it keeps, decoded; None for a tensor that is not pruned.

        Of a tied tensor, those of the tensor that it is tied to. Raises KeyError for a name that is none.
        """
        file, _ = self._find(name)
        return file.sparse(name, self._threads)

    def get_tensors(self) -> dict[str, T]:
        """Every tensor."""
        return {
            name: self._wrap(data, *file.tensors[name][:2])
            for file in self._files
            for name, data in read_all(file, self._threads).items()
        }

    def get_slice(self, name: str) -> Slice[T]:
        """A view of one tensor that reads what it is indexed with, and no more."""
        return Slice(self, name, self._find(name)[1])

    @property
    def _files(self) -> Sequence[WeightFile]:
        if self._open_files is None:
            raise ValueError("file must be open: read it inside the with block")
        return self._open_files

    def _find(self, name: str) -> tuple[WeightFile, Entry]:
        for file in self._files:
            entry = file.tensors.get(name)
            if entry is not None:
                return file, entry
        raise KeyError(f"{', '.join(file.label for file in self._files)} has no tensor {name!r}")

    def _slice(self, name: str, entry: Entry, key: Index) -> T:
        run = narrow(key, entry.shape)
        kind = DTYPES[entry.dtype]
        if kind.bits < 8:
            raise UnsupportedModelError(
                f"tensor must have elements of whole bytes to be sliced, not {entry.dtype}: {name!r}"
            )
        data = fresh(math.prod(run.shape) * kind.itemsize)
        if data.size:
            self._find(name)[0].read_range(name, run.first, data, self._threads)
        array = self._wrap(data, entry.dtype, run.shape)
        return self._pick(array, run.rest) if run.rest else array


class Slice(Generic[T]):
    """One tensor of an open file. `[...]` takes whole numbers, slices with a positive step, an ellipsis, and tuples of
    them: they mean what they mean to NumPy. Only the blocks are read that hold what leading numbers and the first
    slice select; further axes are cut from that.
    """

    __slots__ = ("_entry", "_handle", "_name")

    def __init__(self, handle: Handle[T], name: str, entry: Entry) -> None:
        self._handle = handle
        self._name = name
        self._entry = entry

    def get_shape(self) -> list[int]:
        """The shape of the whole tensor."""
        return list(self._entry.shape)

    def get_dtype(self) -> str:
        """The safetensors name of the element type."""
        return self._entry.dtype

    def __getitem__(self, key: Index) -> T:
        return self._handle._slice(self._name, self._entry, key)  # noqa: SLF001 - one class in two


def read_all(file: WeightFile, threads: int) -> dict[str, Bytes]:
    """Fresh bytes of every tensor, in one huge-page mapping."""
    buffers = kernels.allocate([_bytes(entry) for entry in file.tensors.values()])
    jobs = list(zip(file.tensors, buffers, strict=True))
    file.read(jobs, threads)
    return dict(jobs)


def fresh(nbytes: int) -> Bytes:
    """A buffer, in huge pages where it is large."""
    return kernels.allocate([nbytes])[0] if nbytes >= _LARGE else np.empty(nbytes, np.uint8)


def open_all(filename: str | os.PathLike[str]) -> list[WeightFile]:
    """The files of a model, of which no two may have a tensor of the same name."""
    files: list[WeightFile] = [open(path) for path in find_weights(filename)]
    seen: dict[str, str] = {}
    for file in files if len(files) > 1 else ():
        for name in file.tensors:
            if name in seen:
                raise UnsupportedModelError(
                    f"tensor {name!r} must be in one file, not in {seen[name]!r} and {file.label!r}"
                )
            seen[name] = file.label
    return files


def check_names(files: Sequence[WeightFile], out: Mapping[str, object], where: str | os.PathLike[str]) -> None:
    """Raise ValueError unless `out` has an array for every tensor and no more."""
    names = {name for file in files for name in file.tensors}
    if names != out.keys():
        odd = min(names ^ out.keys())
        remedy = "add an array for it" if odd in names else "leave it out"
        raise ValueError(f"out must have the tensors of {str(Path(where))!r}, {odd!r} differs: {remedy}")


def _bytes(entry: Entry) -> int:
    return math.prod(entry.shape) * BITS[entry.dtype] // 8
