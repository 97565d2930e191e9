"""Other machines' cycles: our events against their closed forms, and against figures they gave."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regrain.core.errors import HardwareError
from regrain.hw.dataflows import DATAFLOWS, Events, Grid, Matmul, output_stationary_mesh

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "hw" / "scalesim.json"

small = settings(max_examples=60, deadline=None, derandomize=True)
works = st.builds(Matmul, *(st.integers(1, 90) for _ in range(3)))
grids = st.builds(Grid, *(st.integers(1, 20) for _ in range(2)))


def parts(length, size):
    return -(-length // size)


FORMS = {  # SCALE-Sim 3: folds, each of so many cycles; the last cycle's number from 0
    "ws": lambda w, g: (
        parts(w.inputs, g.rows) * parts(w.outputs, g.columns) * (w.tokens + 2 * g.rows + g.columns - 2) - 1
    ),
    "is": lambda w, g: (
        parts(w.inputs, g.rows) * parts(w.tokens, g.columns) * (w.outputs + 2 * g.rows + g.columns - 2) - 1
    ),
    "os": lambda w, g: parts(w.tokens, g.rows) * parts(w.outputs, g.columns) * (w.inputs + g.rows + g.columns - 2) - 1,
}


@small
@given(works, grids, st.sampled_from(sorted(DATAFLOWS)))
def test_systolic_arrays_take_what_the_closed_forms_say(work, grid, dataflow):
    run = DATAFLOWS[dataflow](work, grid)
    assert run.cycles == FORMS[dataflow](work, grid)
    assert run.macs == work.tokens * work.inputs * work.outputs


@small
@given(works, grids)
def test_folds_cover_the_matrix_once(work, grid):
    folds = list(grid.folds(work.inputs, work.outputs))
    assert sum(rows * columns for rows, columns in folds) == work.inputs * work.outputs
    assert all(rows <= grid.rows and columns <= grid.columns for rows, columns in folds)
    run = DATAFLOWS["ws"](work, grid)
    assert run.folds == len(folds)
    if run.cycles:
        assert run.utilization * run.cycles * grid.rows * grid.columns == pytest.approx(work.macs)


def mesh_cycles(work, grid):
    """STONNE's controller, cycle by cycle, a fold of rows x columns: configuring, then a vector a cycle.

    The element (r, c) adds its last product in cycle K + r + c (configuring is cycle 0); the result is in the queue
    three cycles later; the loop over the queue compares its counter with a length that it makes shorter.
    """
    total = 0
    for top in range(0, work.tokens, grid.rows):
        for left in range(0, work.outputs, grid.columns):
            rows, columns = min(grid.rows, work.tokens - top), min(grid.columns, work.outputs - left)
            cycle, queue, done = 0, 0, 0
            while done < rows * columns:
                queue += sum(work.inputs + r + c + 3 == cycle for r in range(rows) for c in range(columns))
                counter = 0
                while counter < queue:
                    queue -= 1
                    done += 1
                    counter += 1
                cycle += 1
            total += cycle
    return total


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.builds(Matmul, *(st.integers(1, 40) for _ in range(3))), st.builds(Grid, st.integers(1, 9), st.integers(1, 9))
)
def test_the_mesh_takes_what_its_controller_takes_cycle_by_cycle(work, grid):
    assert output_stationary_mesh(work, grid).cycles == mesh_cycles(work, grid)


def test_the_mesh_takes_what_stonne_took():
    """64 x 196 x 1152 on 16 x 16: 61,676 cycles by the simulator itself, 4 x 13 x (1152 + 34) + 4 in closed form."""
    run = output_stationary_mesh(Matmul(tokens=64, inputs=1152, outputs=196), Grid(16, 16))
    assert run.cycles == 61_676 == parts(64, 16) * parts(196, 16) * (1152 + 34) + 4
    assert run.folds == 52


@small
@given(works, st.integers(1, 12), st.integers(0, 11))
def test_sparse_products_keep_so_many_of_each_block(work, kept, dropped):
    block = kept + dropped
    mask = [position % block < kept for position in range(work.inputs)]
    left = work.sparse(kept, block)
    assert left.inputs == sum(mask)
    assert (left.tokens, left.outputs) == (work.tokens, work.outputs)
    if not dropped:
        assert left == work


@pytest.mark.parametrize(("kept", "block"), [(0, 4), (5, 4), (-1, 2)])
def test_a_block_keeps_one_or_more_and_no_more_than_it_has(kept, block):
    with pytest.raises(HardwareError, match=rf"kept must be from 1 to block, not {kept} of {block}"):
        Matmul(8, 8, 8).sparse(kept, block)


@pytest.mark.parametrize("size", [0, -3, 2.5, True, None])
def test_sizes_are_whole_and_positive(size):
    with pytest.raises(HardwareError, match="inputs must be a whole number from 1 on"):
        Matmul(3, size, 3)
    with pytest.raises(HardwareError, match="columns must be a whole number from 1 on"):
        Grid(3, size)


def test_events_of_a_cycle_happen_in_the_order_they_were_asked_for():
    seen = []
    events = Events()

    def note(name):
        seen.append((events.now, name))
        if name == "a":
            events.after(0, note, "c")
            events.after(3, note, "d")

    events.after(2, note, "a")
    events.after(2, note, "b")
    assert events.run() == 5
    assert seen == [(2, "a"), (2, "b"), (2, "c"), (5, "d")]


def test_recorded_cycles_of_scalesim_are_ours():
    """What the benchmark recorded of the simulator itself, layer tables of five networks; ours anew for one of them."""
    found = json.loads(RESULTS.read_text())
    assert {row["network"] for row in found["rows"]} >= {"ResNet-18", "AlexNet", "MobileNet", "GoogLeNet", "MiniLM-L6"}
    assert all(row["scalesim"] == row["regrain"] and not row["different"] for row in found["rows"])
    for one in found["whole"]:
        layer = one["layer"]
        inputs = layer["kernel"] ** 2 * layer["channels"]
        work = Matmul(layer["height"] * layer["width"], inputs, layer["filters"]).sparse(one["kept"], one["block"])
        assert one["stalls"] == 0
        assert one["report"] == one["part"] == DATAFLOWS[one["dataflow"]](work, Grid(32, 32)).cycles
