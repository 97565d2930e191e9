"""Layers of artifacts on the accelerator, from their payloads to their outputs: python benchmarks/hw/reconstructed.py

What an artifact holds of a layer is decoded by the RTL itself, into the master copy in its weight memory and the
factors of its channel table; the layer is then run at each granularity, over the real inputs of a call. Weights are
compared with the software's, sums and rescaled bytes with plain integers, cycles with the model. Any difference is an
error. Each matrix is fetched once before it is run: nothing is hidden behind another one here.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from subjects import FASHION, RESULTS, RETRIEVAL, Subject, describe, examples, models

import regrain
from regrain.artifact import reader
from regrain.core.granularity import Granularity
from regrain.hw.cosim.accelerator import AcceleratorSimulation, Reconstructing, Running
from regrain.hw.machine import Machine
from regrain.hw.model import golden
from regrain.hw.model.codes import Code
from regrain.hw.model.decide import Decided, Deciding
from regrain.hw.model.descriptor import Descriptor
from regrain.hw.model.golden import Requantizer
from regrain.hw.model.image import Image
from regrain.hw.model.memory import Memory
from regrain.hw.model.program import padded
from regrain.hw.model.reorganized import Reorganized
from regrain.hw.model.repack import Master
from regrain.hw.model.timing import simulate_supply
from regrain.hw.networks.layers import Layer, layers_of
from regrain.hw.reconstruction.assembler import Reconstruction, assemble
from regrain.hw.reconstruction.scales import requantizer, row_codes
from regrain.hw.rtl.top import Part
from regrain.models.network import Network
from regrain.models.task_file import load_task
from regrain.pipelines.evaluate import load_network

MACHINE = Machine()
RESULT = RESULTS / "reconstructed.json"
WORDS = 1 << 18
"""Of the memory of master copies: 4 MiB of weights."""


class Case(NamedTuple):
    """A network's name among those of `subjects`, its artifact, the tokens of its input, and layers of it."""

    network: str
    subject: Subject
    tokens: int
    layers: tuple[str, ...]


CASES = {
    "ResNet": Case(
        "ResNet",
        Subject(
            FASHION,
            "fashion_mnist",
            "regrain compress --max-drop-abs 0.01 --cells row",
            lambda path: regrain.compress(
                models.path("fashion_mnist"), path, task=FASHION, max_drop_abs=0.01, cells=["row"]
            ),
        ),
        0,
        ("blocks.2.conv2", "blocks.4.conv1"),
    ),
    "MiniLM": Case(
        "MiniLM",
        Subject(
            RETRIEVAL,
            "minilm",
            "regrain compress --max-drop 1%",
            lambda path: regrain.compress(models.path("minilm"), path, task=RETRIEVAL, max_drop=0.01),
        ),
        32,
        ("encoder.layer.2.attention.output.dense", "encoder.layer.2.intermediate.dense"),
    ),
}


class Stored(NamedTuple):
    """A matrix in an artifact, and what it is multiplied with: rows (tokens, inputs) in steps of `step`."""

    layer: Layer
    payload: bytes
    seed: int
    rows: NDArray[np.int8]
    step: float


def inputs_of(case: Case) -> Iterator[Stored]:
    """The layers of a case, with their inputs while the network works on audit data; a step for each layer."""
    job, path = load_task(case.subject.task), case.subject.file(f"{case.network} bytes")
    network = load_network(Network(job.model()), path, 1)
    layers = {one.path: one for one in layers_of(network.model)[0]}
    given: dict[str, Any] = {}
    for name in case.layers:
        layers[name].module.register_forward_pre_hook(
            lambda _, args, named, name=name: given.update({name: args[0] if args else named["input"]}),
            with_kwargs=True,
        )
    job.outputs(network.model, examples(case.network, job, 1, case.tokens), where="the example")
    file = reader.open(path)
    assert isinstance(file, reader.Artifact)
    for name in case.layers:
        one, part = layers[name], file.part(layers[name].name)
        patches = one.rows(one.examples(given[name].float())).numpy()
        step = float(np.abs(patches).max()) / 127
        rows = np.rint(patches / step).astype(np.int8)
        yield Stored(one, file.container.data[part.start : part.stop].tobytes(), part.seed, rows, step)


def scaled(stored: Stored, made: Reconstruction) -> tuple[int, Requantizer]:
    """The offset that the program adds to the codes of its rows, so that outputs fill int8; and what comes of it."""
    rows = len(made.weights)
    codes = np.repeat(row_codes(made.codes), made.cell[0])[:rows].astype(np.int64)
    scales = np.exp2(codes / 8) * stored.step
    own = stored.layer.bias()
    bias = np.zeros(rows) if own is None else own.numpy().astype(np.float64)
    outputs = golden.product(made.weights, stored.rows) * scales + bias
    offset = round(8 * np.log2(stored.step / (np.abs(outputs).max() / 127)))
    pairs = np.array([requantizer(int(code) + offset) for code in codes])
    return offset, Requantizer(np.rint(bias / scales).astype(np.int64), pairs[:, 0], pairs[:, 1])


def master_of(weights: NDArray[np.int8]) -> Master:
    """Tags that keep whatever isn't 0, at each granularity: all give the same sums."""
    whole = padded(weights, MACHINE)
    blocks = whole.reshape(-1, MACHINE.outputs, whole.shape[1] // MACHINE.block, MACHINE.block)
    kept = weights != 0
    return Master.of(weights, MACHINE, fine=kept, medium=(blocks != 0).any((1, 3)), coarse=kept.any(0))


def descriptor_of(made: Reconstruction, granularity: Granularity, tokens: int) -> Descriptor:
    """Of a matrix whose granularity no metric changes."""
    outputs, inputs = made.weights.shape
    return Descriptor(
        granularity=granularity,
        outputs=outputs,
        blocks=-(-inputs // MACHINE.block),
        tokens=tokens,
        weights=0,
        channels=0,
        listed=True,
        dynamic=True,
        up0=65535,
        up1=65535,
        cost_fine=1,
        cost_medium=1,
        cost_coarse=1,
    )


def run(chip: AcceleratorSimulation, stored: Stored) -> dict[str, Any]:
    """Reconstruct a layer and run it at each granularity. Raises AssertionError for any difference."""
    offset, table = scaled(stored, assemble(stored.payload, seed=stored.seed))
    made = assemble(stored.payload, seed=stored.seed, offset=offset)
    unscaled = Requantizer(table.bias, np.full_like(table.factor, 1), np.full_like(table.shift, 1))
    master, tokens = master_of(made.weights), len(stored.rows)
    sums = golden.product(made.weights, stored.rows)
    before = np.full((WORDS, master.words().shape[1]), 0xFF, np.uint8)
    cycles: dict[str, int] = {}
    for granularity in Granularity:
        image = Image(MACHINE)
        described = descriptor_of(made, granularity, tokens)
        at = image.add(described, unscaled, master=master, program=made.words())
        chip.reset()
        chip.load(image)
        chip.fill(before)
        fetched = chip.reconstruct(Reconstructing(at, stored.payload))
        words = master.words()
        assert fetched.fault == Part.NONE
        assert np.array_equal(chip.copy(0, len(words)), words)
        assert np.array_equal(chip.copy(len(words), WORDS - len(words)), before[len(words) :])
        found = chip.execute(Running(at, stored.rows, len(master.weights)))
        supply = Reorganized(
            master,
            made.weights.shape,
            Deciding((65535, 65535), (0, 0), predefined=Code.of(granularity), dynamic=True),
            Decided(Code.of(granularity)),
        )
        model = simulate_supply(supply, tokens, MACHINE, Memory())
        assert found.fault == Part.NONE
        assert np.array_equal(found.sums[:, : sums.shape[1]], sums)
        assert np.array_equal(found.values[:, : sums.shape[1]], table(sums))
        assert found.counters["cycles"] == model.cycles
        cycles[str(granularity)] = found.cycles
    weights = made.weights.size
    return {
        "layer": stored.layer.path,
        "shape": list(made.weights.shape),
        "tokens": tokens,
        "payload": stored.payload[:4].decode(),
        "payload_bytes": len(stored.payload),
        "bits_a_weight": round(8 * len(stored.payload) / weights, 2),
        "nonzero": round(np.count_nonzero(made.weights) / weights, 3),
        "saturated": made.saturated,
        "instructions": len(made.program),
        "reconstruct_cycles": fetched.cycles,
        "cycles_a_weight": round(fetched.cycles / weights, 3),
        "run_cycles": cycles,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", default=list(CASES), help=f"of {', '.join(CASES)}")
    chosen = parser.parse_args().cases
    torch.set_num_threads(1)
    chip = AcceleratorSimulation(MACHINE, words=WORDS)
    rows = json.loads(RESULT.read_text())["rows"] if RESULT.exists() else []
    rows = [one for one in rows if one["network"] not in chosen]
    for case in (CASES[name] for name in chosen):
        for stored in inputs_of(case):
            found = {"network": case.network, "artifact": case.subject.how} | run(chip, stored)
            rows.append(found)
            print(*found.values(), flush=True)
    RESULT.write_text(json.dumps({"machine": describe(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
