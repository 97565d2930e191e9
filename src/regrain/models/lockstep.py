"""Calls of a model side by side: each stops before every layer, so that a layer can change between two of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


class _AbandonedError(BaseException):
    """Nobody waits for the call any more. Not an Exception, which what is called might catch."""


class Call:
    """A call that is stopped before the layer `at`, which it is about to give `inputs`; both None when it is over.

    It has a thread of its own, as Python can't stop a function otherwise; but one thread runs at a time.
    """

    def __init__(self, run: Callable[[], object]) -> None:
        self.at: str | None = None
        self.inputs: torch.Tensor | None = None
        self._keep: Callable[[torch.Tensor], torch.Tensor] | None = None
        self._kept: torch.Tensor | None = None
        self._error: BaseException | None = None
        self._abandoned = False
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, args=(run,), daemon=True)
        self._thread.start()

    def proceed(self, keep: Callable[[torch.Tensor], torch.Tensor] | None = None) -> torch.Tensor | None:
        """Go on to the next layer, or to the end. What `keep` makes of the output of the layer `at` is given back.

        Raises what the call raises.
        """
        self._keep, self._kept = keep, None
        self._go.release()
        self._stopped.acquire()
        if self._error is not None:
            raise self._error
        return self._kept

    def abandon(self) -> None:
        """End the call where it is."""
        self._abandoned = True
        self._go.release()
        self._thread.join()

    def stop(self, name: str, inputs: torch.Tensor) -> None:
        """For the call's own thread: stop here."""
        self.at, self.inputs = name, inputs
        self._stopped.release()
        self._wait()

    def made(self, name: str, output: torch.Tensor) -> None:
        """For the call's own thread: what a layer made."""
        if self._keep is not None and name == self.at:
            self._kept, self._keep = self._keep(output), None

    def _run(self, run: Callable[[], object]) -> None:
        _here.call = self
        try:
            self._wait()
            run()
        except _AbandonedError:
            pass
        except BaseException as error:  # raised again by the thread that waits
            self._error = error
        self.at = self.inputs = None
        self._stopped.release()

    def _wait(self) -> None:
        self._go.acquire()
        if self._abandoned:
            raise _AbandonedError


_here = threading.local()


@contextmanager
def stopping(
    modules: Mapping[str, torch.nn.Module], passed: Container[str], runs: Sequence[Callable[[], object]]
) -> Iterator[list[Call]]:
    """Calls that stop before each of the modules whose name isn't in `passed`, and have not begun yet. They are ended
    with the context.
    """
    handles = []
    for name, module in modules.items():

        def before(_: Any, inputs: Any, named: Any, name: str = name) -> None:
            call = getattr(_here, "call", None)
            if call is not None and name not in passed:
                call.stop(name, inputs[0] if inputs else named["input"])

        def after(_: Any, __: Any, output: Any, name: str = name) -> None:
            call = getattr(_here, "call", None)
            if call is not None:
                call.made(name, output)

        handles += [
            module.register_forward_pre_hook(before, with_kwargs=True),
            module.register_forward_hook(after),
        ]
    calls: list[Call] = []
    try:
        calls += [Call(run) for run in runs]
        yield calls
    finally:
        for call in calls:
            call.abandon()
        for handle in handles:
            handle.remove()
