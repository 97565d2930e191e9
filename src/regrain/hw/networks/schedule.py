"""How the tokens of a matrix are cut into runs of the array, and what several runs take together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

from regrain.core.granularity import Granularity
from regrain.hw.machine import ACTIVATION_BITS, Machine
from regrain.hw.model.memory import Memory
from regrain.hw.model.program import Program
from regrain.hw.model.timing import Arrivals, Events, Packed, Supply, Timing, simulate_supply, stream_bits
from regrain.hw.networks.repacking import Form, Known, Repacking, forms, master_word_bits


@dataclass(frozen=True, slots=True)
class Source:
    """Where tiles come from: in memory as they are, or, with the `forms` of all of them, made in every run by the
    reorganizer, out of a master copy.
    """

    forms: tuple[Form, ...] = ()

    @classmethod
    def of(cls, granularity: Granularity, program: Program, machine: Machine) -> Source:
        """The master copy, of what the reorganizer makes of it at a granularity: `variants.reorganized`."""
        return cls(forms(granularity, program, machine))

    @property
    def words(self) -> int:
        """Of the master copy that are read in a run."""
        return sum(form.words for form in self.forms)

    def supply(self, program: Program, machine: Machine, memory: Memory, known: Known | None = None) -> Supply:
        """The program's tiles for one run; `known`: of other runs."""
        if not self.forms:
            return Packed(program, machine, memory)
        return Repacking(program, self.forms, machine, memory, {} if known is None else known)

    def bits(self, program: Program, machine: Machine) -> int:
        """Bits of weights that are fetched in a run."""
        if self.forms:
            return self.words * master_word_bits(machine)
        return sum(stream_bits(tile, machine) for tile in program.tiles)


PACKED = Source()


def scheduled(
    program: Program, tokens: int, machine: Machine, memory: Memory, source: Source = PACKED
) -> tuple[Timing, int]:
    """Cycles and events of one matrix over so many tokens, in the runs that `cut` says; and how many runs these are."""
    known: Known = {}
    bits = source.bits(program, machine)

    def run(count: int) -> Timing:
        timing = simulate_supply(source.supply(program, machine, memory, known), count, machine, memory)
        return replace(timing, events=replace(timing.events, weight_bits_fetched=bits))

    parts = cut(program, tokens, machine, memory, source)
    return added((run(each), count) for each, count in parts), sum(count for _, count in parts)


def cut(
    program: Program, tokens: int, machine: Machine, memory: Memory, source: Source = PACKED
) -> list[tuple[int, int]]:
    """The runs that fetch least: tokens, and how many runs there are of so many.

    Tokens that don't fit the buffer are either fetched anew for each tile of weights, in one run; or the weights anew
    for each run, of as many tokens as fit, in whole passes.
    """
    bits, packed = source.bits(program, machine), Packed(program, machine, memory)
    token_bits = -(-program.shape[1] // machine.block) * machine.block * ACTIVATION_BITS
    fit = max(1, memory.buffer_bits // (token_bits * machine.rows)) * machine.rows
    whole, rest = divmod(tokens, fit)
    parts = [(each, count) for each, count in ((fit, whole), (rest, 1)) if each and count]

    def fetched(runs: list[tuple[int, int]]) -> int:
        passes = [(-(-each // machine.rows), count) for each, count in runs]
        return sum((bits + Arrivals(packed, each, machine, memory).fetched_bits) * count for each, count in passes)

    return parts if fetched(parts) < fetched([(tokens, 1)]) else [(tokens, 1)]


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
