"""How a run ends that does not end well: one line for the user, and an exit code."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from regrain.core.errors import BudgetError, RegrainError

ERROR = 1
UNMET = 3
"""The constraint can't be met; what came nearest is in the message."""
INTERRUPTED = 130
"""128 + SIGINT, what shells report of a command that Ctrl-C ended."""

_REMEDY = {
    errno.ENOENT: "check the path",
    errno.EACCES: "check its permissions",
    errno.ENOTDIR: "check the path",
    errno.EISDIR: "name a file",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.EIO: "check the disk",
}


class Terminated(BaseException):
    """SIGTERM or SIGHUP arrived: unwinds the stack, so that half-written files are removed."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def polite_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP clean up as Ctrl-C does, unless they are ignored (nohup)."""

    def stop(number: int, _: FrameType | None) -> NoReturn:
        raise Terminated(number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, stop)
    yield


@contextmanager
def explained() -> Iterator[None]:
    """Turn what users can do something about into one line on stderr and an exit; bugs keep their traceback."""
    try:
        yield
    except KeyboardInterrupt as stopped:
        _end(f"interrupted: {_left(stopped)}", INTERRUPTED)
    except Terminated as signaled:
        _end(f"terminated: {_left(signaled)}", 128 + signaled.number)
    except BrokenPipeError:
        # Whoever read our output has gone; Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(ERROR)
    except BudgetError as error:
        _end(f"error: {explain(error)}", ERROR if error.nearest is None else UNMET)
    except (RegrainError, OSError) as error:
        _end(f"error: {explain(error)}", ERROR)
    except MemoryError:
        _end("error: not enough memory: close other programs, or use a machine with more", ERROR)


def explain(error: Exception) -> str:
    """The name, the reason and the remedy, in one line."""
    if isinstance(error, OSError) and error.strerror:
        name = f"{os.fsdecode(error.filename)!r}: " if isinstance(error.filename, str | bytes) else ""
        remedy = _REMEDY.get(error.errno or 0) if not isinstance(error, RegrainError) else None
        text = f"{name}{error.strerror}" + (f": {remedy}" if remedy else "")
    else:
        text = str(error) or type(error).__name__
    notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
    return " ".join(f"{text}{notes}".split())


@contextmanager
def resumable() -> Iterator[None]:
    """Say of a job that is interrupted inside that its measurements are still there."""
    try:
        yield
    except (KeyboardInterrupt, Terminated) as stopped:
        stopped.add_note("what was measured is kept, and --resume goes on from it")
        raise


def _left(stopped: BaseException) -> str:
    """What an interrupted run left behind."""
    return "; ".join(getattr(stopped, "__notes__", ["nothing was left behind"]))


def _end(line: str, code: int) -> NoReturn:
    sys.stderr.write(line + "\n")
    sys.exit(code)
