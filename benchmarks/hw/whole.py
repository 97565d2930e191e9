"""Whole networks in the hardware itself, each value and cycle beside its models: python benchmarks/hw/whole.py

Every linear layer and convolution that a network calls is run by the accelerator's RTL, compiled with Verilator, on the
real int8 inputs of that call, and the network goes on with the sums that come out: its outputs are the hardware's. Sums
and rescaled bytes are compared with plain integers, cycles, stalls and events with the cycle model, and what goes into
the network with what `regrain simulate` computes. Any difference is an error.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from subjects import RESULTS, describe, examples, on_the_machine

from regrain.hw.cosim.engine import EngineSimulation
from regrain.hw.cosim.feed import Feed
from regrain.hw.machine import Machine
from regrain.hw.model import golden
from regrain.hw.model.golden import Requantizer
from regrain.hw.model.memory import Memory
from regrain.hw.model.program import Program
from regrain.hw.model.timing import Timing
from regrain.hw.networks.quantize import MOST
from regrain.hw.networks.schedule import scheduled
from regrain.hw.networks.simulated import Simulated

MACHINE = Machine()
RESULT = RESULTS / "whole.json"
MEMORIES = {"no limit": Memory(), "32 bytes a cycle, latency 60": Memory(128, 128, 60)}
"""Half of the bytes are for weights, half for activations."""
EVENTS = ("words", "macs", "steps", "list_reads", "gather_reads", "bank_writes", "list_writes")
SENTENCES = (16, 32)


@dataclass(frozen=True)
class Case:
    """A network, what it is given, and what feeds the array."""

    subject: str
    inputs: str
    memory: str


class Hardware:
    """The forward of one layer, by the RTL. `differences` are what its models and it don't agree in."""

    def __init__(self, one: Simulated, case: Case, engine: EngineSimulation) -> None:
        self.one, self.engine, self.memory = one, engine, MEMORIES[case.memory]
        self.encoding, self.program = one.variant(None).encoded
        self.differences: list[str] = []
        self.cycles = self.stalls = 0
        self.seconds = self.processor = 0.0

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        one = self.one
        rows, wanted = inputs_of(one, x), one(x)
        scales, bias = scaling(one)
        channels = rescaling(scales.numpy(), bias.numpy(), float(wanted.abs().max()) / MOST, self.program)
        began, clock = time.perf_counter(), time.process_time()
        feed = Feed.of(self.program, len(rows), MACHINE, self.memory)
        found = self.engine.run(self.program, rows, channels, feed)
        self.seconds += time.perf_counter() - began
        self.processor += time.process_time() - clock
        model, runs = scheduled(self.program, len(rows), MACHINE, self.memory)
        sums = golden.product(one.variant(None).weights, rows)
        self._compare("runs", runs, 1)
        self._compare("sums, word by word", golden.run(self.program, rows, MACHINE), sums)
        self._compare("sums", self._whole(found.sums), sums)
        self._compare("values", found.values, channels(self._tiles(sums)))
        self._compare("counters", found.counters, counted(model))
        made = one.layer.outputs((torch.from_numpy(self._whole(found.sums)) * scales + bias).float(), x).to(x.dtype)
        self._compare("outputs", made.numpy(), wanted.numpy())
        self.cycles += found.cycles
        self.stalls += model.load_stalls + model.activation_stalls + model.drain_stalls
        return made

    def _compare(self, what: str, found: Any, wanted: Any) -> None:
        if not np.array_equal(found, wanted):
            self.differences.append(f"{self.one.layer.name}: {what}")

    def _whole(self, sums: NDArray[np.int32]) -> NDArray[np.int64]:
        """Sums of the tiles that were run, as those of all outputs: (tokens, outputs)."""
        tiles, outputs = -(-self.program.shape[0] // MACHINE.outputs), MACHINE.outputs
        whole = np.zeros((len(sums), tiles, outputs), np.int64)
        whole[:, list(self.program.tile_numbers)] = sums.reshape(len(sums), -1, outputs)
        return whole.reshape(len(sums), -1)[:, : self.program.shape[0]]

    def _tiles(self, sums: NDArray[np.int64]) -> NDArray[np.int64]:
        """Sums of all outputs, as those of the tiles that are run: (tokens, tiles * outputs)."""
        whole = np.pad(sums, ((0, 0), (0, -sums.shape[1] % MACHINE.outputs)))
        tiles = whole.reshape(len(sums), -1, MACHINE.outputs)[:, list(self.program.tile_numbers)]
        return tiles.reshape(len(sums), -1)


def inputs_of(one: Simulated, x: torch.Tensor) -> NDArray[np.int8]:
    """What a layer is given, as the accelerator gets it: (tokens, inputs)."""
    examples = one.layer.examples(x.float())
    factors = torch.from_numpy(one.factors * np.float32(one.step))
    steps = torch.round(examples / (factors if examples.dim() == 2 else factors[:, None, None])).clamp_(-MOST, MOST)
    return np.ascontiguousarray(one.layer.rows(steps).numpy().astype(np.int8))


def scaling(one: Simulated) -> tuple[torch.Tensor, torch.Tensor]:
    """A layer's outputs are its sums times scales (outputs,), plus a bias (outputs,), float64."""
    scales, own = one.integers.scales.astype(np.float64) * one.step, one.layer.bias()
    return torch.from_numpy(scales), torch.zeros(len(scales)).double() if own is None else own.double()


def rescaling(scales: NDArray[np.float64], bias: NDArray[np.float64], step: float, program: Program) -> Requantizer:
    """Of each lane of each tile that is run, into such steps; lanes beyond the outputs have a scale of 1."""
    room = -len(scales) % MACHINE.outputs
    chosen = list(program.tile_numbers)

    def lanes(numbers: NDArray[np.float64], fill: float) -> NDArray[np.float64]:
        return np.pad(numbers, (0, room), constant_values=fill).reshape(-1, MACHINE.outputs)[chosen].reshape(-1)

    return Requantizer.of(lanes(scales / step, 1.0), lanes(bias / step, 0.0))


def counted(model: Timing) -> dict[str, int]:
    """The cycle model's numbers by the names of the hardware's counters."""
    return {
        "cycles": model.cycles,
        "load_stalls": model.load_stalls,
        "act_stalls": model.activation_stalls,
        "drain_stalls": model.drain_stalls,
        "tokens": model.events.outputs // MACHINE.outputs,
    } | {name: getattr(model.events, name) for name in EVENTS}


@contextmanager
def in_place(layers: list[Hardware]) -> Iterator[None]:
    """The network's layers are the hardware inside."""
    for layer in layers:
        layer.one.layer.module.forward = layer
    try:
        yield
    finally:
        for layer in layers:
            del layer.one.layer.module.forward


def run(subject: str, engine: EngineSimulation) -> Iterator[dict[str, Any]]:
    """All cases of a subject."""
    with on_the_machine(subject, MACHINE) as (job, network, simulated):
        for tokens in SENTENCES if subject.startswith("MiniLM") else (0,):
            example = examples(subject, job, 1, tokens)
            for memory in MEMORIES:
                case = Case(subject, f"{tokens} tokens" if tokens else "1 image", memory)
                layers = [Hardware(one, case, engine) for one in simulated]
                with in_place(layers):
                    job.outputs(network.model, example, where="the example")
                yield row(case, [layer for layer in layers if layer.cycles])


def row(case: Case, layers: list[Hardware]) -> dict[str, Any]:
    cycles, processor = sum(layer.cycles for layer in layers), sum(layer.processor for layer in layers)
    return {
        "network": case.subject,
        "inputs": case.inputs,
        "memory": case.memory,
        "layers": len(layers),
        "cycles": cycles,
        "stalls": sum(layer.stalls for layer in layers),
        "differences": [difference for layer in layers for difference in layer.differences],
        "wall_seconds": round(sum(layer.seconds for layer in layers), 2),
        "cpu_seconds": round(processor, 2),
        "cycles_per_cpu_second": round(cycles / processor),
    }


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "subjects",
        nargs="*",
        default=["ResNet", "ResNet 16x1", "ResNet 16x1 trained", "ResNet N:8", "MiniLM", "MiniLM 16x1"],
    )
    chosen = parser.parse_args(arguments).subjects
    torch.set_num_threads(1)
    engine = EngineSimulation(MACHINE)
    rows = json.loads(RESULT.read_text())["rows"] if RESULT.exists() else []
    rows = [one for one in rows if one["network"] not in chosen]
    for subject in chosen:
        for found in run(subject, engine):
            rows.append(found)
            print(*found.values(), flush=True)
            RESULT.write_text(json.dumps({"machine": describe(), "macs": MACHINE.macs, "rows": rows}, indent=1) + "\n")
    wrong = [difference for one in rows for difference in one["differences"]]
    if wrong:
        raise SystemExit(f"{len(wrong)} differences: {wrong}")


if __name__ == "__main__":
    main()
