"""Sparse networks beside dense ones on the same array, at equal accuracy: python benchmarks/hw/equal_accuracy.py

Accuracy is that of the simulated integers on the audit split, which no command ever sees, beside the original's floats;
of texts it is D, on half of it. Cycles and energy are of a call with one example and of one with 16, by every
energy table, with feature maps in memory outside or on chip; beside the same array with every weight of the original's
shapes taking its turn (*same array*), and beside a *dense array*, whose processing elements have no multiplexer and
whose weights no index.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from subjects import FASHION, RESULTS, SUBJECTS, describe, examples, on_the_machine

from regrain.accuracy import FidelityMeter, compare
from regrain.hw.energy import Features, energy
from regrain.hw.energy_table import Table, load, names
from regrain.hw.machine import VALUE_BITS, Machine
from regrain.hw.model.memory import Memory
from regrain.hw.model.program import Program, dense
from regrain.hw.model.timing import Timing
from regrain.hw.networks.schedule import scheduled, stalls
from regrain.hw.networks.simulated import Simulated, replaced
from regrain.models.task_file import load_task
from regrain.pipelines.configurations import configurations, rankings
from regrain.pipelines.hardware import Hardware
from regrain.pipelines.simulated_layers import features_of, measured

MACHINE, MEMORY = Machine(), Memory()
NARROW = Memory(128, 128, 60)
"""32 bytes a cycle, half of them for weights."""
KEPT = {"outside": 0, "on chip": 2 << 20}
"""Bytes of the memory for feature maps: 2 MiB hold those of 16 examples."""
COUNTS, TOKENS = (1, 16), 32
TEXT_BATCHES = 8
"""Of the 16 of the audit; their order is shuffled."""
SYNTHESIS = RESULTS / "synthesis.json"


def subject(name: str) -> dict[str, Any]:
    """All that is measured of one."""
    with on_the_machine(name, MACHINE) as (job, network, simulated):
        found: dict[str, Any] = {
            "name": name,
            "how": SUBJECTS[name].how,
            "accuracy": accuracy(name, job, network, simulated),
            "calls": [],
        }
        for count in COUNTS:
            for one in simulated:
                one.calls.clear()
                one.recording = True
            with replaced(simulated):
                job.outputs(network.model, examples(name, job, count, TOKENS), where="the examples")
            found["calls"].append(
                {"examples": count, **call([one for one in simulated if one.calls], ranked=count == 1)}
            )
    return found


def accuracy(name: str, job: Any, network: Any, simulated: list[Simulated]) -> dict[str, Any]:
    """The simulated network on the audit split, beside the original in floats: points of accuracy, or D."""
    for one in simulated:
        one.recording = False
    wanted = original(SUBJECTS[name].task)
    if SUBJECTS[name].task == FASHION:
        with replaced(simulated):
            after = job.scores(network.model, "audit")["accuracy"]
        return compare(wanted, after, confidence=0.95).to_json()
    meter = FidelityMeter("embeddings")
    with replaced(simulated):
        for rows, batch in zip(wanted, job.batches("audit"), strict=False):
            meter.add(rows.numpy(), job.outputs(network.model, batch, where="a batch of the audit").numpy())
    return meter.result().to_json(0.95)


@cache
def original(task: Path) -> Any:
    """Of the network as it was trained, in floats: scores of images, or embeddings of the first texts, by batch."""
    job = load_task(task)
    model = job.model()
    if task == FASHION:
        return job.scores(model, "audit")["accuracy"]
    batches = itertools.islice(job.batches("audit"), TEXT_BATCHES)
    return [job.outputs(model, batch, where="a batch of the audit") for batch in batches]


def call(simulated: Sequence[Simulated], *, ranked: bool) -> dict[str, Any]:
    """Cycles and energy of one call of a network, and its ratios to those of dense arrays."""
    found: dict[str, Any] = {"energy": []}
    for place, kept in KEPT.items():
        features = features_of(simulated, kept)
        for table in map(load, names()):
            layers = list(measured(simulated, Hardware(MACHINE, MEMORY, table, kept), 1, lambda *_: None))
            parts: Counter[str] = Counter()
            for layer in layers:
                parts.update(layer.energy)
            ours, same = sum(parts.values()), sum(sum(layer.dense_energy.values()) for layer in layers)
            rival = sum(dense_array(layer.dense, table, features[layer.name]) for layer in layers)
            found["energy"].append(
                {
                    "features": place,
                    "table": table.name,
                    "pj": ours,
                    "same_array": same / ours,
                    "dense_array": rival / ours,
                    "parts": {part: round(pj / ours, 4) for part, pj in parts.items() if pj > 0.005 * ours},
                }
            )
        if ranked:
            every = list(configurations(simulated, Hardware(MACHINE, MEMORY, load("horowitz"), kept)))
            found[f"configurations, features {place}"] = {
                "energy": [one.to_json() for one in every],
                "rankings": rankings(every),
            }
    timings = [layer.timing for layer in layers]
    found |= {
        "cycles": sum(timing.cycles for timing in timings),
        "stalls": {cause: sum(stalls(timing)[cause] for timing in timings) for cause in stalls(timings[0])},
        "same_array_cycles": sum(layer.dense.cycles for layer in layers) / sum(timing.cycles for timing in timings),
        "same_array_cycles, 32 bytes a cycle": narrow(simulated),
        "encodings": dict(Counter(layer.encoding for layer in layers)),
        "by_layer": [
            {
                "name": layer.name,
                "encoding": layer.encoding,
                "density": round(layer.density, 3),
                "cycles": layer.timing.cycles,
                "dense": layer.dense.cycles,
            }
            for layer in layers
        ],
    }
    return found


def narrow(simulated: Sequence[Simulated]) -> float:
    """The ratio of cycles where memory is narrow."""
    ours = theirs = 0
    for one in simulated:
        tokens = Counter(call.tokens for call in one.calls)
        roomy = replace(MACHINE, bank_words=max(MACHINE.bank_words, one.layer.shape[1] + MACHINE.block))
        whole = dense(np.ones(one.layer.shape, np.int8), roomy)
        ours += _cycles(one.variant(None).encoded[1], tokens)
        theirs += _cycles(whole, tokens)
    return theirs / ours


def _cycles(program: Program, tokens: Counter[int]) -> int:
    return sum(scheduled(program, each, MACHINE, NARROW)[0].cycles * count for each, count in tokens.items())


def dense_array(timing: Timing, table: Table, features: Features) -> float:
    """pJ of a dense run on processing elements that were built for it: no multiplexer, and weights without an index.

    By the table `own` they take what was measured of `dense_pe`; by others what this machine's take without selection
    and without the registers of indices. Words of weights are as much narrower.
    """
    events = timing.events
    narrower = VALUE_BITS / (VALUE_BITS + MACHINE.index_bits)
    plain = replace(timing, events=replace(events, weight_bits_fetched=round(events.weight_bits_fetched * narrower)))
    parts = energy(plain, table, MACHINE, MEMORY, features)
    parts["weight banks"] *= narrower
    if table.name != "own":
        parts["selection"] = 0.0
        parts["registers"] -= events.words * MACHINE.rows * MACHINE.index_bits * MACHINE.outputs * table.pj["register"]
        return sum(parts.values())
    shift = events.outputs * MACHINE.accumulator * (1 + MACHINE.rows / 2) * table.pj["register"]
    parts |= {"arithmetic": 0.0, "selection": 0.0, "gated lanes": 0.0, "registers": shift}
    pe = json.loads(SYNTHESIS.read_text())["energy"]

    def lane(cycle: str) -> float:
        row = pe[f"osu018/dense_pe/{cycle}"]
        return (row["switched"] + row["clock"]) / MACHINE.lanes

    full = f"{MACHINE.lanes} lanes"
    working = pe[f"osu018/dense_pe/{full}"]["macs"] / MACHINE.lanes
    busy = (lane(full) - (1 - working) * lane("0 lanes")) / working
    parts["stalls"] = sum(stalls(timing).values()) * MACHINE.macs * lane("0 lanes, at rest")
    return sum(parts.values()) + events.macs * busy + events.gated * lane("0 lanes")


def area() -> dict[str, float]:
    """This machine's processing element beside one built for dense matrices, on each cell library."""
    cells = json.loads(SYNTHESIS.read_text())["cells"]
    return {
        f"{library}, {what}": cells[f"{library}/pe"][what] / cells[f"{library}/plain_dense_pe"][what]
        for library in sorted({name.split("/")[0] for name in cells})
        for what in ("area", "longest_ns")
    }


def summary(found: dict[str, Any]) -> Iterator[str]:
    """A line for each call."""
    accuracy = found["accuracy"]
    loss = f"{100 * accuracy['drop']:.2f} points" if "drop" in accuracy else f"D {accuracy['D']:.4f}"
    for one in found["calls"]:
        ratios = (
            f"{row['table']} {row['features']} {row['same_array']:.2f} ({row['dense_array']:.2f})"
            for row in one["energy"]
        )
        cycles = f"cycles {one['same_array_cycles']:.2f}"
        yield f"{found['name']}: {loss}; {one['examples']} at once: {cycles}; energy {', '.join(ratios)}"


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subjects", nargs="*", default=list(SUBJECTS))
    torch.set_num_threads(1)
    path = RESULTS / "equal_accuracy.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    for name in parser.parse_args(arguments).subjects:
        rows = [row for row in rows if row["name"] != name] + [subject(name)]
        print(*summary(rows[-1]), sep="\n", flush=True)
        path.write_text(json.dumps({"machine": describe(), "pe": area(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
