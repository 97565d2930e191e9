"""Doing the work on several tensors at once, with results in order and memory bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")

LARGE = 8 * 1024 * 1024
"""Bytes of a tensor whose own blocks keep every thread busy."""

AHEAD = 24 * 1024 * 1024
"""Bytes of tensors that are worked on, or done and not yet used, at most: results take about as much again."""


class Task(NamedTuple, Generic[T]):
    """Work on one tensor of `nbytes`. `run` takes the number of threads that it may use."""

    name: str
    nbytes: int
    run: Callable[[int], T]


def in_order(tasks: Iterable[Task[T]], workers: int) -> Generator[tuple[str, T], None, None]:
    """The name and the result of each task, in their order: small ones run side by side, a large one alone.

    So many threads work beside the caller's, which may use one result meanwhile; with 0 workers the caller's does it
    all. Close the iterator to stop early; no task runs on after that.
    """
    if workers == 0:
        for task in tasks:
            yield task.name, task.run(1)
        return
    waiting: deque[tuple[Task[T], Future[T]]] = deque()
    ahead = 0
    pool = ThreadPoolExecutor(workers, thread_name_prefix="regrain")
    try:
        for task in tasks:
            large = task.nbytes >= LARGE
            while waiting and (large or ahead + task.nbytes > AHEAD or _others(waiting, workers)):
                first, result = waiting.popleft()
                ahead -= 0 if first.nbytes >= LARGE else first.nbytes
                yield first.name, result.result()
            if large:
                waiting.append((task, _done(task.run(workers))))  # used while the next ones run
            else:
                waiting.append((task, pool.submit(task.run, 1)))
                ahead += task.nbytes
        while waiting:
            first, result = waiting.popleft()
            yield first.name, result.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _others(waiting: deque[tuple[Task[T], Future[T]]], workers: int) -> bool:
    """True if the first is done, and enough others wait to keep the workers busy while it is used."""
    return len(waiting) > workers and waiting[0][1].done()


def _done(result: T) -> Future[T]:
    future: Future[T] = Future()
    future.set_result(result)
    return future
