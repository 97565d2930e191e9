"""Tasks side by side: results in order, no more at once than allowed, nothing left running."""

import threading
import time
from contextlib import closing

import pytest

from regrain.artifact.several import AHEAD, LARGE, Task, in_order

SIZES = [10, 0, LARGE - 1, LARGE, 3, LARGE * 5, LARGE - 1, LARGE - 1, LARGE - 1, LARGE - 1, 7, 7, LARGE]


@pytest.mark.parametrize("workers", [0, 1, 2, 5])
def test_results_come_in_order(workers):
    held, most, used = {}, 0, []

    def tasks():
        nonlocal most
        for at, size in enumerate(SIZES):
            held[str(at)] = size
            yield Task(
                str(at), size, lambda count, at=at: (time.sleep(0.002 * (at % 3)), used.append((at, count)), at)[2]
            )
            small = sum(size for size in held.values() if size < LARGE)
            most = max(most, small)

    found = []
    for name, result in in_order(tasks(), workers):
        del held[name]
        found.append((name, result))
    assert found == [(str(at), at) for at in range(len(SIZES))]
    assert dict(used) == {at: max(1, workers) if size >= LARGE else 1 for at, size in enumerate(SIZES)}
    assert most <= AHEAD


def test_small_tasks_run_side_by_side():
    barrier = threading.Barrier(3)
    tasks = [Task(str(at), 1, lambda _: barrier.wait(timeout=60)) for at in range(3)]
    assert sorted(result for _, result in in_order(tasks, 3)) == [0, 1, 2]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_an_error_comes_where_its_result_would(workers):
    tasks = [Task(str(at), 1, lambda _, at=at: 1 // (at - 2)) for at in range(5)]
    found = []
    with pytest.raises(ZeroDivisionError), closing(in_order(tasks, workers)) as results:
        for name, _ in results:
            found.append(name)
    assert found == ["0", "1"]


def test_nothing_runs_on_after_the_end():
    started, release = [], threading.Event()

    def work(_):
        started.append(1)
        release.wait(0.05)

    tasks = [Task("first", 1, lambda _: None)] + [Task(str(at), 1, work) for at in range(50)]
    with closing(in_order(tasks, 2)) as results:
        next(results)
    count = len(started)
    assert count < 50
    time.sleep(0.2)
    assert len(started) == count
