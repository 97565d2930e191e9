"""Tiles out of a master copy at one granularity, in the cycles of the reorganizer: fast enough for whole networks.

The rules are those of `regrain.hw.model.pace`, which says what they mean, for a run in which nothing switches. When
tiles come depends on how many words each group of them has, and not on their values. So only these numbers are looked
at; and a tile like an earlier one, that is re-packed in the same circumstances, comes after as many cycles as that one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from regrain.core.granularity import Granularity
from regrain.hw.machine import VALUE_BITS, Machine
from regrain.hw.model.memory import Memory
from regrain.hw.model.pace import GROUPS, IN_FLIGHT
from regrain.hw.model.program import Program, Tile
from regrain.hw.model.repack import TAG_BITS

TAG_OF_A_WEIGHT = 1
"""Bits of it in the master copy: whether fine keeps it."""


def master_word_bits(machine: Machine) -> int:
    """Bits of a word of the master copy: a weight and its tag for each lane."""
    return machine.outputs * (VALUE_BITS + TAG_OF_A_WEIGHT)


class Group(NamedTuple):
    """Words of the master copy that make a step: `read` of them, of which the `first` has a weight that is kept, make
    `sent`. `block`: where it stands in the matrix.
    """

    block: int
    read: int
    first: int
    sent: int


class Form(NamedTuple):
    """What the cycles of a tile depend on: its granularity, the words of tags before it is known, and its groups."""

    granularity: Granularity
    tag_words: int
    groups: tuple[Group, ...]

    @property
    def words(self) -> int:
        """Of the master copy that are read."""
        return sum(group.read for group in self.groups)


def forms(granularity: Granularity, program: Program, machine: Machine) -> tuple[Form, ...]:
    """Of the tiles of a program that the reorganizer makes at that granularity."""
    blocks = -(-program.shape[1] // machine.block)
    known: dict[tuple[Group, ...], Form] = {}
    found = []
    for tile in program.tiles:
        if granularity is Granularity.FINE:
            groups = _fine(tile, blocks, machine.block)
        elif granularity is Granularity.MEDIUM:
            whole = tile.counts == machine.block  # a tile that keeps nothing has a word of zeros
            groups = tuple(Group(block, machine.block, 0, machine.block) for block in tile.blocks[whole].tolist())
        else:
            groups = tuple(Group(block, count, 0, count) for block, count in enumerate(tile.counts.tolist()))
        tags = -(-blocks // TAG_BITS) if granularity is Granularity.MEDIUM else 0
        found.append(known.setdefault(groups, Form(granularity, tags, groups)))
    return tuple(found)


def _fine(tile: Tile, blocks: int, block: int) -> tuple[Group, ...]:
    """All blocks are read. The first weight kept of each lane is in the first word of its step."""
    sent, first = np.zeros(blocks, np.int64), np.full(blocks, block)
    if tile.values.any():
        begin = np.cumsum(tile.counts, dtype=np.int64) - tile.counts
        sent[tile.blocks] = tile.counts
        first[tile.blocks] = np.where(tile.values[begin] != 0, tile.index[begin], block).min(1)
    return tuple(
        Group(number, block, *counts) for number, counts in enumerate(zip(first.tolist(), sent.tolist(), strict=True))
    )


class Clock(NamedTuple):
    """What the reorganizer did last, in cycles, as `regrain.hw.model.pace.Pace` has it; and when it rests again, from
    cycle 1 on.

    `answered`: when the last word of the master copy came; `bits`: when its last bits did, in parts of a cycle.
    """

    bits: int
    rest: int = 1
    asked: int = -1
    taken: int = -1
    answered: int = -1
    left: tuple[int, ...] = (-1,) * GROUPS
    waited: tuple[int, ...] = (-1,) * IN_FLIGHT
    sent: tuple[int, int] = (-1, -1)

    def since(self, cycle: int, parts: int) -> Clock:
        """The same, counted from that cycle on, of so many parts."""
        return Clock(
            self.bits - cycle * parts,
            self.rest - cycle,
            self.asked - cycle,
            self.taken - cycle,
            self.answered - cycle,
            tuple(each - cycle for each in self.left),
            tuple(each - cycle for each in self.waited),
            (self.sent[0] - cycle, self.sent[1] - cycle),
        )


Known = dict[tuple[Form, Clock], Clock]
"""What a tile made of the clock, both from the cycle on in which the bank was free."""


@dataclass(eq=False)
class Repacking:
    """A `Supply` of a program's tiles, for one run; its `forms` say when the reorganizer has them.

    The master copy comes out of `memory`: a word is there `latency` cycles after that of a synchronous memory, and not
    before its bits have come. No more than IN_FLIGHT of them are on their way or waiting, whatever the latency. What is
    `known` of tiles may be shared by runs out of the same memory.
    """

    program: Program
    forms: Sequence[Form]
    machine: Machine
    memory: Memory
    known: Known = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._clock = Clock(bits=-master_word_bits(self.machine))

    @property
    def inputs(self) -> int:
        """See `Supply`."""
        return self.program.shape[1]

    def __len__(self) -> int:
        return len(self.program.tiles)

    def take(self, place: int, free: int) -> tuple[Tile, int]:
        """See `Supply`."""
        form, parts = self.forms[place], self._parts
        key = form, self._clock.since(free, parts)
        if key not in self.known:
            self.known[key] = self._re_packed(*key)
        clock = self._clock = self.known[key].since(-free, parts)
        return self.program.tiles[place], clock.sent[1]

    def swapped(self, place: int, cycle: int) -> None:
        """See `Supply`."""

    @property
    def _parts(self) -> int:
        """Of a cycle: bits that memory gives in it, of one word at most."""
        word = master_word_bits(self.machine)
        return word if self.memory.weight_bits is None else min(word, self.memory.weight_bits)

    def _re_packed(self, form: Form, clock: Clock) -> Clock:
        """What the clock says after a tile, of which the bank takes words from cycle 0 on."""
        bits, rest, at, taken, answered, *_ = clock
        left, waited = deque(clock.left, GROUPS), deque(clock.waited, IN_FLIGHT)
        before, sent = clock.sent
        parts, word, far = self._parts, master_word_bits(self.machine), 1 + self.memory.latency
        now, tags = rest + 2, 0
        due: int | None = None
        for block, read, first, words in form.groups:
            if form.granularity is Granularity.MEDIUM:
                seen = block // TAG_BITS + 1 - tags
                if seen > 0:
                    now, tags = _scouted(now, tags, seen)
            elif form.granularity is Granularity.COARSE:
                now += 2
            now = max(now, left[0] + 1)
            for number in range(read):
                at = max(at, now, waited[0]) + 1
                bits = max(bits + word, (at + far) * parts)
                answered = max(answered + 1, -(-bits // parts))
                taken = max(taken, answered, before if due is None else sent) + 1
                waited.append(taken)
                if number == first and due is not None:
                    before, sent, due = sent, max(due, taken, 0), None
            left.append(at)
            if words:
                due = max(taken, sent) + 1
                if words > 1:
                    due = max(due, 0) + words - 1
            now += 1
        if form.granularity is Granularity.MEDIUM:
            now = _scouted(now, tags, form.tag_words - tags)[0] + 1
        now = max(now, left[0] + 1)
        at = max(at, now, waited[0]) + 1
        left.append(at)
        taken = max(taken, at, before if due is None else -1) + 1
        waited.append(taken)
        last = max(max(taken, sent) + 1 if due is None else max(due, taken), 0)
        return Clock(bits, now + 1, at, taken, answered, tuple(left), tuple(waited), (sent, last))


def _scouted(now: int, tags: int, words: int) -> tuple[int, int]:
    """After so many more words of tags: two cycles each, and one to see that nothing is left of the word before."""
    return now + 2 * words + max(0, words - (tags == 0)), tags + words
