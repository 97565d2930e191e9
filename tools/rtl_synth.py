"""Components as gates and on an FPGA: python tools/rtl_synth.py [STAGE ...] [--only NAME ...]

cells: areas and longest paths in open cell libraries (Debian: qflow-tech-osu018, qflow-tech-osu035). fabric: what an
ECP5 takes, and how fast it runs, placed and routed from several seeds. energy: of the processing element, with weights
and activations of the example network. Without a name: all three, and tables of them.

What is found goes into benchmarks/results/hw/synthesis.json at once, with a digest of the circuit. A circuit that is
there with the same digest isn't done again, unless asked for; so a run that was stopped goes on where it was. What a
tool doesn't manage, or a chip doesn't hold, stands under `limits`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import runpy
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from synthesis_tables import LIBRARIES, RESULTS, ROOT, WHOLE, tables

from regrain.core.errors import HardwareError
from regrain.hw.components import COMPONENTS
from regrain.hw.cosim.emit import modules_of
from regrain.hw.machine import Machine
from regrain.hw.networks.quantize import Integers
from regrain.hw.rtl.dense_pe import DensePE
from regrain.hw.rtl.pe import PE
from regrain.hw.rtl.pins import Pins
from regrain.hw.synthesis import actions, liberty, paths, yosys

TECHNOLOGIES = Path("/usr/share/qflow/tech")
SEEDS = 5
MACHINE = Machine()
CALLED = {"memory": "metadata", "decoder": "descriptor", "unit": "reconstruct", "writer": "master_writer"}
"""Components that those which are made of others call otherwise."""

Made = Callable[[Machine], Any]


def made() -> dict[str, Made]:
    """Components, and one more to compare with."""
    return dict(COMPONENTS) | {"plain_dense_pe": lambda machine: DensePE(machine, gated=False)}


def text(component: Any, name: str) -> str:
    from amaranth.back import rtlil

    parts = {name: component, **modules_of(component)}
    return "\n".join(rtlil.convert(part, name=each, emit_src=False) for each, part in parts.items())


def library(name: str) -> tuple[Path, liberty.Library]:
    path = TECHNOLOGIES / name / f"{name}_stdcells.lib"
    if not path.exists():
        raise SystemExit(f"{path} must be there; on Debian: apt-get install qflow-tech-{name}")
    return path, liberty.read(path)


@dataclass
class Results:
    """The file of results, and what may be done for it: `minutes` of CPU time a step; how many `seeds`; what is there,
    `again`.
    """

    minutes: float
    seeds: int
    again: bool

    def lacks(self, stage: str, name: str, circuit: str) -> bool:
        """Whether neither the whole row of this circuit is there nor why it can't be. Says what is done now."""
        found, key = _stored(), f"{stage} {name}"
        row = found.get(stage, {}).get(name)
        whole = row is not None and len(row.get("megahertz", range(self.seeds))) >= self.seeds
        ended = whole or key in found.get("limits", {})
        if ended and found.get("circuits", {}).get(key) == circuit and not self.again:
            return False
        print(f"{datetime.now():%H:%M:%S} {key}", file=sys.stderr, flush=True)
        return True

    def begun(self, stage: str, name: str, circuit: str) -> dict[str, Any]:
        """What is there of a row of this circuit, to go on with."""
        found = _stored()
        same = found.get("circuits", {}).get(f"{stage} {name}") == circuit and not self.again
        return dict(found.get(stage, {}).get(name, {})) if same else {}

    def store(self, stage: str, name: str, row: dict[str, Any], circuit: str) -> None:
        """Put a row into the file."""
        tools, found, key = _tools(), _stored(), f"{stage} {name}"
        found["tools"] = tools
        found["machine"] = asdict(MACHINE)
        found.setdefault(stage, {})[name] = row
        found.setdefault("circuits", {})[key] = circuit
        found.get("limits", {}).pop(key, None)
        _write(found)
        print(key, *row.values(), flush=True)

    def limit(self, stage: str, name: str, why: str, circuit: str) -> None:
        """Note why a row, or a part of it, isn't there. That of another circuit goes."""
        found, key = _stored(), f"{stage} {name}"
        if found.get("circuits", {}).get(key) != circuit:
            found.get(stage, {}).pop(name, None)
        found.setdefault("limits", {})[key] = why
        found.setdefault("circuits", {})[key] = circuit
        _write(found)
        print(key, why, flush=True)


@cache
def _tools() -> dict[str, str]:
    return {tool: yosys.version(tool) for tool in ("yosys", "nextpnr_ecp5")}


def _stored() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return found


def _write(found: dict[str, Any]) -> None:
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


def digest(*texts: str) -> str:
    """Of a circuit and what is done with it."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def parts_of(component: Any, name: str, design: str) -> dict[str, str]:
    """Modules of a design that are mapped as components of their own, and what those are called."""
    parts = {each: each for each in modules_of(component)}
    if name in WHOLE:
        inside = re.findall(rf"^module \\(x_{name}\.\w+)$", design, re.MULTILINE)
        parts |= {each: CALLED.get(each.partition(".")[2], each.partition(".")[2]) for each in inside}
    return parts


def cells(name: str, results: Results) -> None:
    """A component of the cells of a library, and the same gates of the others, which have cells of the same names."""
    component = made()[name](MACHINE)
    design = text(component, f"x_{name}")
    parts, circuit = parts_of(component, name, design), digest(design)
    lacking = [each for each in LIBRARIES if results.lacks("cells", f"{each}/{name}", circuit)]
    if not lacking:
        return
    path, read = library(LIBRARIES[0])
    try:
        netlist = yosys.to_cells(design, f"x_{name}", path, read, tuple(parts), minutes=results.minutes)
    except HardwareError as error:
        for technology in lacking:
            results.limit("cells", f"{technology}/{name}", str(error), circuit)
        return
    for technology in lacking:
        drawn = netlist.on(library(technology)[1])
        found = {
            "area": drawn.area,
            "cells": len(drawn.gates),
            "flip_flops": sum(gate.cell.next_state is not None for gate in drawn.gates),
            "longest_ns": round(paths.longest(drawn), 2),
            "memory_bits": sum(width * rows for width, rows in drawn.memories),
            "parts": {parts[each]: count for each, count in drawn.parts.items()},
        }
        results.store("cells", f"{technology}/{name}", found, circuit)


def fabric(name: str, results: Results) -> None:
    """A component on an ECP5: counted alone, placed between registers. Goes on behind the seeds that are there."""
    design = text(made()[name](MACHINE), f"x_{name}")
    circuit = digest(design)
    if not results.lacks("fabric", name, circuit):
        return
    row, larger = results.begun("fabric", name, circuit), _stored().get("limits", {}).get("fabric array")
    if name in WHOLE and larger:
        results.limit("fabric", name, f"has an array, which is {larger}", circuit)
        return
    try:
        if not row:
            taken, _ = yosys.to_ecp5(design, f"x_{name}", minutes=results.minutes)
            row = {**asdict(taken), "megahertz": []}
            results.store("fabric", name, row, circuit)
            if excess := taken.excess(yosys.LARGEST):
                raise HardwareError(f"larger than an LFE5U-85F: {excess}")
        _, netlist = yosys.to_ecp5(text(Pins(made()[name](MACHINE)), "top"), "top", minutes=results.minutes)
        for seed in range(len(row["megahertz"]) + 1, results.seeds + 1):
            row["megahertz"].append(round(yosys.place(netlist, seed, minutes=results.minutes), 1))
            results.store("fabric", name, row, circuit)
    except HardwareError as error:
        results.limit("fabric", name, str(error), circuit)


CYCLES, MACHINES = 65, 256


def operands() -> tuple[np.ndarray, np.ndarray]:
    """Weights (outputs, inputs) and activations (tokens, channels), int8, of a layer amid the example network."""
    import torch

    folder = ROOT / "examples" / "tasks" / "fashion_mnist"
    sys.path.insert(0, str(folder))
    task = runpy.run_path(str(folder / "task.py"))
    model = task["load_model"]()
    layers = [
        module for module in model.modules() if isinstance(module, torch.nn.Conv2d) and module.kernel_size == (3, 3)
    ]
    layer, seen = layers[len(layers) // 2], []
    layer.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0]))
    with torch.inference_mode():
        model(next(iter(task["inputs"]("calibration"))))
    x = seen[0].permute(0, 2, 3, 1).reshape(-1, layer.in_channels).numpy()
    weights = Integers.of(layer.weight.detach().permute(0, 2, 3, 1).reshape(layer.out_channels, -1).numpy(), MACHINE)
    return weights.values, np.clip(np.rint(x * (127 / np.quantile(x, 0.999))), -128, 127).astype(np.int8)


def stream(weights: np.ndarray, activations: np.ndarray, live: int, active: int) -> dict[str, np.ndarray]:
    """Machines that each run four outputs over some tokens' blocks, eight words a block; `live` lanes of them work.

    Weights and indices of the others stay, as the element above holds them.
    """
    rng = np.random.default_rng(0)
    blocks = activations.shape[1] // 8
    place = np.arange(CYCLES) % 8
    of = np.repeat(rng.integers(blocks, size=(-(-CYCLES // 8), MACHINES)), 8, axis=0)[:CYCLES]
    token = rng.integers(len(activations), size=MACHINES)
    found = {f"activation_{k}": activations[token, 8 * of + k].astype(np.int64) for k in range(8)}
    for lane in range(MACHINE.lanes):
        output = rng.integers(len(weights), size=MACHINES)
        given = weights[output, 8 * of + place[:, None]].astype(np.int64)
        works = (given != 0) & (lane < live)
        last = np.maximum.accumulate(np.where(works, np.arange(CYCLES)[:, None], 0), axis=0)
        found[f"weight_{lane}"] = np.take_along_axis(given, last, 0)
        found[f"index_{lane}"] = place[last]
        found[f"live_{lane}"] = works.astype(np.int64)
    return found | {"active": np.full(of.shape, active)}


def energy(name: str, results: Results) -> None:
    """pJ of actions, and of whole processing elements in cycles with 4, 2 and no lanes at work, and at rest."""
    builds = {"pe": PE, "dense_pe": DensePE}
    if name not in builds:
        return
    design = text(builds[name](MACHINE), "x_pe")
    circuit = digest(design)
    if not results.lacks("energy", f"osu018/{name}/0 lanes, at rest", circuit):
        return
    weights, activations = operands()
    path, read = library("osu018")
    if name == "pe":
        full = stream(weights, activations, live=4, active=1)
        met = np.stack([full[f"activation_{cycle % 8}"][cycle] for cycle in range(CYCLES)])
        found = actions.costs(full["weight_0"].astype(np.int8), met.astype(np.int8), path, read)
        results.store("energy", "osu018/actions", {each: asdict(cost) for each, cost in found.items()}, circuit)
    netlist = yosys.to_cells(design, "x_pe", path, read, minutes=results.minutes)
    for live, active in ((4, 1), (2, 1), (0, 1), (0, 0)):
        given = stream(weights, activations, live, active)
        spent, cycles = actions.element(netlist, read, MACHINE, given)
        macs = sum(int(given[f"live_{lane}"][1:].sum()) for lane in range(MACHINE.lanes)) / cycles
        row = {part: getattr(spent, part) / cycles for part in ("switched", "settled", "clock")}
        row_name = f"osu018/{name}/{live} lanes{'' if active else ', at rest'}"
        results.store("energy", row_name, {**row, "macs": macs}, circuit)


STAGES = {"cells": cells, "fabric": fabric, "energy": energy}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", choices=[*STAGES, "tables", []], default=[])
    parser.add_argument("--only", nargs="+", choices=list(made()), default=list(made()), metavar="NAME")
    parser.add_argument("--minutes", type=float, default=yosys.MINUTES, help="CPU time of a step: %(default)g")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="times a component is placed: %(default)d")
    parser.add_argument("--again", action="store_true", help="also what is there already")
    arguments = parser.parse_args()
    wanted = arguments.stages or [*STAGES, "tables"]
    results = Results(arguments.minutes, arguments.seeds, arguments.again)
    for stage, run in STAGES.items():
        for name in arguments.only if stage in wanted else ():
            run(name, results)
    if "tables" in wanted:
        print(tables())


if __name__ == "__main__":
    main()
