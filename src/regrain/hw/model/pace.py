"""In which cycles the reorganizer reads and sends: the yardstick of its hardware."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from regrain.hw.model.codes import Code
from regrain.hw.model.repack import TAG_BITS, Group, Master, groups

Clock = Callable[[int], int]
"""The first cycle, from the given one on, in which something happens."""

GROUPS, IN_FLIGHT = 2, 8
"""Items of the queue of groups, and words of the master copy that are on their way or waiting."""


def at_once(cycle: int) -> int:
    """The clock of what is always ready."""
    return cycle


def next_cycle(cycle: int) -> int:
    """The clock of a synchronous memory."""
    return cycle + 1


@dataclass(slots=True)
class Port:
    """A memory. `accepts`: when it takes an address that is offered from a cycle on. `answers`: when the word comes for
    an address that was taken in a cycle; words come in order, one a cycle at most.
    """

    accepts: Clock = at_once
    answers: Clock = next_cycle
    reads: int = 0
    _answered: int = -1

    def read(self, cycle: int) -> tuple[int, int]:
        """When the address is taken, and when the word is there."""
        taken = self.accepts(cycle)
        self._answered = max(self._answered + 1, self.answers(taken))
        self.reads += 1
        return taken, self._answered


@dataclass(frozen=True, slots=True)
class Sent:
    """When a tile's command was taken, and each of its words."""

    command: int
    words: tuple[int, ...]


@dataclass(slots=True)
class Pace:
    """A reorganizer, tile after tile: times follow from earlier ones by sums and maxima.

    What a register holds is seen in the cycle after the one that set it; a queue of n items takes an item in the cycle
    after the one in which the nth before it left.
    """

    master: Port = field(default_factory=Port)
    tags: Port = field(default_factory=Port)
    table: Port = field(default_factory=Port)
    _rest: int = 0  # from which cycle on a command can be taken
    _asked: int = -1  # when the last word was asked for, or the end of a tile passed
    _taken: int = -1  # when the last of either went into a buffer
    _left: deque[int] = field(default_factory=lambda: deque([-1] * GROUPS, GROUPS))
    _waited: deque[int] = field(default_factory=lambda: deque([-1] * IN_FLIGHT, IN_FLIGHT))
    _sent: deque[int] = field(default_factory=lambda: deque([-1, -1], 2))  # last words of steps

    def command(self, asked: int) -> int:
        """When the next command is taken, if it is offered from the cycle `asked` on."""
        return max(asked, self._rest)

    def tile(
        self, master: Master, number: int, code: Code, *, inside: bool = False, asked: int = 0, ready: Clock = at_once
    ) -> Sent:
        """A tile whose command is offered from the cycle `asked` on; `ready`: when its words are taken."""
        command = self.command(asked)
        words: list[int] = []
        due: int | None = None  # when the last word of a complete step can be sent, if it is known to be the last
        for group, scouted in self._scouted(master, number, code, inside, command + 2):
            if group is None:
                end = self._end(scouted, due is None)
                words.append(self._step_sent(ready(max(end, self._sent[-1]) + 1 if due is None else max(due, end))))
                continue
            for at in range(len(group.slots)):
                taken = self._word(
                    scouted, last=at + 1 == len(group.slots), free=self._sent[-1 if due is not None else 0]
                )
                if at == group.first and due is not None:
                    words.append(self._step_sent(ready(max(due, taken))))
                    due = None
            if group.size:
                due = max(self._taken, self._sent[-1]) + 1
                for _ in range(group.size - 1):
                    words.append(ready(due))
                    due = words[-1] + 1
        return Sent(command, tuple(words))

    def _step_sent(self, cycle: int) -> int:
        self._sent.append(cycle)
        return cycle

    def _word(self, scouted: int, *, last: bool, free: int) -> int:
        """A word is read and goes into the buffer that was sent in the cycle `free`: when?"""
        self._asked, there = self.master.read(max(self._asked, scouted, self._waited[0]) + 1)
        if last:
            self._left.append(self._asked)
        self._taken = max(self._taken, there, free) + 1
        self._waited.append(self._taken)
        return self._taken

    def _end(self, scouted: int, empty: bool) -> int:
        """The end of a tile passes; an empty one needs a buffer for its word of zeros."""
        self._asked = max(self._asked, scouted, self._waited[0]) + 1
        self._left.append(self._asked)
        self._taken = max(self._taken, self._asked, self._sent[0] if empty else -1) + 1
        self._waited.append(self._taken)
        return self._taken

    def _scouted(
        self, master: Master, number: int, code: Code, inside: bool, now: int
    ) -> Iterator[tuple[Group | None, int]]:
        """Groups, and when they go into their queue; the end of the tile is None."""
        word = 0
        for group in groups(master, number, code, inside=inside):
            if code == Code.MEDIUM:
                while word <= group.block // TAG_BITS:
                    now, word = self._tags_read(now, word), word + 1
            elif code == Code.COARSE:
                now = self.table.read(now)[1] + 1
            now = max(now, self._left[0] + 1)
            yield group, now
            now += 1
        if code == Code.MEDIUM:
            while word * TAG_BITS < master.medium.shape[1]:
                now, word = self._tags_read(now, word), word + 1
            now += 1
        now = max(now, self._left[0] + 1)
        yield None, now
        self._rest = now + 1

    def _tags_read(self, now: int, word: int) -> int:
        """When the tags of the next word are there: it takes a cycle to see that none of the last word's is left."""
        return self.tags.read(now + (word > 0))[1] + 1
