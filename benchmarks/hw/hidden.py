"""Is a matrix re-organized while the array computes? python benchmarks/hw/hidden.py

Of every linear layer and convolution, with its weights as int8: at each boundary between two tiles a switch, between
each pair of granularities that lie side by side. The tile behind it is re-packed from the master copy while the array
still works on the one before. A switch is hidden if the array waits no longer for that tile than for the same tile
packed beforehand. A few matrices are run by the RTL of the whole accelerator, whose control switches while they run.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np
import torch
from networks import NETWORKS, distinct
from numpy.typing import NDArray
from subjects import RESULTS, describe, examples, on_the_machine
from whole import counted, inputs_of

from regrain.core.granularity import Granularity
from regrain.hw.cosim.top import TopSimulation
from regrain.hw.machine import ACTIVATION_BITS, Machine
from regrain.hw.model import golden
from regrain.hw.model.codes import Code
from regrain.hw.model.decide import Decided, Deciding
from regrain.hw.model.descriptor import Descriptor
from regrain.hw.model.golden import Requantizer
from regrain.hw.model.image import Image
from regrain.hw.model.memory import Memory
from regrain.hw.model.pace import Pace
from regrain.hw.model.program import Tile
from regrain.hw.model.reorganized import Reorganized
from regrain.hw.model.repack import Master, repacked
from regrain.hw.model.timing import FREED, simulate_supply
from regrain.hw.networks.simulated import Simulated, replaced
from regrain.hw.networks.variants import keep
from regrain.hw.rtl.top import Part

MACHINE = Machine()
SWITCHES = (
    (Code.FINE, Code.MEDIUM),
    (Code.MEDIUM, Code.FINE),
    (Code.MEDIUM, Code.COARSE),
    (Code.COARSE, Code.MEDIUM),
)
TOLD = 24
"""Metrics that control hears in a run: for the first half too low for the granularity, then too high."""


class Call(NamedTuple):
    """So many images, or texts of so many tokens; `layers`: how the names of those that are looked at begin."""

    network: str
    count: int
    tokens: int = 0
    layers: str = ""
    densities: tuple[float, ...] = (0.5, 0.25)

    def __str__(self) -> str:
        what = f"text of {self.tokens} tokens" if self.tokens else "image" + "s" * (self.count > 1)
        return f"{self.count} {what}"


CALLS = (
    Call("ResNet", 1),
    Call("ResNet", 4),
    Call("ResNet", 16),
    Call("MiniLM", 1, 16, "encoder.layer.0."),
    Call("MiniLM", 1, 128, "encoder.layer.0."),
    Call("ResNet-18", 1, densities=(0.5,)),
)
"""MiniLM's layers have the same shapes: the first stands for all. ResNet-18, for images of 224 x 224, is a table."""
RESULT = RESULTS / "hidden.json"
IN_RTL = {
    "ResNet": ("blocks.2.conv2.weight", "blocks.4.conv1.weight", "blocks.5.conv2.weight"),
    "MiniLM": ("encoder.layer.0.attention.self.query.weight", "encoder.layer.0.attention.output.dense.weight"),
}
ONLY = {code: Deciding((0, 0), (0, 0), dynamic=False, predefined=code) for code in Code}


class Matrix(NamedTuple):
    """int8 weights (outputs, inputs); scores of the same shape say what is kept first."""

    name: str
    kind: str
    weights: NDArray[np.int8]
    scores: NDArray[np.float64]
    span: int
    tokens: int

    @classmethod
    def of(cls, one: Simulated) -> Matrix:
        """A layer that was called; scores are the outputs' error without each weight."""
        whole = one.integers.weights() / np.repeat(one.factors, one.layer.span).astype(np.float64)
        scores = whole * whole * np.repeat(one.matrix.variance, one.layer.span)
        kind, tokens = "linear" if one.layer.window is None else "convolution", one.calls[0].tokens
        return cls(one.layer.name, kind, one.integers.values, scores, one.layer.span, tokens)

    def master(self, density: float) -> Master:
        """With as much of it at each granularity."""
        fine, medium, coarse = (keep(name, self.scores, density, self.span, MACHINE) for name in Granularity)
        return Master.of(
            self.weights,
            MACHINE,
            fine=np.ascontiguousarray(fine),
            medium=np.ascontiguousarray(medium[:: MACHINE.outputs, :: MACHINE.block]),
            coarse=np.ascontiguousarray(coarse[0]),
        )


class Clock:
    """That of `regrain.hw.model.timing`, but tile by tile, so that a boundary can be tried in several ways."""

    def __init__(self, passes: int) -> None:
        self.passes, self.last, self.free, self.stalled = passes, 0, 1, 0

    def stalls(self, taken: int) -> int:
        """Cycles in which the array would wait for a tile whose last word is taken then."""
        return max(0, taken + 1 - self.last)

    def run(self, tile: Tile, taken: int) -> None:
        self.stalled += self.stalls(taken)
        swap = max(self.last, taken + 1)
        self.free = swap + FREED
        for number in range(self.passes):
            first = (swap if number == 0 else self.last) + 1
            self.last = max(first + tile.words - 1, self.last + MACHINE.rows if self.last else 0)


def sent(pace: Pace, master: Master, place: int, code: Code, clock: Clock) -> int:
    """When the bank takes the last word of a tile that is re-packed."""
    free = clock.free
    return pace.tile(master, place, code, asked=1, ready=lambda cycle: max(cycle, free)).words[-1]


def lost(master: Master, before: Code, then: Code, tokens: int) -> Iterator[int]:
    """Cycles that a switch costs, at each boundary: in which the array waits for the tile that is re-packed, beyond
    those for the same tile packed beforehand.
    """
    pace, moving, still = Pace(), Clock(-(-tokens // MACHINE.rows)), Clock(-(-tokens // MACHINE.rows))
    for place in range(len(master.weights)):
        if place:
            packed = still.free + repacked(master, place, then).words - 1
            yield max(0, moving.stalls(sent(deepcopy(pace), master, place, then, moving)) - still.stalls(packed))
        tile = repacked(master, place, before)
        moving.run(tile, sent(pace, master, place, before, moving))
        still.run(tile, still.free + tile.words - 1)


def checked(master: Master, shape: tuple[int, int], code: Code, tokens: int) -> None:
    """The stalls of a whole run at one granularity are the cycle model's."""
    pace, clock = Pace(), Clock(-(-tokens // MACHINE.rows))
    for place in range(len(master.weights)):
        clock.run(repacked(master, place, code), sent(pace, master, place, code, clock))
    supply = Reorganized(master, shape, ONLY[code], Decided(code))
    model = simulate_supply(supply, tokens, MACHINE, Memory())
    if model.load_stalls != clock.stalled:
        raise AssertionError(f"{model.load_stalls} cycles of stalls must be {clock.stalled}")


def matrices(call: Call) -> Iterator[Matrix]:
    """The layers of a call; of a network that is only a table, one of each shape, with random weights."""
    if call.network in NETWORKS:
        random = np.random.default_rng(0)
        for layer in distinct(call.network):
            shape = layer.filters, layer.inputs
            weights = random.integers(-9, 10, shape).astype(np.int8)
            kind = "convolution" if layer.width > 1 else "linear"
            span, name = layer.kernel**2, f"{layer.channels} to {layer.filters}, {layer.kernel} x {layer.kernel}"
            yield Matrix(name, kind, weights, random.random(shape), span, call.count * layer.pixels)
        return
    with on_the_machine(call.network, MACHINE) as (job, network, simulated):
        with replaced(simulated):
            job.outputs(network.model, examples(call.network, job, call.count, call.tokens), where="the examples")
        yield from (Matrix.of(one) for one in simulated if one.calls and one.layer.name.startswith(call.layers))


def measured(call: Call) -> Iterator[dict[str, Any]]:
    """The matrices, at each density, over as many of the call's tokens as the activation buffer holds."""
    for matrix in matrices(call):
        for density in call.densities:
            master = matrix.master(density)
            room = Memory().buffer_bits // (master.weights.shape[1] * MACHINE.block * ACTIVATION_BITS)
            tokens = min(matrix.tokens, room // MACHINE.rows * MACHINE.rows)
            checked(master, matrix.weights.shape, Code.FINE, tokens)
            for before, then in SWITCHES:
                cycles = list(lost(master, before, then, tokens))
                yield {
                    "network": call.network,
                    "inputs": str(call),
                    "name": matrix.name,
                    "kind": matrix.kind,
                    "shape": list(matrix.weights.shape),
                    "tokens": tokens,
                    "density": density,
                    "switch": f"{before.granularity} to {then.granularity}",
                    "boundaries": len(cycles),
                    "hidden": sum(cycle == 0 for cycle in cycles),
                    "lost": sum(cycles),
                    "most": max(cycles, default=0),
                }


def in_rtl(subject: str, tokens: int, chosen: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Layers by the RTL of the whole accelerator, fine at first: its control is told to go coarser, and back."""
    top = TopSimulation(MACHINE)
    with on_the_machine(subject, MACHINE) as (job, network, simulated):
        given: dict[str, Any] = {}
        for one in simulated:
            one.layer.module.register_forward_pre_hook(
                lambda _, args, named, name=one.layer.name: given.update({name: args[0] if args else named["input"]}),
                with_kwargs=True,
            )
        with replaced(simulated):
            job.outputs(network.model, examples(subject, job, 1, tokens), where="the example")
        for one in simulated:
            if one.layer.name in chosen:
                yield {"network": subject, **dynamic(top, one, inputs_of(one, given[one.layer.name]))}


def dynamic(top: TopSimulation, one: Simulated, rows: np.ndarray) -> dict[str, Any]:
    """A matrix whose granularity changes while it runs, beside its model. Raises AssertionError if they differ."""
    master, (outputs, _) = Matrix.of(one).master(0.5), one.layer.shape
    tiles, blocks = master.medium.shape
    costs = [-(-sum(repacked(master, place, code).words for place in range(tiles)) // 16) for code in Code]
    descriptor = Descriptor(
        granularity=Granularity.FINE,
        outputs=outputs,
        blocks=blocks,
        tokens=len(rows),
        weights=0,
        channels=0,
        listed=True,
        dynamic=True,
        down0=100,
        up0=200,
        down1=300,
        up1=400,
        cost_fine=costs[0],
        cost_medium=costs[1],
        cost_coarse=costs[2],
    )
    table = Requantizer(*(np.full(outputs, number) for number in (0, 1 << 10, 20)))
    image = Image(MACHINE, 4096)
    at = image.add(descriptor, table, master=master)
    top.reset()
    top.load(image)
    entries = len(master.gather.rows)
    setup = 4 + 3 + 1 + 2 * entries + (entries != blocks) + 1 + 4 * tiles * MACHINE.outputs // 2 + 1
    passes = -(-len(rows) // MACHINE.rows)
    length = sum(costs) * 16 // 3 * passes  # cycles, about
    told = [(1 + length * place // TOLD, 50 if 2 * place < TOLD else 450) for place in range(TOLD)]
    found = top.run(at, rows, master, observations=[(setup + cycle, metric) for cycle, metric in told])
    deciding = Deciding(
        (200, 400),
        (100, 300),
        predefined=Code.FINE,
        priced=True,
        cost=tuple(costs),
        uses=min(255, passes),
        reorganization=tiles * blocks * MACHINE.block >> 4,
    )
    supply = Reorganized(master, one.layer.shape, deciding, Decided(Code.FINE), told)
    model = simulate_supply(supply, len(rows), MACHINE, Memory())
    sums = golden.run(supply.program(), rows, MACHINE)
    assert found.fault == Part.NONE, found.fault
    assert found.counters == counted(model), (found.counters, counted(model))
    assert found.cycles == setup + model.cycles, (found.cycles, setup, model.cycles)
    np.testing.assert_array_equal(found.sums[:, :outputs], sums)
    np.testing.assert_array_equal(found.values[:, :outputs], table(sums))
    return {
        "name": one.layer.name,
        "shape": list(one.layer.shape),
        "tokens": len(rows),
        "cycles": found.cycles,
        "load_stalls": model.load_stalls,
        "tiles": [str(code.granularity) for code in supply.codes],
        "switches": len(found.switches),
    }


def totals(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Shares by what was run."""
    sums: dict[tuple[str, str, float], Counter[str]] = {}
    for row in rows:
        key = f"{row['network']}, {row['inputs']}", row["kind"], row["density"]
        sums.setdefault(key, Counter()).update({name: row[name] for name in ("boundaries", "hidden", "lost")})
    for (what, kind, density), sum_of in sums.items():
        if sum_of["boundaries"]:
            share = sum_of["hidden"] / sum_of["boundaries"]
            yield f"{what}, {kind}, {density}: {share:.1%} of {sum_of['boundaries']}, {sum_of['lost']} cycles lost"


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=["rtl", *CALLS], help="rtl, or a network")
    what = parser.parse_args(arguments).what
    torch.set_num_threads(1)
    for call in CALLS:
        if call in what or call.network in what:
            rows = list(measured(call))
            print(*totals(rows), sep="\n", flush=True)
            here = call.network, str(call)
            write("rows", [row for row in written("rows") if (row["network"], row["inputs"]) != here] + rows)
    if "rtl" in what:
        rows = []
        for subject, names in IN_RTL.items():
            for row in in_rtl(subject, 16, names):
                rows.append(row)
                print(row, flush=True)
                write("rtl", rows)


def written(part: str) -> list[dict[str, Any]]:
    """Rows of a part of the file of results."""
    return json.loads(RESULT.read_text()).get(part, []) if RESULT.exists() else []


def write(part: str, rows: list[dict[str, Any]]) -> None:
    """Put rows into the file of results; the other part stays."""
    found = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    RESULT.write_text(json.dumps({**found, "machine": describe(), part: rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
