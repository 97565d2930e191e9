"""Points: built, evaluated, taken out again and never evaluated twice; and the best of them for a budget."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from regrain import Budget, Scores, TaskError
from regrain.core.pattern import Compensation, Pattern, Pruning
from regrain.core.recipe import LayerPlan
from regrain.models.task import task_from
from regrain.pipelines.options import Listener, Options
from regrain.pipelines.session import Session, prepare
from regrain.planning.builder import plans_digest
from regrain.planning.candidates import Candidates, Curve
from regrain.planning.search import GUARD, Candidate, Search, choose_compensation, guarded
from regrain.planning.solve import Objective, Solver

SEEDS = {"calibration": 1, "search": 2, "held_out": 3}


def make() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(48, 96), nn.Tanh(), nn.Linear(96, 64))


def inputs(split: str) -> Iterator[torch.Tensor]:
    yield from torch.randn(300, 48, generator=torch.Generator().manual_seed(SEEDS[split])).split(100)


class Outputs:
    """Counts calls, and fails when it is told to."""

    def __init__(self) -> None:
        self.calls, self.fails = 0, False

    def __call__(self, model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.fails:
            raise ZeroDivisionError
        return model(batch)


def evaluate(model: nn.Module, split: str) -> dict[str, Scores]:
    return {"score": Scores(torch.cat([model(batch) for batch in inputs(split)]).norm(dim=1).numpy())}


@pytest.fixture
def outputs() -> Outputs:
    return Outputs()


@pytest.fixture
def session(tmp_path: Path, outputs: Outputs) -> Session:
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(make().state_dict(), path)
    task = task_from(make, inputs, outputs, evaluate, kind="embeddings")
    return prepare(path, task, Options(work=tmp_path / "work", threads=1), Listener())


def plans(session: Session, loss: float) -> dict[str, LayerPlan]:
    return {plan.name: plan for plan in session.solver.for_loss(loss).plans}


def is_original(session: Session) -> bool:
    return all(
        torch.equal(value, session.network.model.state_dict()[name]) for name, value in make().state_dict().items()
    )


def test_points_are_taken_out_again(session: Session) -> None:
    loss, nbytes, _, raw = session.candidate.evaluate(plans(session, 0.01))
    assert 0 < loss < 0.02
    assert 0 < nbytes < session.lossless_bytes
    assert 0.5 < raw.fidelity.value / loss < 1.5
    assert is_original(session)


def test_points_that_fail_are_taken_out_too(session: Session, outputs: Outputs) -> None:
    outputs.fails = True
    with pytest.raises(TaskError, match="ZeroDivisionError"):
        session.candidate.evaluate(plans(session, 0.01))
    assert is_original(session)


def test_points_are_evaluated_once(session: Session, outputs: Outputs) -> None:
    wanted = plans(session, 0.01)
    loss, nbytes, _, raw = session.candidate.evaluate(wanted)
    outputs.fails = True
    again = {name: replace(plan, why="edited", bytes=0.0) for name, plan in wanted.items()}
    found = session.candidate.evaluate(again)
    assert found[:2] == (loss, nbytes)
    assert np.array_equal(found.raw.fidelity.losses, raw.fidelity.losses)
    assert np.array_equal(found.raw.scores["score"].values, raw.scores["score"].values)


def test_digests_know_what_plans_make(session: Session) -> None:
    one, other = plans(session, 0.01), plans(session, 0.02)
    assert plans_digest(one) != plans_digest(other)
    assert plans_digest(one) == plans_digest({name: replace(plan, loss=0.5) for name, plan in one.items()})


@pytest.mark.parametrize("limit", [0.001, 0.01])
def test_the_best_keeps_the_budget_and_uses_it(session: Session, limit: float) -> None:
    search = Search(session.candidate, session.solver, Budget(min_fidelity=1 - limit))
    best = search.run()
    assert best is search.best
    assert best.ok
    assert 0.8 * limit < best.measured.fidelity.loss(0.95).upper <= limit
    assert best.nbytes == min(point.nbytes for point in search.points if point.ok)
    assert [point.number for point in search.points] == list(range(len(search.points)))


def test_a_larger_budget_takes_fewer_bytes(session: Session) -> None:
    sizes = [
        Search(session.candidate, session.solver, Budget(min_fidelity=1 - loss)).run().nbytes
        for loss in (0.001, 0.004, 0.016)
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[2]


def test_every_point_is_said(session: Session) -> None:
    said = []
    search = Search(
        session.candidate, session.solver, Budget(max_drop=0.01), lambda point, best: said.append((point, best))
    )
    search.run()
    assert [point for point, _ in said] == search.points
    assert said[-1][1] is search.best


def test_no_loss_at_all_is_no_point(session: Session) -> None:
    search = Search(session.candidate, session.solver, Budget(min_fidelity=1.0))
    assert search.run() is None
    assert search.points == []


def test_metrics_are_guarded_by_fidelity() -> None:
    assert guarded(Budget(max_drop=0.5), "embeddings", True).min_fidelity == 1 - GUARD["embeddings"]
    for budget, metrics in (
        (Budget(max_drop=0.5), False),
        (Budget(max_bytes=9), True),
        (Budget(min_fidelity=0.5), True),
    ):
        assert guarded(budget, "embeddings", metrics) is budget


@pytest.mark.parametrize("compensation", [Compensation.SEQUENTIAL, Compensation.LEAST_SQUARES])
def test_compensation_is_chosen_by_what_is_lost(
    session: Session, monkeypatch: pytest.MonkeyPatch, compensation: Compensation
) -> None:
    how = Pruning(Pattern("column"), 0.5, compensation=Compensation.SEQUENTIAL)
    drops = Curve(None, np.zeros(1, np.int64), np.array([50.0]), np.array([1e-3]), how, 0.5)
    solver = Solver([Candidates("2.weight", 100, 100.0, (drops,), work=10)], objective=Objective.WORK)
    original, evaluated = Candidate.evaluate, []

    def worse(self: Candidate, plans: dict[str, LayerPlan]) -> object:
        found = original(self, plans)
        other = plans["2.weight"].pruning.compensation is not compensation
        evaluated.append(other)
        raw = replace(found.raw, fidelity=replace(found.raw.fidelity, losses=found.raw.fidelity.losses + 0.1 * other))
        return found._replace(raw=raw)

    monkeypatch.setattr(Candidate, "evaluate", worse)
    choose_compensation(session.candidate, solver)
    assert sorted(evaluated) == [False, True]
    assert solver.for_loss(0.01).plans[0].pruning.compensation is compensation
