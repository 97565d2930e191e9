"""The energy table `own` from what synthesis measured: python tools/energy_table.py

Reads benchmarks/results/hw/synthesis.json, which tools/rtl_synth.py writes, and writes src/regrain/hw/tables/own.json.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "hw" / "synthesis.json"
HOROWITZ = ROOT / "src" / "regrain" / "hw" / "tables" / "horowitz.json"
TABLE = HOROWITZ.with_name("own.json")

SCALE = 16
"""From 45 nm at 0.9 V to 180 nm at 1.8 V: C V^2, capacitances with the length."""


def table(found: dict[str, Any], horowitz: dict[str, Any]) -> dict[str, Any]:
    """The table. What a processing element takes is shared out so that its cycles cost what was measured of it."""
    machine, measured = found["machine"], found["energy"]
    lanes = machine["lanes"]
    alone = {name: cost["pj"] for name, cost in measured["osu018/actions"].items()}

    def lane(cycle: str) -> float:
        """pJ of a lane in such a cycle of a processing element."""
        row = measured[f"osu018/pe/{cycle}"]
        return float(row["switched"] + row["clock"]) / lanes

    word = 8 + (machine["block"] - 1).bit_length()
    held = machine["block"] * 8 / machine["block"] / lanes  # bits of a block, over the words that it is held for
    kept = (word + held) * alone["register"] + alone["select"]
    sums = (16 + machine["accumulator"]) * alone["register"]
    working = measured[f"osu018/pe/{lanes} lanes"]["macs"] / lanes
    gated = lane("0 lanes") - kept
    issued = (lane(f"{lanes} lanes") - (1 - working) * lane("0 lanes")) / working - kept - sums
    whole = "of a processing element, gates and clock, at work on the weights and activations of a layer"
    reads = [[size, cost * SCALE] for size, cost in horowitz["sram"]["reads"]]
    return {
        "format": "regrain-energy-1",
        "name": "own",
        "technology": "0.18 um, 1.8 V (osu018)",
        "about": "Gates of this machine in the open library osu018, simulated with glitches on the weights and "
        "activations of a layer of the example network "
        f"({found['tools']['yosys'].split(' (')[0]}; tools/rtl_synth.py). "
        "Neither wires nor memories were synthesized.",
        "pj": {
            "multiply": [_round(issued - alone["add"]), f"what a lane at work takes {whole}, less the other actions"],
            "add": [_round(alone["add"]), "a 24-bit addition of a product, alone"],
            "select": [_round(alone["select"]), "one of eight activations, alone"],
            "register": [_round(alone["register"]), "a bit of a byte that changes each cycle, its clock included"],
            "gated": [_round(gated), f"what a lane without work takes {whole}, less its registers and multiplexer"],
            "idle": [_round(lane("0 lanes, at rest")), f"what a lane takes {whole}, when there is nothing to do"],
            "rescale": [_round(alone["rescale"]), "a sum to a byte, alone"],
            "square": [_round(alone["square"]), "a byte to both sums of the monitor, alone"],
            "memory": [horowitz["pj"]["memory"][0], "not synthesized: as in the table horowitz; its chip is another"],
        },
        "sram": {
            "reads": reads,
            "write": horowitz["sram"]["write"],
            "source": f"not synthesized: those of the table horowitz x {SCALE}, from 45 nm at 0.9 V to 180 nm at "
            "1.8 V by C V^2, capacitances with the length",
        },
    }


def _round(number: float) -> float:
    return float(f"{number:.4g}")


def main() -> None:
    """Write the file."""
    made = table(json.loads(RESULTS.read_text()), json.loads(HOROWITZ.read_text()))
    TABLE.write_text(json.dumps(made, indent=2) + "\n")
    print(*(f"{name}: {value} pJ" for name, (value, _) in made["pj"].items()), sep="\n")


if __name__ == "__main__":
    main()
