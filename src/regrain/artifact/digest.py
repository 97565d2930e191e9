"""SHA-256 of the original file, computed beside the encoding."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from threading import Event, Thread
from types import TracebackType


class Digest:
    """Hashes pieces in a thread of its own (hashlib releases the GIL), from `with` on; leaving the block ends it."""

    def __init__(self, chunks: Iterable[memoryview]) -> None:
        self._chunks = chunks
        self._hash = hashlib.sha256()
        self._stop = Event()
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, name="regrain-sha256", daemon=True)

    def __enter__(self) -> Digest:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def hexdigest(self) -> str:
        """Wait for the end and give the digest; raises what reading the pieces raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._hash.hexdigest()

    def _run(self) -> None:
        try:
            for chunk in self._chunks:
                if self._stop.is_set():
                    return
                self._hash.update(chunk)
        except BaseException as error:
            self._error = error
