"""One safetensors file, open or in memory: its header, and the bytes of its tensors."""

from __future__ import annotations

import errno
import mmap
import os
import stat
from functools import cached_property

import numpy as np

from regrain.artifact.header import MAX_HEADER, Entry, parse_header
from regrain.artifact.seal import check_seal
from regrain.core.dtypes import Bytes
from regrain.core.errors import CorruptArtifactError


def name_file(error: Exception, label: str) -> None:
    """Note on an error which file it is about."""
    note = f"in {label}"
    if note not in getattr(error, "__notes__", ()):
        error.add_note(note)


class Container:
    """A safetensors file. Nothing but the header of an open file is read before it is asked for.

    `file` is the descriptor of an open file, closed when this object dies; None for bytes in memory. `size` is that of
    the file in bytes.
    """

    def __init__(self, source: Bytes | int, label: str) -> None:
        self.file: int | None = None
        self.label = label
        if isinstance(source, int):
            self.file = source
            self.size = os.fstat(source).st_size
        else:
            self.data = source
            self.size = source.size
        try:
            text = self._header_text()
            check_seal(text)
            self.header = parse_header(text, self.size - 8 - len(text))
        except CorruptArtifactError as error:
            name_file(error, label)
            raise

    def __del__(self) -> None:
        if self.file is not None:
            os.close(self.file)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Container:
        """Open a file. Raises OSError if that fails, CorruptArtifactError if its header is not sound."""
        label = os.fspath(path)
        file = os.open(label, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        if stat.S_ISDIR(os.fstat(file).st_mode):
            os.close(file)
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), label)
        return cls(file, label)

    @cached_property
    def data(self) -> Bytes:
        """Every byte of the file. An open one is mapped: touching what somebody has cut off meanwhile is a SIGBUS."""
        return np.frombuffer(self._mapping, np.uint8)

    def bytes_of(self, name: str) -> Bytes:
        """A view of one tensor's bytes in `data`."""
        start, stop = self.place(self.header.entries[name])
        return self.data[start:stop]

    def place(self, entry: Entry) -> tuple[int, int]:
        """Where an entry's bytes start and stop in the file."""
        start = self.header.data_start
        return start + entry.start, start + entry.stop

    def read_into(self, start: int, out: Bytes) -> None:
        """Fill `out` with the file's bytes from `start` on. Raises CorruptArtifactError if there are too few."""
        if self.file is None:
            out[:] = self.data[start : start + out.size]
            return
        left = out.data
        while left:
            count = os.preadv(self.file, [left], start)
            if count == 0:
                raise CorruptArtifactError(f"file must have {self.size} bytes as when it was opened: it was cut off")
            left, start = left[count:], start + count

    def read(self, start: int, size: int) -> bytes:
        """Some bytes of the file, as `read_into`."""
        out = np.empty(size, np.uint8)
        self.read_into(start, out)
        return out.tobytes()

    def sequential(self) -> None:
        """Tell the kernel that the mapping will be read from front to back."""
        if self.file is not None and self.size and hasattr(mmap, "MADV_SEQUENTIAL"):
            self._mapping.madvise(mmap.MADV_SEQUENTIAL)

    def release(self, name: str) -> None:
        """Give back the mapping's resident pages that lie wholly within one tensor; reading it maps them again."""
        if self.file is None or not hasattr(mmap, "MADV_DONTNEED"):
            return
        start, stop = self.place(self.header.entries[name])
        first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
        if stop - first >= mmap.PAGESIZE:
            self._mapping.madvise(mmap.MADV_DONTNEED, first, (stop - first) // mmap.PAGESIZE * mmap.PAGESIZE)

    @cached_property
    def _mapping(self) -> mmap.mmap:
        assert self.file is not None
        return mmap.mmap(self.file, 0, access=mmap.ACCESS_READ)

    def _header_text(self) -> bytes:
        if self.size < 8:
            raise CorruptArtifactError(f"safetensors file must have at least 8 bytes, not {self.size}")
        length = int.from_bytes(self.read(0, 8), "little")
        if length > MAX_HEADER:
            raise CorruptArtifactError(
                f"header must have at most {MAX_HEADER} bytes, not {length}: is it a safetensors file?"
            )
        if length > self.size - 8:
            raise CorruptArtifactError(
                f"header must fit in the file's {self.size} bytes, not have {length}: is the file cut off?"
            )
        return self.read(8, length)
