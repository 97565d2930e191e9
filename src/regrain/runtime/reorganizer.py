"""One thread beside those that serve: it makes new layouts, and swaps them in."""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections import deque

from regrain.runtime.engine import Engine
from regrain.runtime.layout import Layout

DUTY = 0.02
"""The part of the time that the thread works, at most, unless somebody waits for it."""

IDLE = 2.0
"""Seconds without work after which the thread ends; the next work starts another one."""

_LIVING: weakref.WeakSet[Reorganizer] = weakref.WeakSet()


class Reorganizer:
    """The worker of one attachment. Its thread is a daemon that starts with the first work, and after a fork anew in
    the child; at exit it is waited for, so that it is not inside of native code when the interpreter ends.

    `layouts` has the layout of every engine: one that is swapped gives a new tuple, so that whoever has taken the tuple
    sees all matrices as they were at one time.

    What goes wrong in it changes nothing that serves: the matrix stays as it is from then on (`Engine.failure`).
    """

    def __init__(self) -> None:
        self.engines: tuple[Engine, ...] = ()
        self.layouts: tuple[Layout, ...] = ()
        self.stopped = False
        self._thread: threading.Thread | None = None
        self._renew()
        _LIVING.add(self)

    def serve(self, engines: tuple[Engine, ...]) -> None:
        """These are all engines: their indices are their places among them."""
        for index, engine in enumerate(engines):
            engine.index = index
        self.engines = engines
        self.layouts = tuple(engine.layout for engine in engines)

    def ask(self, engine: Engine) -> None:
        """Have the policy of a matrix decide, soon."""
        with self._wake:
            if self.stopped:
                return
            self._waiting.append(engine)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="regrain-reorganizer", daemon=True)
                self._thread.start()
            self._wake.notify()

    def swap(self, engine: Engine, layout: Layout) -> None:
        """Put a layout in force, unless serving has ended."""
        with self._wake:
            if not self.stopped:
                engine.layout = layout
                self.layouts = (*self.layouts[: engine.index], layout, *self.layouts[engine.index + 1 :])

    def settle(self) -> None:
        """Wait until all that was asked for is done."""
        with self._wake:
            self._hurrying += 1
            self._wake.notify_all()
            while self._waiting or self._busy:
                self._done.wait()
            self._hurrying -= 1

    def stop(self) -> None:
        """End the thread: what it is at is finished, but nothing is swapped any more."""
        with self._wake:
            self.stopped = True
            self._waiting.clear()
            thread = self._thread
            self._wake.notify_all()
            self._done.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _renew(self) -> None:
        self._waiting: deque[Engine] = deque()
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._done = threading.Condition(self._lock)
        self._thread = None
        self._busy = False
        self._hurrying = 0

    def after_fork(self) -> None:
        """In the child: there is no thread, and locks may be held by nobody."""
        self._renew()
        for engine in self.engines:
            if engine.adaptation is not None:
                engine.adaptation.after_fork()

    def _run(self) -> None:
        while (engine := self._next()) is not None:
            start = time.monotonic()
            try:
                if engine.adaptation is not None:
                    engine.adaptation.step(self.swap)
            except Exception as error:
                engine.failure = error
                engine.turn = 1  # so that the next call tells it
            finally:
                with self._wake:
                    self._busy = False
                    self._done.notify_all()
                    rest = (time.monotonic() - start) * (1.0 / DUTY - 1.0)
                    self._wake.wait_for(lambda: self.stopped or self._hurrying, rest)

    def _next(self) -> Engine | None:
        with self._wake:
            if not self._waiting and not self.stopped:
                self._wake.wait(IDLE)
            if self.stopped or not self._waiting:
                self._thread = None
                return None
            self._busy = True
            return self._waiting.popleft()


def _after_fork() -> None:
    for reorganizer in list(_LIVING):
        reorganizer.after_fork()


def _at_exit() -> None:
    for reorganizer in list(_LIVING):
        reorganizer.stop()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
