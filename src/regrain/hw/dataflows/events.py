"""Things that happen at a cycle, and make others happen later."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any


class Events:
    """A queue of calls by cycle. Those of one cycle are made in the order in which they were asked for."""

    def __init__(self) -> None:
        self.now = 0
        """The cycle in which the call that runs was to be made; after `run`, the last one."""
        self._queue: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._asked = 0

    def after(self, cycles: int, action: Callable[..., None], *arguments: Any) -> None:
        """Make a call so many cycles from now; 0 is later in this cycle."""
        assert cycles >= 0, "what has happened can't be changed"
        heappush(self._queue, (self.now + cycles, self._asked, action, arguments))
        self._asked += 1

    def run(self) -> int:
        """Make all calls, and those that they ask for; the cycle of the last one."""
        while self._queue:
            self.now, _, action, arguments = heappop(self._queue)
            action(*arguments)
        return self.now
