"""Components as gates and on an FPGA: python tools/rtl_synth.py [STAGE ...] [--only NAME ...]

cells: areas and longest paths in open cell libraries (Debian: qflow-tech-osu018, qflow-tech-osu035). fabric: what an
ECP5 takes, and how fast it runs, placed and routed from several seeds. energy: of the processing element, with weights
and activations of the example network. tables: prints what the other three put into
benchmarks/results/hw/synthesis.json. Without a name: all of them.
"""

from __future__ import annotations

import argparse
import json
import runpy
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from regrain.core.errors import HardwareError
from regrain.hw.components import COMPONENTS
from regrain.hw.cosim.emit import modules_of
from regrain.hw.machine import Machine
from regrain.hw.networks.quantize import Integers
from regrain.hw.rtl.dense_pe import DensePE
from regrain.hw.rtl.pe import PE
from regrain.hw.rtl.pins import Pins
from regrain.hw.synthesis import actions, liberty, paths, yosys

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "hw" / "synthesis.json"
TECHNOLOGIES = Path("/usr/share/qflow/tech")
LIBRARIES = ("osu018", "osu035")
SEEDS = range(1, 6)
MACHINE = Machine()
YARDSTICKS = ("dense_pe", "plain_dense_pe")
NOT_PLACED = ("array", "engine", "top")
"""Larger than a chip: 256 multipliers."""
INSIDE = ("top", "engine", "rans_lanes", "alias_tables", *YARDSTICKS)
"""Parts of others, or none of the machine."""

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


def cells(only: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each component in each library."""
    for name in only:
        for technology in LIBRARIES:
            path, read = library(technology)
            component = made()[name](MACHINE)
            netlist = yosys.to_cells(
                text(component, f"x_{name}"), f"x_{name}", path, read, tuple(modules_of(component))
            )
            flip_flops = sum(gate.cell.next_state is not None for gate in netlist.gates)
            row = {"area": netlist.area, "cells": len(netlist.gates), "flip_flops": flip_flops}
            memories = sum(width * rows for width, rows in netlist.memories)
            row |= {
                "longest_ns": round(paths.longest(netlist), 2),
                "memory_bits": memories,
                "parts": dict(netlist.parts),
            }
            yield f"{technology}/{name}", row


def fabric(only: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each component on an ECP5."""
    for name in only:
        if name in NOT_PLACED:
            continue
        taken, _ = yosys.to_ecp5(text(made()[name](MACHINE), f"x_{name}"), f"x_{name}")
        _, netlist = yosys.to_ecp5(text(Pins(made()[name](MACHINE)), "top"), "top")
        yield name, {**asdict(taken), "megahertz": [round(yosys.place(netlist, seed), 1) for seed in SEEDS]}


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
    """Machines that each run four outputs over some tokens' blocks, eight words a block; `live` lanes of them work."""
    rng = np.random.default_rng(0)
    blocks = activations.shape[1] // 8
    place = np.arange(CYCLES) % 8
    of = np.repeat(rng.integers(blocks, size=(-(-CYCLES // 8), MACHINES)), 8, axis=0)[:CYCLES]
    token = rng.integers(len(activations), size=MACHINES)
    found = {f"activation_{k}": activations[token, 8 * of + k].astype(np.int64) for k in range(8)}
    for lane in range(MACHINE.lanes):
        output = rng.integers(len(weights), size=MACHINES)
        found[f"weight_{lane}"] = weights[output, 8 * of + place[:, None]].astype(np.int64)
        found[f"index_{lane}"] = np.broadcast_to(place[:, None], of.shape)
        found[f"live_{lane}"] = np.full(of.shape, int(lane < live)) & (found[f"weight_{lane}"] != 0)
    return found | {"active": np.full(of.shape, active)}


def energy(only: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """pJ of actions, and of whole processing elements in cycles with 4, 2 and no lanes at work, and at rest."""
    builds = {name: build for name, build in (("pe", PE), ("dense_pe", DensePE)) if name in only}
    if not builds:
        return
    weights, activations = operands()
    path, read = library("osu018")
    full = stream(weights, activations, live=4, active=1)
    met = np.stack([full[f"activation_{cycle % 8}"][cycle] for cycle in range(CYCLES)])
    if PE in builds.values():
        found = actions.costs(full["weight_0"].astype(np.int8), met.astype(np.int8), path, read)
        yield "osu018/actions", {name: asdict(cost) for name, cost in found.items()}
    for name, build in builds.items():
        netlist = yosys.to_cells(text(build(MACHINE), "x_pe"), "x_pe", path, read)
        for live, active in ((4, 1), (2, 1), (0, 1), (0, 0)):
            given = stream(weights, activations, live, active)
            spent, cycles = actions.element(netlist, read, MACHINE, given)
            macs = sum(int(given[f"live_{lane}"][1:].sum()) for lane in range(MACHINE.lanes)) / cycles
            row = {part: getattr(spent, part) / cycles for part in ("switched", "settled", "clock")}
            yield f"osu018/{name}/{live} lanes{'' if active else ', at rest'}", {**row, "macs": macs}


STAGES = {"cells": cells, "fabric": fabric, "energy": energy}


def store(stage: str, name: str, row: dict[str, Any]) -> None:
    """Put a row into the file of results, at once: a run may be long."""
    tools = {tool: yosys.version(tool) for tool in ("yosys", "nextpnr_ecp5")}
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    found["tools"] = tools
    found["machine"] = asdict(MACHINE)
    found.setdefault(stage, {})[name] = row
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    print(stage, name, *row.values(), flush=True)


def tables() -> str:
    """Markdown of what is in the file of results."""
    found = json.loads(RESULTS.read_text())
    return "\n".join([*_tools(found), *_cells(found), *_pair(found), *_whole(found), *_fabric(found), *_energy(found)])


def _table(titles: list[str], rows: list[list[object]]) -> list[str]:
    lines = [titles, ["---"] * len(titles), *rows]
    return [*(f"| {' | '.join(map(str, line))} |" for line in lines), ""]


def _tools(found: dict[str, Any]) -> list[str]:
    return [f"Tools: {'; '.join(found['tools'].values())}", ""]


def _cells(found: dict[str, Any]) -> list[str]:
    """Areas in µm² of cells: the libraries' unit."""
    names = sorted({name.partition("/")[2] for name in found["cells"]})
    rows = []
    for name in names:
        one, other = (found["cells"].get(f"{technology}/{name}") for technology in LIBRARIES)
        if one and other:
            memory = f"{one['memory_bits'] / 1024:,.0f}" if one["memory_bits"] else "-"
            areas = [f"{one['area']:,.0f}", one["longest_ns"], f"{other['area']:,.0f}", other["longest_ns"]]
            rows.append([name, f"{one['cells']:,}", f"{one['flip_flops']:,}", *areas, memory])
    titles = ["component", "cells", "flip-flops", "osu018 µm²", "ns", "osu035 µm²", "ns", "memory left out, kbit"]
    return _table(titles, rows)


def _pair(found: dict[str, Any]) -> list[str]:
    rows = []
    for technology in LIBRARIES:
        area = {name: found["cells"][f"{technology}/{name}"]["area"] for name in ("pe", *YARDSTICKS)}
        over = [f"+{100 * (area['pe'] / area[name] - 1):.1f} %" for name in YARDSTICKS]
        rows.append([technology, *(f"{each:,.0f}" for each in area.values()), *over])
    titles = ["library", "sparse PE", "dense PE, gated", "dense PE, plain", "over the gated one", "over the plain one"]
    return _table(titles, rows)


def _whole(found: dict[str, Any]) -> list[str]:
    """The machine: processing elements as often as the array has them."""
    rows = []
    for technology in LIBRARIES:
        parts = {n.partition("/")[2]: row for n, row in found["cells"].items() if n.startswith(f"{technology}/")}
        parts = {name: row for name, row in parts.items() if name not in INSIDE}
        elements = MACHINE.rows * MACHINE.pes * parts["pe"]["area"]
        others = sum(row["area"] for name, row in parts.items() if name != "pe")
        bits = sum(row["memory_bits"] for row in parts.values())
        shares = [f"{part / 1e6:.2f}" for part in (elements, others, elements + others)]
        missing = [name for name in COMPONENTS if name not in (*parts, *INSIDE)]
        rows.append([technology, *shares, f"{bits / 1024:,.0f}", ", ".join(missing) or "-"])
    titles = ["library", "64 PEs, mm²", "everything else", "together", "memory left out, kbit", "not mapped"]
    return _table(titles, rows)


def _fabric(found: dict[str, Any]) -> list[str]:
    rows = []
    for name, row in sorted(found.get("fabric", {}).items()):
        taken = [row[n] for n in ("luts", "flip_flops", "multipliers", "block_rams", "distributed_rams")]
        speeds = row["megahertz"]
        rows.append([name, *taken, min(speeds), median(speeds), max(speeds)])
    names = ["component", "LUT4", "FF", "MULT18", "DP16KD", "DPR16X4", "MHz, worst seed", "median", "best"]
    return _table(names, rows)


def _energy(found: dict[str, Any]) -> list[str]:
    rows = found.get("energy", {})
    costs = rows.get("osu018/actions", {})
    lines = _table(
        ["action", "pJ", "without glitches"],
        [[name, f"{cost['pj']:.2f}", f"{cost['settled']:.2f}"] for name, cost in costs.items()],
    )
    elements = [
        [
            name.partition("/")[2],
            f"{row['macs']:.2f}",
            *(f"{row[part]:.1f}" for part in ("switched", "settled", "clock")),
        ]
        for name, row in rows.items()
        if name != "osu018/actions"
    ]
    return lines + _table(["element", "MACs a cycle", "pJ a cycle, switching", "without glitches", "clock"], elements)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", choices=[*STAGES, "tables", []], default=[])
    parser.add_argument("--only", nargs="+", choices=list(made()), default=list(made()), metavar="NAME")
    arguments = parser.parse_args()
    wanted = arguments.stages or [*STAGES, "tables"]
    failed = 0
    for stage in STAGES:
        for only in ([name] for name in arguments.only if stage in wanted):
            try:
                for name, row in STAGES[stage](only):
                    store(stage, name, row)
            except HardwareError as error:
                failed += 1
                print(f"{stage} {only[0]}: {error}", file=sys.stderr, flush=True)
    if "tables" in wanted:
        print(tables())
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
