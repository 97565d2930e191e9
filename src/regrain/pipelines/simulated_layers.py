"""What each layer of a simulated network took: cycles and events by the cycle model, bytes, energy, over its calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from regrain.core.granularity import Granularity
from regrain.hw.energy import Features, Traffic, energy, traffic
from regrain.hw.model.observe import QUARTERS
from regrain.hw.model.program import dense
from regrain.hw.model.timing import Timing
from regrain.hw.networks.control import OwnControl
from regrain.hw.networks.schedule import added, flat, scheduled
from regrain.pipelines.hardware import Hardware

if TYPE_CHECKING:
    from regrain.hw.networks.simulated import Simulated

AS_STORED = "as stored"

Use = tuple[Granularity | None, int, int]
"""Calls that take alike: of one granularity, set of tags and number of tokens."""


@dataclass(frozen=True, slots=True)
class Span:
    """Calls one after the other with the same granularity: how many, their tokens and cycles. `density` is the share of
    weights that aren't zero then.
    """

    granularity: str
    density: float
    calls: int
    tokens: int
    cycles: int


@dataclass(frozen=True, slots=True)
class Watched:
    """A matrix under the machine's own control: of a call's inputs the first `samples` tokens are watched. `low` and
    `high` are pairs of thresholds, down and up, and `metrics` those of each call, all in squared steps; None of a call
    that was too short. `origin`: where thresholds are from.
    """

    samples: int
    low: tuple[float, float]
    high: tuple[float, float]
    origin: str
    metrics: Sequence[float | None]


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedLayer:
    """One matrix. `encoding` is how the array ran it last, `density` the share of weights that aren't zero then;
    `clipped` the share of inputs beyond the range of int8. `may_change`: its descriptor allows it; `master_words` were
    read by the reorganizer. `dense` is what the same array takes for a matrix of that shape without a zero. Energies
    are pJ by part.
    """

    name: str
    shape: tuple[int, int]
    tokens: int
    encoding: str
    density: float
    clipped: float
    may_change: bool
    switches: int
    master_words: int
    history: Sequence[Span]
    timing: Timing
    dense: Timing
    traffic: Mapping[str, Traffic]
    energy: Mapping[str, float]
    dense_energy: Mapping[str, float]
    control: Watched | None = None

    @property
    def granularity(self) -> str:
        """In force at the end."""
        return self.history[-1].granularity if self.history else AS_STORED

    def to_json(self) -> dict[str, object]:
        """A JSON object with all of it."""
        value: dict[str, object] = {
            name: getattr(self, name)
            for name in ("name", "tokens", "encoding", "density", "clipped", "may_change", "switches", "master_words")
        }
        return value | {
            "shape": list(self.shape),
            "granularity": self.granularity,
            "history": [{name: getattr(span, name) for name in Span.__slots__} for span in self.history],
            "timing": flat(self.timing),
            "dense": flat(self.dense),
            "traffic_bytes": {name: {"read": one.read, "written": one.written} for name, one in self.traffic.items()},
            "energy_pj": dict(self.energy),
            "dense_energy_pj": sum(self.dense_energy.values()),
            "control": None if self.control is None else asdict(self.control),
        }


def measured(
    simulated: Sequence[Simulated],
    hardware: Hardware,
    threads: int,
    told: Callable[[str, int, int], None],
) -> Iterator[SimulatedLayer]:
    """Each layer that was called, several at a time."""
    called = [one for one in simulated if one.calls]
    features = features_of(called, hardware.kept_bytes)

    def one_layer(one: Simulated) -> SimulatedLayer:
        return _measured(one, hardware, features[one.layer.name])

    with ThreadPoolExecutor(threads) as pool:
        for number, layer in enumerate(pool.map(one_layer, called)):
            told("counting cycles", number, len(called))
            yield layer


def _measured(one: Simulated, hardware: Hardware, features: Features) -> SimulatedLayer:
    machine, memory, table = hardware.machine, hardware.memory, hardware.table
    uses = Counter((call.granularity, call.tags, call.tokens) for call in one.calls)
    times: dict[Use, Timing] = {}
    master = 0
    for (granularity, tags, each), count in uses.items():
        variant = one.variant(granularity, tags)
        source = variant.source
        times[granularity, tags, each], runs = scheduled(variant.encoded[1], each, machine, memory, source)
        master += count * runs * source.words
    timing = added((times[use], count) for use, count in uses.items())
    roomy = replace(machine, bank_words=max(machine.bank_words, one.layer.shape[1] + machine.block))
    whole = dense(np.ones(one.layer.shape, np.int8), roomy)
    tokens = Counter(call.tokens for call in one.calls)
    plain = added((scheduled(whole, each, machine, memory)[0], count) for each, count in tokens.items())
    last = one.variant(one.calls[-1].granularity, one.calls[-1].tags)
    return SimulatedLayer(
        name=one.layer.name,
        shape=one.layer.shape,
        tokens=sum(tokens.elements()),
        encoding=last.encoded[0],
        density=last.density,
        clipped=sum(call.clipped for call in one.calls) / max(1, sum(call.numbers for call in one.calls)),
        may_change=one.matrix.dynamic,
        switches=one.switches,
        history=tuple(_history(one, times)),
        timing=timing,
        dense=plain,
        traffic=traffic(timing.events, machine, features),
        master_words=master,
        energy=energy(timing, table, machine, memory, features, master),
        dense_energy=energy(plain, table, machine, memory, features),
        control=_watched(one),
    )


def _watched(one: Simulated) -> Watched | None:
    if one.control is None or not isinstance(one.policy, OwnControl):
        return None
    found = one.control.descriptor
    return Watched(
        one.samples.count,
        (found.down0 / QUARTERS, found.up0 / QUARTERS),
        (found.down1 / QUARTERS, found.up1 / QUARTERS),
        one.policy.origin,
        tuple(None if call.metric is None else call.metric / QUARTERS for call in one.calls),
    )


def features_of(simulated: Sequence[Simulated], kept_bytes: int) -> dict[str, Features]:
    """Where each layer's inputs come from and its outputs go, by name. The network's own come from outside.

    Inputs and outputs stay on chip where twice the two fit, of every call: other maps may be alive beside them.
    """
    found: dict[str, Features] = {}
    for number, one in enumerate(simulated):
        rows, columns = one.layer.shape
        numbers = sum(call.numbers for call in one.calls)
        repeats = max(1.0, sum(call.tokens for call in one.calls) * columns / max(1, numbers))
        fits = all(2 * (call.numbers + call.tokens * rows) <= kept_bytes for call in one.calls)
        found[one.layer.name] = Features(repeats, kept_bytes, fits and number > 0, fits and number + 1 < len(simulated))
    return found


def _history(one: Simulated, times: Mapping[Use, Timing]) -> Iterator[Span]:
    last: Span | None = None
    for call in one.calls:
        name = AS_STORED if call.granularity is None else str(call.granularity)
        cycles = times[call.granularity, call.tags, call.tokens].cycles
        if last is not None and last.granularity == name:
            last = replace(last, calls=last.calls + 1, tokens=last.tokens + call.tokens, cycles=last.cycles + cycles)
            continue
        if last is not None:
            yield last
        last = Span(name, one.variant(call.granularity, call.tags).density, 1, call.tokens, cycles)
    if last is not None:
        yield last
