"""Our cycle models of systolic arrays beside SCALE-Sim 3, layer by layer: python benchmarks/hw/systolic.py PYTHON

PYTHON is that of an environment with requirements/scalesim.txt (it needs an old NumPy and pandas). Every layer of five
networks, on 32 x 32 elements, in three dataflows, dense and N:M; some layers by the whole simulator, memory and traces
included, to show that its cycles are those of the part that is used for the others.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from networks import NETWORKS, Layer, convolution, distinct, linear

from regrain.hw.dataflows import DATAFLOWS, Grid, Matmul

sys.path.insert(0, str(Path(__file__).parents[1]))
from machine import describe

RESULTS = Path(__file__).parents[1] / "results" / "hw" / "scalesim.json"
WORKER = Path(__file__).with_name("scalesim_cycles.py")
DENSE = (1, 1)
WHOLE = [convolution(14, 3, 32, 48), convolution(14, 3, 20, 33, 2), convolution(9, 1, 64, 100), linear(50, 100, 70)]


@dataclass(frozen=True)
class Case:
    """A network in a dataflow, on an array, with `kept` of every `block` weights."""

    network: str
    dataflow: str
    rows: int = 32
    columns: int = 32
    kept: int = 1
    block: int = 1


class SCALESim:
    """A process of the simulator, which answers line by line."""

    def __init__(self, python: str) -> None:
        self.process = subprocess.Popen([python, WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, case: Case, layer: Layer, whole: bool = False) -> dict[str, Any]:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps({**asdict(case), "layer": layer, "whole": whole}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def cases() -> Iterator[Case]:
    for network in NETWORKS:
        for dataflow in DATAFLOWS:
            yield Case(network, dataflow)
            yield Case(network, dataflow, kept=2, block=4)
    for kept, block in ((1, 4), (3, 8)):
        yield from (Case("ResNet-18", dataflow, kept=kept, block=block) for dataflow in DATAFLOWS)
    for rows, columns in ((16, 64), (128, 128)):
        yield from (Case("MiniLM-L6", dataflow, rows, columns) for dataflow in DATAFLOWS)


def ours(case: Case, layer: Layer) -> int:
    work = Matmul(layer.pixels, layer.inputs, layer.filters).sparse(case.kept, case.block)
    return DATAFLOWS[case.dataflow](work, Grid(case.rows, case.columns)).cycles


def compared(peer: SCALESim, case: Case) -> dict[str, Any]:
    """Cycles of all layers, and the layers in which they differ."""
    layers = distinct(case.network)
    sums, seconds, different = [0, 0], [0.0, 0.0], []
    for layer, count in layers.items():
        theirs = peer.run(case, layer)
        started = time.process_time()
        mine = ours(case, layer)
        seconds = [seconds[0] + theirs["seconds"], seconds[1] + time.process_time() - started]
        sums = [sums[0] + count * theirs["cycles"], sums[1] + count * mine]
        if theirs["cycles"] != mine:
            different.append({"layer": layer._asdict(), "scalesim": theirs["cycles"], "regrain": mine})
    return {
        **asdict(case),
        "layers": layers.total(),
        "distinct": len(layers),
        "scalesim": sums[0],
        "regrain": sums[1],
        "different": different,
        "scalesim_seconds": round(seconds[0], 2),
        "regrain_seconds": round(seconds[1], 2),
    }


def proven(peer: SCALESim) -> Iterator[dict[str, Any]]:
    """Layers by the whole simulator, beside the part of it that gives the others."""
    for dataflow in DATAFLOWS:
        for kept, block in (DENSE, (2, 4)):
            case = Case("", dataflow, kept=kept, block=block)
            for layer in WHOLE:
                report, part = peer.run(case, layer, whole=True), peer.run(case, layer)
                yield {
                    "dataflow": dataflow,
                    "kept": kept,
                    "block": block,
                    "layer": layer._asdict(),
                    "report": report["cycles"],
                    "stalls": report["stalls"],
                    "part": part["cycles"],
                    "regrain": ours(case, layer),
                }


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python", help="the interpreter of an environment with SCALE-Sim 3")
    peer = SCALESim(parser.parse_args(arguments).python)
    whole = list(proven(peer))
    rows = []
    for case in cases():
        rows.append(compared(peer, case))
        print(*rows[-1].values(), flush=True)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    found = {"machine": describe(), "peer": "scalesim 3.0.0", "whole": whole, "rows": rows}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    wrong = sum(len(row["different"]) for row in rows)
    wrong += sum(len({row["report"], row["part"], row["regrain"]}) > 1 for row in whole)
    print(f"{wrong} of {sum(row['distinct'] for row in rows) + len(whole)} runs of layers differ")


if __name__ == "__main__":
    main()
