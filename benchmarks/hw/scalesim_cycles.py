"""SCALE-Sim's own cycles of layers, as JSON lines: run by systolic.py in an environment that has SCALE-Sim 3.

A line of input names a dataflow, rows, columns, a layer, N and M, and whether the whole simulator is to run, memory and
traces too. Without, its demand matrix of results is made, which has a row for each cycle, and nothing is done with it;
where memory doesn't stall, that is the number of cycles in the simulator's report, counted from 0.
"""

from __future__ import annotations

import csv
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from networks import Layer
from scalesim.layout_utils import layouts
from scalesim.scale_config import scale_config
from scalesim.scale_sim import scalesim
from scalesim.single_layer_sim import single_layer_sim
from scalesim.topology_utils import topologies

CONFIGURATION = """
[general]
run_name = layer
[architecture_presets]
ArrayHeight = {rows}
ArrayWidth = {columns}
IfmapSramSzkB = 1024
FilterSramSzkB = 1024
OfmapSramSzkB = 1024
IfmapOffset = 0
FilterOffset = 10000000
OfmapOffset = 20000000
Dataflow = {dataflow}
Bandwidth = 10
ReadRequestBuffer = 64
WriteRequestBuffer = 64
[layout]
IfmapCustomLayout = False
IfmapSRAMBankBandwidth = 10
IfmapSRAMBankNum = 10
IfmapSRAMBankPort = 2
FilterCustomLayout = False
FilterSRAMBankBandwidth = 10
FilterSRAMBankNum = 10
FilterSRAMBankPort = 2
[sparsity]
SparsitySupport = {sparse}
SparseRep = ellpack_block
OptimizedMapping = false
BlockSize = {block}
RandomNumberGeneratorSeed = 40
[run_presets]
InterfaceBandwidth = CALC
UseRamulatorTrace = False
"""


def main() -> None:
    for line in sys.stdin:
        case = json.loads(line)
        started = time.process_time()
        answer = (whole if case["whole"] else computing)(case)
        print(json.dumps({**answer, "seconds": time.process_time() - started}), flush=True)


def computing(case: dict[str, Any]) -> dict[str, int]:
    """The number of the last cycle in which a result leaves the array."""
    with tempfile.TemporaryDirectory() as folder:
        configuration, topology = write(case, Path(folder))
        config, layers = scale_config(), topologies()
        config.read_conf_file(str(configuration))
        layers.load_arrays(str(topology))
    layer = single_layer_sim()
    layer.set_params(layer_id=0, config_obj=config, topology_obj=layers, layout_obj=layouts(), verbose=False)
    operands = layer.op_mat_obj
    matrices = {f"{name}_op_mat": getattr(operands, f"get_{name}_matrix")()[1] for name in ("ifmap", "filter", "ofmap")}
    layer.compute_system.set_params(config_obj=config, **matrices)
    layer.compute_system.create_ofmap_demand_mat()
    return {"cycles": int(layer.compute_system.ofmap_demand_matrix.shape[0]) - 1}


def whole(case: dict[str, Any]) -> dict[str, int]:
    """The total and the stalls of the simulator's report."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        configuration, topology = write(case, path)
        (path / "layout.csv").write_text("none,\n")
        run = scalesim(
            save_disk_space=True,
            verbose=False,
            config=str(configuration),
            topology=str(topology),
            layout=str(path / "layout.csv"),
            input_type_gemm=False,
        )
        run.run_scale(top_path=str(path / "out"))
        with (path / "out" / "layer" / "COMPUTE_REPORT.csv").open() as file:
            (row,) = csv.DictReader(file, skipinitialspace=True)
    return {"cycles": int(row["Total Cycles"]), "stalls": int(row["Stall Cycles"])}


def write(case: dict[str, Any], folder: Path) -> tuple[Path, Path]:
    """The simulator's configuration, and its table of one layer: the size of the image with its padding."""
    layer = Layer(*case["layer"])
    kept, block = case["kept"], case["block"]
    height, width = ((pixels - 1) * layer.stride + layer.kernel for pixels in (layer.height, layer.width))
    configuration, topology = folder / "configuration.ini", folder / "layer.csv"
    configuration.write_text(CONFIGURATION.format(**case, sparse=kept < block))
    row = ["layer", height, width, layer.kernel, layer.kernel, layer.channels, layer.filters, layer.stride]
    topology.write_text(f"header,\n{','.join(map(str, row))},{kept}:{block},\n")
    return configuration, topology


if __name__ == "__main__":
    main()
