"""Compressing for less work, end to end on a tiny task: the budget holds, work falls, recipes give the same again."""

from __future__ import annotations

import json
import runpy
import shutil
from pathlib import Path

import pytest
import safetensors.numpy
import safetensors.torch
import torch

import regrain
import regrain.torch
from regrain.core.pattern import Pattern, Pruning
from regrain.core.recipe import LayerPlan, Method, Recipe, parse_recipe
from regrain.models.task import task_from

TASK = Path(__file__).parents[1] / "cli" / "tiny.py"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny") / "model.safetensors"
    safetensors.torch.save_file(runpy.run_path(str(TASK))["trained"]().state_dict(), path)
    return path


@pytest.fixture(scope="module", params=["work", "both"])
def made(request, tiny, tmp_path_factory):
    """The objective, and what came of it; measurements are kept for the next one."""
    out = tmp_path_factory.mktemp(request.param) / "model.regrain.safetensors"
    return request.param, regrain.compress(
        tiny, out, task=TASK, max_drop="2%", objective=request.param, threads=1, work=tiny.with_name("measured")
    )


def restored(result, folder):
    return safetensors.numpy.load_file(regrain.restore(result.path, folder / "dense.safetensors").path)


def accuracy(weights):
    task = runpy.run_path(str(TASK))
    model = task["network"]()
    model.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    return task["evaluate"](model, "held_out")["accuracy"].values.mean()


def recipe_of(result):
    return parse_recipe(json.dumps({"recipe": 1, "layers": dict(result.receipt["recipe"])}))


def test_the_budget_is_kept_with_less_work(made, tiny, tmp_path):
    objective, result = made
    work = result.receipt["work"]
    assert result.outcome == "met"
    assert work["original"] == 16 * 96 + 96 * 4
    assert work["artifact"] < 0.8 * work["original"]
    weights = restored(result, tmp_path)
    before = accuracy(safetensors.numpy.load_file(tiny))
    assert accuracy(weights) >= 0.98 * before
    kept = sum(array.astype(bool).mean() * array.size for name, array in weights.items() if name.endswith("weight"))
    if objective == "work":  # of what is rounded, more may be 0
        assert kept == work["artifact"]


def test_rows_go_with_columns(made, tmp_path):
    _, result = made
    weights, recipe = restored(result, tmp_path), recipe_of(result)
    first, second = recipe.plan("0.weight"), recipe.plan("2.weight")
    assert first.pruning.follows == "2.weight"
    assert second.pruning.pattern == Pattern("column")
    used = weights["2.weight"].any(axis=0)
    assert not weights["0.weight"][~used].any()
    assert used.mean() == pytest.approx(second.pruning.density, abs=0.5 / 96)


def test_only_where_bytes_count_weights_are_rounded(made):
    objective, result = made
    methods = {recipe_of(result).plan(name).method for name in ("0.weight", "2.weight")}
    assert methods == {Method.PRUNE if objective == "work" else Method.QUANTIZE}
    assert result.path.stat().st_size < result.receipt["sizes"]["original"]


def test_the_artifact_is_what_its_digest_says(made, tiny):
    _, result = made
    found = regrain.verify(result.path, tiny)
    assert {one.name for one in found.differences} >= {"0.weight", "2.weight"}


def test_a_recipe_gives_the_same_weights_again(made, tiny, tmp_path):
    _, result = made
    out = tmp_path / "again.regrain.safetensors"
    again = regrain.compress(
        tiny, out, task=TASK, recipe=recipe_of(result), max_drop="2%", threads=1, work=tiny.with_name("measured")
    )
    assert again.receipt["work"] == result.receipt["work"]
    first, second = (regrain.inspect(one.path).files[0] for one in (result, again))
    assert first.restored_sha256 == second.restored_sha256
    once = regrain.restore(result.path, tmp_path / "once.safetensors").path
    twice = regrain.restore(again.path, tmp_path / "twice.safetensors").path
    assert once.read_bytes() == twice.read_bytes()


def test_a_recipe_that_breaks_the_budget_is_refused(made, tiny, tmp_path):
    _, result = made
    layers = json.loads(json.dumps(dict(result.receipt["recipe"])))
    layers["2.weight"]["pruning"]["density"] = 0.01
    harsh = parse_recipe(json.dumps({"recipe": 1, "layers": layers}))
    out = tmp_path / "harsh.regrain.safetensors"
    options = {"task": TASK, "recipe": harsh, "threads": 1, "work": tiny.with_name("measured")}
    with pytest.raises(regrain.BudgetError, match="the recipe must keep the budget on held-out data"):
        regrain.compress(tiny, out, max_drop="2%", **options)
    assert not out.exists()


@pytest.mark.parametrize("made", ["both"], indirect=True)
def test_the_same_again_gives_the_same_bytes(made, tiny, tmp_path):
    objective, result = made
    out = tmp_path / result.path.name
    shutil.copytree(tiny.parent, tmp_path / "fresh", ignore=shutil.ignore_patterns("measured"))
    options = {"task": TASK, "max_drop": "2%", "objective": objective, "threads": 2}
    regrain.compress(tmp_path / "fresh" / tiny.name, out, **options)
    assert out.read_bytes() == result.path.read_bytes()


def test_pruning_needs_data(made, tiny, tmp_path):
    _, result = made
    with pytest.raises(regrain.RecipeError, match="is to be pruned, which needs a task's data: give --task"):
        regrain.compress(tiny, tmp_path / "out.safetensors", recipe=recipe_of(result))


def test_for_bytes_alone_nothing_is_pruned(tiny, tmp_path):
    out = tmp_path / "bytes.regrain.safetensors"
    result = regrain.compress(tiny, out, task=TASK, max_drop="2%", threads=1, work=tiny.with_name("measured"))
    assert all("pruning" not in plan for plan in result.receipt["recipe"].values())
    assert result.receipt["work"]["artifact"] == result.receipt["work"]["original"]


class Shared(torch.nn.Module):
    """The last two layers have one weight."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.third = (torch.nn.Linear(8, 8) for _ in range(3))
        self.third.weight = self.second.weight

    def forward(self, x):
        return self.third(self.second(self.first(x).relu()).relu())


def test_rows_follow_a_weight_by_its_other_name(tmp_path):
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file({name: tensor.clone() for name, tensor in Shared().state_dict().items()}, path)

    def inputs(split):
        seed = ("calibration", "search", "held_out").index(split)
        return torch.randn(160, 8, generator=torch.Generator().manual_seed(seed)).split(80)

    task = task_from(Shared, inputs, lambda model, batch: model(batch), kind="logits")
    columns = LayerPlan("third.weight", Method.PRUNE, pruning=Pruning(Pattern("column"), 0.5))
    rows = LayerPlan("first.weight", Method.PRUNE, pruning=Pruning(Pattern("row"), follows="third.weight"))
    found = regrain.compress(path, tmp_path / "a.safetensors", task=task, recipe=Recipe((columns, rows)), threads=1)
    state = regrain.torch.load_file(found.path)
    kept = state["second.weight"].any(0)
    assert kept.sum() == 4
    assert torch.equal(state["first.weight"].any(1), kept)
    assert torch.equal(state["third.weight"], state["second.weight"])
