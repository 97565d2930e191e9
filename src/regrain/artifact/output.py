"""Files that are either whole or not there: written without a name, or under a temporary one, and then renamed.

Only a process that is killed outright (SIGKILL, power) can leave something: a directory that it was writing, or, on
file systems without nameless files, a file. It is called .regrain-*.tmp; nothing opens it, and anyone may delete it.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from regrain.core.errors import OutputError, OutputExistsError, RegrainError

_LINK = "/proc/self/fd/{}"

Data = bytes | bytearray | memoryview

_REMEDY = {
    errno.ENOSPC: "free some space or choose another disk",
    errno.EDQUOT: "free some of the quota or choose another disk",
    errno.EFBIG: "choose a file system (or a limit, see ulimit -f) that takes files of this size",
    errno.EACCES: "choose a directory that you may write to",
    errno.EPERM: "choose a directory that you may write to",
    errno.EROFS: "choose a directory on a disk that is not read-only",
    errno.ENOENT: "create the directory first",
    errno.ENOTDIR: "choose a path whose parent is a directory",
    errno.EISDIR: "choose a path that is no directory",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EIO: "check the disk",
}


class OutputFile:
    """A file being written. `offset` bytes are there so far."""

    def __init__(self, fd: int, path: Path) -> None:
        self._fd = fd
        self._path = path
        self.offset = 0

    def write(self, data: Data) -> None:
        """Append bytes."""
        with translate(self._path):
            _write_all(self._fd, data)
        self.offset += len(data)

    def rewrite(self, data: Data) -> None:
        """Replace the first bytes of the file."""
        with translate(self._path):
            os.lseek(self._fd, 0, os.SEEK_SET)
            _write_all(self._fd, data)
            os.lseek(self._fd, 0, os.SEEK_END)


class OutputBytes:
    """As OutputFile, in memory. What is written must stay as it is until `getvalue` has put it together."""

    def __init__(self) -> None:
        self._parts: list[Data] = []
        self.offset = 0

    def write(self, data: Data) -> None:
        """Append bytes."""
        self._parts.append(data)
        self.offset += len(data)

    def rewrite(self, data: Data) -> None:
        """Replace the first bytes, as many as were written first."""
        if len(data) != len(self._parts[0]):
            raise AssertionError(f"data must have the {len(self._parts[0])} bytes of the first write, not {len(data)}")
        self._parts[0] = data

    def getvalue(self) -> bytes:
        """All bytes."""
        return b"".join(self._parts)


Sink = OutputFile | OutputBytes


@contextmanager
def output_file(path: Path, *, force: bool) -> Iterator[OutputFile]:
    """A new file that becomes `path` when the block ends, and vanishes if it raises.

    Raises OutputExistsError if `path` is there and `force` is not set, OutputError if writing fails.
    """
    check_output(path, force=force)
    with translate(path):
        fd, temporary = _open_beside(path)
    try:
        try:
            yield OutputFile(fd, path)
            with translate(path):
                os.fsync(fd)
                temporary = temporary or _name(fd, path)
        finally:
            os.close(fd)
        check_output(path, force=force)
        with translate(path):
            os.replace(temporary, path)
    except BaseException:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


@contextmanager
def output_directory(path: Path, *, force: bool) -> Iterator[Path]:
    """A new directory that becomes `path` when the block ends, and vanishes if it raises.

    With `force` a directory of weights that is there makes way at the end. Raises as `output_file`.
    """
    check_output_directory(path, force=force)
    temporary, old = _beside(path), _beside(path)
    with translate(path):
        temporary.mkdir()
    try:
        yield temporary
        check_output_directory(path, force=force)
        with translate(path):
            _swap(temporary, path, old)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)
    _sync_directory(path.parent)


def check_output_directory(path: Path, *, force: bool) -> None:
    """As `check_output`; even `force` does not replace a directory that holds something else than weights."""
    check_output(path, force=force)
    if not os.path.lexists(path):
        return
    if path.is_symlink() or not path.is_dir():
        raise OutputExistsError(f"output must be a directory or not there, but {str(path)!r} is a file: remove it")
    if any(path.iterdir()) and next(path.rglob("*.safetensors"), None) is None:
        raise OutputExistsError(f"output must not replace a directory without weights, {str(path)!r}: remove it")


def _swap(temporary: Path, path: Path, old: Path) -> None:
    """Put `temporary` at `path`; what was there goes to `old`, or back if that fails."""
    if path.exists():
        os.replace(path, old)
    try:
        os.replace(temporary, path)
    except BaseException:
        if old.exists():
            os.replace(old, path)
        raise


def check_output(path: Path, *, force: bool) -> None:
    """Raise OutputExistsError if `path` is there and may not be replaced."""
    if not force and os.path.lexists(path):
        raise OutputExistsError(
            f"output must not exist yet, but {str(path)!r} does: overwrite it with --force (force=True)"
        )


@contextmanager
def translate(path: Path) -> Iterator[None]:
    """Turn the system's errors of writing into OutputError with what to do about it."""
    try:
        yield
    except RegrainError:
        raise
    except OSError as error:
        remedy = _REMEDY.get(error.errno or 0, "choose another place")
        raise OutputError(error.errno, f"cannot write, {remedy}: {error.strerror}", str(path)) from error


def _write_all(fd: int, data: Data) -> None:
    view = memoryview(data)
    if view.nbytes == 0:
        return
    view = view.cast("B")
    while view.nbytes:
        view = view[os.write(fd, view) :]


def _open_beside(path: Path) -> tuple[int, Path | None]:
    """A new file in the same directory: without a name where the system has such, so that a kill leaves nothing."""
    flags = os.O_RDWR | getattr(os, "O_CLOEXEC", 0)
    if hasattr(os, "O_TMPFILE"):
        try:
            fd = os.open(path.parent, flags | os.O_TMPFILE, 0o666)
        except OSError:  # not on this file system; or not at all, which the other way shows
            pass
        else:
            if os.path.exists(_LINK.format(fd)):
                return fd, None
            os.close(fd)
    temporary = _beside(path)
    return os.open(temporary, flags | os.O_CREAT | os.O_EXCL, 0o666), temporary


def _name(fd: int, path: Path) -> Path:
    """Give a file without a name one beside its final place: open(2) of Linux tells how."""
    temporary = _beside(path)
    os.link(_LINK.format(fd), temporary, src_dir_fd=fd, follow_symlinks=True)  # without a dir_fd Python follows no link
    return temporary


def _beside(path: Path) -> Path:
    return path.parent / f".regrain-{secrets.token_hex(8)}.tmp"


def _sync_directory(directory: Path) -> None:
    """Make the rename itself durable, where directories can be synced."""
    try:
        fd = os.open(directory, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(fd)
    except OSError:
        pass
    finally:
        os.close(fd)
