"""A changed model beside the original: nothing if nothing changed, and what changed otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from regrain import Budget, Scores, TaskError
from regrain.models.network import Network
from regrain.models.task import Task, task_from
from regrain.planning import evaluate
from regrain.planning.evaluate import Evaluator
from regrain.planning.store import Store

ROWS = 70


def inputs(split: str) -> Iterator[torch.Tensor]:
    yield from torch.randn(ROWS, 6, generator=torch.Generator().manual_seed(len(split))).split(50)


def scores(model: nn.Module, split: str) -> dict[str, Scores]:
    return {"mean": Scores(torch.cat([model(batch)[:, 0] for batch in inputs(split)]).numpy())}


def make(store: Path, kind: str = "embeddings") -> Evaluator:
    task: Task = task_from(lambda: nn.Linear(6, 4), inputs, lambda model, batch: model(batch), scores, kind=kind)
    torch.manual_seed(1)
    return Evaluator(Network(task.model()), task, "search", Store(store))


def shift(evaluator: Evaluator, by: float) -> None:
    evaluator.network.set("bias", evaluator.network.get("bias") + np.float32(by))


@pytest.mark.parametrize("kind", ["embeddings", "logits"])
def test_the_original_beside_itself(tmp_path: Path, kind: str) -> None:
    evaluator = make(tmp_path, kind)
    found = evaluator.measured(evaluator.raw(), 0.95)
    assert evaluator.examples == found.fidelity.n == ROWS
    assert found.fidelity.value == pytest.approx(0, abs=1e-12)
    assert found.drops["mean"].drop == 0
    assert found.verdict(Budget(max_drop_abs=0.1)).ok


def test_a_changed_model(tmp_path: Path) -> None:
    evaluator = make(tmp_path)
    shift(evaluator, -0.25)
    found = evaluator.measured(evaluator.raw(), 0.95)
    assert found.drops["mean"].drop == pytest.approx(0.25, rel=1e-5)
    assert found.fidelity.value > 1e-3
    assert not found.verdict(Budget(max_drop_abs=0.2)).ok
    assert found.verdict(Budget(max_drop_abs=0.3)).ok


def test_rows_of_logits_come_in_runs_that_no_batch_shares(tmp_path: Path) -> None:
    """Rows may be tokens of a sequence: 50 + 20 rows are runs of 32, 18 and 20."""
    clusters = make(tmp_path, "logits").raw().fidelity.clusters
    assert np.bincount(clusters).tolist() == [32, 18, 20]
    assert make(tmp_path).raw().fidelity.clusters is None


@pytest.mark.parametrize(("room", "stored"), [(50 * 4 * 4, [False, True]), (0, [True, True])])
def test_large_outputs_are_kept_in_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int, stored: list[bool]
) -> None:
    expected = make(tmp_path)
    shift(expected, 0.1)
    monkeypatch.setattr(evaluate, "IN_MEMORY", room)
    evaluator = make(tmp_path)
    assert [evaluator.store.has(f"outputs-search-{number:05d}") for number in range(2)] == stored
    assert evaluator.digest == expected.digest
    shift(evaluator, 0.1)
    assert np.array_equal(evaluator.raw().fidelity.losses, expected.raw().fidelity.losses)


def test_a_changed_model_that_fails_says_where(tmp_path: Path) -> None:
    evaluator = make(tmp_path)
    shift(evaluator, np.inf)
    with pytest.raises(TaskError, match="output\\(\\) of batch 0 of 'search' must be finite"):
        evaluator.raw()


def test_the_digest_is_of_outputs_and_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make(tmp_path / "a").digest
    assert make(tmp_path / "b").digest == first
    monkeypatch.setitem(globals(), "scores", lambda model, split: {"mean": 0.5})  # as of labels that were imported
    assert make(tmp_path / "c").digest != first


def test_a_single_column_is_refused() -> None:
    task = task_from(lambda: nn.Linear(6, 1), inputs, lambda model, batch: model(batch))
    with pytest.raises(TaskError, match="two columns or more"):
        task.kind_of(torch.ones(3, 1))
