"""The same weights run in each encoding, and what that costs by each energy table: does the ranking survive?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regrain.core.errors import HardwareError
from regrain.hw.energy import energy
from regrain.hw.energy_table import load, names
from regrain.hw.machine import Machine
from regrain.hw.model.memory import Memory
from regrain.hw.model.timing import Timing
from regrain.hw.networks.schedule import added, scheduled
from regrain.hw.networks.variants import ENCODINGS, cheapest, encode
from regrain.pipelines.hardware import Hardware
from regrain.pipelines.simulated_layers import features_of

if TYPE_CHECKING:
    from regrain.hw.networks.simulated import Simulated

BEST = "fewest words, by layer"
"""The configuration in which each matrix has the encoding that suits it."""


@dataclass(frozen=True, slots=True, eq=False)
class Configuration:
    """All matrices in one encoding: cycles, and pJ by table."""

    name: str
    cycles: int
    energy: Mapping[str, float]

    def to_json(self) -> dict[str, object]:
        """A JSON object with all of it."""
        return {"name": self.name, "cycles": self.cycles, "energy_pj": dict(self.energy)}


def configurations(simulated: Sequence[Simulated], hardware: Hardware) -> Iterator[Configuration]:
    """Every encoding that fits all matrices, and the best of each; the weights are those of each layer's last call."""
    tables, called = [load(name) for name in names()], [one for one in simulated if one.calls]
    features, machine, memory = features_of(called, hardware.kept_bytes), hardware.machine, hardware.memory
    for name in (*ENCODINGS, BEST):
        try:
            timed = [(one, _timing(one, name, machine, memory)) for one in called]
        except HardwareError:
            continue
        costs = {
            table.name: sum(
                sum(energy(timing, table, machine, memory, features[one.layer.name]).values()) for one, timing in timed
            )
            for table in tables
        }
        yield Configuration(name, sum(timing.cycles for _, timing in timed), costs)


def rankings(found: Sequence[Configuration]) -> dict[str, tuple[str, ...]]:
    """By each table, the configurations from the least energy to the most."""
    tables = found[0].energy if found else {}
    return {table: tuple(one.name for one in sorted(found, key=lambda one: one.energy[table])) for table in tables}


def survives(found: Sequence[Configuration]) -> bool:
    """Whether all tables rank the configurations alike."""
    return len(set(rankings(found).values())) <= 1


def _timing(one: Simulated, encoding: str, machine: Machine, memory: Memory) -> Timing:
    weights = one.variant(one.calls[-1].granularity, one.calls[-1].tags).weights
    program = cheapest(weights, machine)[1] if encoding == BEST else encode(encoding, weights, machine)
    uses = Counter(call.tokens for call in one.calls)
    return added((scheduled(program, tokens, machine, memory)[0], count) for tokens, count in uses.items())
