"""How the tokens of a matrix are cut into runs of the array, and what several runs take together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

from regrain.core.granularity import Granularity
from regrain.hw.machine import ACTIVATION_BITS, VALUE_BITS, Machine
from regrain.hw.model.memory import Memory
from regrain.hw.model.program import Program
from regrain.hw.model.timing import Events, Timing, simulate

TAG_BITS = 1
"""Of a weight in the master copy: whether fine keeps it."""

REORGANIZING = 26
"""Cycles from a tile's command to the last of its words beyond one for each word read, at most: of the reorganizer."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where tiles come from. `words` of the master copy are read for all tiles of a run, by a reorganizer that makes of
    them the program's words; 0: the program is in memory as it is.
    """

    words: int = 0

    @classmethod
    def of(cls, granularity: Granularity, program: Program, machine: Machine) -> Source:
        """The master copy at a granularity: fine reads all of its words, the others those that they keep."""
        if granularity is not Granularity.FINE:
            return cls(program.words)
        return cls(len(program.tiles) * -(-program.shape[1] // machine.block) * machine.block)

    def memory(self, program: Program, machine: Machine, memory: Memory) -> Memory:
        """A memory as fast as the reorganizer: it reads one word of the master copy a cycle, or what memory gives."""
        if not self.words:
            return memory
        read = 1.0 if memory.weight_bits is None else min(1.0, memory.weight_bits / self.word_bits(machine))
        bits = max(1, int(machine.word_bits * program.words / self.words * read))
        return replace(memory, weight_bits=bits, latency=memory.latency + REORGANIZING)

    def word_bits(self, machine: Machine) -> int:
        """Bits of a word of the master copy: a weight and its tag for each lane."""
        return machine.outputs * (VALUE_BITS + TAG_BITS)


PACKED = Source()


def scheduled(
    program: Program, tokens: int, machine: Machine, memory: Memory, source: Source = PACKED
) -> tuple[Timing, int]:
    """Cycles and events of one matrix over so many tokens, in the runs that fetch least; and how many runs these are.

    Tokens that don't fit the buffer are either fetched anew for each tile of weights, in one run; or the weights anew
    for each run, of as many tokens as fit.
    """

    def run(count: int) -> Timing:
        timing = simulate(program, count, machine, source.memory(program, machine, memory))
        if not source.words:
            return timing
        bits = source.words * source.word_bits(machine)
        return replace(timing, events=replace(timing.events, weight_bits_fetched=bits))

    fit = _fitting(program, machine, memory)
    whole = run(tokens)
    if tokens <= fit:
        return whole, 1
    runs, rest = divmod(tokens, fit)
    parts = [(run(fit), runs)]
    if rest:
        parts.append((run(rest), 1))
    cut = added(parts)
    return (cut, runs + (rest > 0)) if _fetched(cut.events) < _fetched(whole.events) else (whole, 1)


def added(parts: Iterable[tuple[Timing, int]]) -> Timing:
    """So many of each, one after the other."""
    numbers: Counter[str] = Counter()
    for timing, count in parts:
        for name, value in flat(timing).items():
            numbers[name] += value * count
    events = Events(**{one.name: numbers[one.name] for one in fields(Events)})
    return Timing(**{one.name: numbers[one.name] for one in fields(Timing) if one.name != "events"}, events=events)


def flat(timing: Timing) -> dict[str, int]:
    """Cycles, stalls and events by name."""
    return {
        one.name: getattr(part, one.name)
        for part in (timing, timing.events)
        for one in fields(part)
        if one.name != "events"
    }


def stalls(timing: Timing) -> dict[str, int]:
    """Cycles in which the array stood still, by cause."""
    end = "_stalls"
    return {name.removesuffix(end): value for name, value in flat(timing).items() if name.endswith(end)}


def _fitting(program: Program, machine: Machine, memory: Memory) -> int:
    """Tokens whose activations fit the buffer, in whole passes."""
    token_bits = -(-program.shape[1] // machine.block) * machine.block * ACTIVATION_BITS
    return max(1, memory.buffer_bits // (token_bits * machine.rows)) * machine.rows


def _fetched(events: Events) -> int:
    return events.weight_bits_fetched + events.activation_bits_fetched
