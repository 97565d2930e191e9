"""The monitor: what it does when the metric falls, when there is room, at the end and after a restart."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from regrain.core.errors import BudgetError, RecipeError, TrainingError
from regrain.core.pattern import Pattern, Pruning
from regrain.core.recipe import LayerPlan, Method, Recipe
from regrain.training import AccuracyMonitor, Limit, Ramp, Schedule, mask_of, read_log, starting_recipe
from regrain.training.log import parse_record

LIMIT = Limit(max_drop_abs=0.1)


def saying(*values: float):
    """An evaluation that says these one after the other, and the last for ever."""
    rest: Iterator[float] = iter(values)

    def evaluate(_: nn.Module) -> float:
        evaluate.last = next(rest, evaluate.last)
        return evaluate.last

    evaluate.last = math.nan
    return evaluate


def sizes(monitor: AccuracyMonitor) -> dict[str, float]:
    return {name: effect.bits for name, effect in monitor.layers.effects().items()}


def test_below_the_threshold_the_layers_that_damage_most_are_loosened(net, train, recipe) -> None:
    monitor = AccuracyMonitor(net, saying(0.9, 0.7), recipe, LIMIT, schedule=Schedule(every=3))
    train(net, 2, monitor.step)
    damage = {name: effect.damage for name, effect in monitor.layers.effects().items()}
    train(net, 1, monitor.step)
    (record,) = monitor.log
    assert (record.step, record.state, record.metrics) == (3, "below", {"metric": 0.7})
    assert record.slack == pytest.approx(-1.0)
    assert {change.direction for change in record.changes} == {"looser"}
    assert max(damage, key=damage.get) in [change.name for change in record.changes]
    for change in record.changes:
        assert monitor.layers.aims[change.name] != recipe.plan(change.name)


def test_room_twice_in_a_row_tightens_and_dwells(net, train, recipe) -> None:
    schedule = Schedule(every=1, dwell=3)
    monitor = AccuracyMonitor(net, saying(0.9), recipe, LIMIT, schedule=schedule)
    train(net, 1, monitor.step)
    assert monitor.log[-1].state == "room"
    assert monitor.log[-1].changes == ()
    before = sizes(monitor)
    train(net, 1, monitor.step)
    changes = monitor.log[-1].changes
    assert changes
    assert {change.direction for change in changes} == {"tighter"}
    after = sizes(monitor)
    assert all(after[change.name] < before[change.name] for change in changes)
    train(net, 2, monitor.step)
    for record in monitor.log[2:]:
        assert not {change.name for change in record.changes} & {change.name for change in changes}


def test_what_gets_no_gradient_is_left_alone(net, train, quantized) -> None:
    other = nn.Linear(8, 8)
    model = nn.ModuleDict({"used": net, "unused": other})
    recipe = Recipe((quantized("used.4.weight", 0.03), quantized("unused.weight", 0.3)))
    monitor = AccuracyMonitor(model, saying(0.9, 0.5, 0.5, 0.9), recipe, LIMIT, schedule=Schedule(every=1))
    train(net, 6, monitor.step)
    assert {change.name for record in monitor.log for change in record.changes} == {"used.4.weight"}
    assert {change.direction for record in monitor.log for change in record.changes} == {"looser", "tighter"}


def test_between_threshold_and_room_nothing_changes(net, train, recipe) -> None:
    monitor = AccuracyMonitor(net, saying(0.9, 0.81), recipe, LIMIT, schedule=Schedule(every=1))
    train(net, 4, monitor.step)
    assert [record.state for record in monitor.log] == ["between"] * 4
    assert not any(record.changes for record in monitor.log)


def test_patience_waits(net, train, recipe) -> None:
    monitor = AccuracyMonitor(net, saying(0.9, 0.5), recipe, LIMIT, schedule=Schedule(every=1, patience=3))
    train(net, 3, monitor.step)
    assert [bool(record.changes) for record in monitor.log] == [False, False, True]


def test_lower_may_be_better(net, train, recipe) -> None:
    limit = Limit(max_drop=0.1, higher_is_better=False)
    monitor = AccuracyMonitor(net, saying(2.0, 2.3, 1.9), recipe, limit, schedule=Schedule(every=1))
    train(net, 2, monitor.step)
    assert [record.state for record in monitor.log] == ["below", "room"]


def test_ramp_goes_down_stops_and_goes_on(net, train) -> None:
    pruning = Pruning(Pattern("fine"), 0.2)
    recipe = Recipe((LayerPlan("4.weight", Method.PRUNE, pruning=pruning),))
    monitor = AccuracyMonitor(
        net, saying(0.9, 0.5, 0.81), recipe, LIMIT, schedule=Schedule(every=5), ramp=Ramp(0, 20, every=1)
    )
    densities = []

    def stepped() -> None:
        monitor.step()
        densities.append(float(monitor.layers.passing.mask("4.weight").float().mean()))

    assert monitor.layers.passing.mask("4.weight").all()
    train(net, 5, stepped)
    assert densities == sorted(densities, reverse=True)
    assert monitor.held
    assert monitor.log[-1].changes == ()
    train(net, 5, stepped)
    assert densities[9] == densities[4]
    assert not monitor.held
    train(net, 16, stepped)
    assert densities[24:] == pytest.approx([0.2, 0.2], abs=1e-4)


def test_masks_from_elsewhere_are_taken_as_they_are(net, train) -> None:
    pruning = Pruning(Pattern("row"), 0.5)
    mask = mask_of(-net[4].weight, pruning).flip(0)
    recipe = Recipe((LayerPlan("4.weight", Method.PRUNE, pruning=pruning),))
    monitor = AccuracyMonitor(net, saying(0.9, 0.85), recipe, LIMIT, masks={"4.weight": mask}, ramp=Ramp(90, 100))
    train(net, 3, monitor.step)
    assert torch.equal(net[4].weight != 0, mask)
    monitor.detach()
    with pytest.raises(TrainingError, match="masks must be of weights that the recipe prunes, not of '0.weight'"):
        AccuracyMonitor(net, saying(0.9), recipe, LIMIT, masks={"0.weight": mask})


@pytest.mark.parametrize("structured", [True, False])
def test_structure_may_be_kept(net, train, structured: bool) -> None:
    pruning = Pruning(Pattern("column"), 0.5)
    recipe = Recipe((LayerPlan("4.weight", Method.PRUNE, pruning=pruning),))
    monitor = AccuracyMonitor(net, saying(0.9, 0.5), recipe, LIMIT, schedule=Schedule(every=1), structured=structured)
    train(net, 3, monitor.step)
    patterns = {monitor.layers.passing.plans["4.weight"].pruning.pattern.name}
    assert patterns == {"block:16x1" if structured else "fine"}


def test_what_comes_back_starts_from_zero(net, train, images) -> None:
    recipe = Recipe((LayerPlan("4.weight", Method.PRUNE, pruning=Pruning(Pattern("column"), 0.5)),))
    monitor = AccuracyMonitor(net, saying(0.9, 0.5), recipe, LIMIT, schedule=Schedule(every=1000), structured=True)
    train(net, 3, monitor.step)
    net.eval()
    before, kept = net(images), monitor.layers.passing.mask("4.weight")
    monitor.check()
    now = monitor.layers.passing.mask("4.weight")
    assert (now & ~kept).any()
    if (now | ~kept).all():  # nothing was dropped instead
        assert torch.equal(net(images), before)
    assert not net[4].weight[now & ~kept].any()


def test_rows_follow_columns(net, train) -> None:
    recipe = Recipe(
        (
            LayerPlan("4.weight", Method.PRUNE, pruning=Pruning(Pattern("row"), follows="6.weight")),
            LayerPlan("6.weight", Method.PRUNE, pruning=Pruning(Pattern("column"), 0.5)),
        )
    )
    monitor = AccuracyMonitor(net, saying(0.9, 0.5), recipe, LIMIT, schedule=Schedule(every=2))
    for _ in range(3):
        train(net, 2, monitor.step)
        kept = (net[6].weight != 0).any(0)
        assert 16 <= kept.sum() < 32 or "column" not in str(monitor.layers.aims["6.weight"])
        assert torch.equal((net[4].weight != 0).any(1), kept)


def test_evaluation_leaves_no_trace(net, images, labels, recipe) -> None:
    """Training beside an evaluation that uses random numbers and modes is training without it."""

    def evaluate(model: nn.Module) -> float:
        assert not model.training
        assert type(model[0]).__name__ == "Conv2d"
        torch.rand(5)
        model(images)
        return next(values)

    net[1].eval()  # frozen by its owner
    other = copy.deepcopy(net)
    results = []
    for model, every in ((net, 1), (other, 1000)):
        torch.manual_seed(3)
        values = iter([0.9, *[0.81] * 9])
        monitor = AccuracyMonitor(model, evaluate, recipe, LIMIT, schedule=Schedule(every=every))
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
        for _ in range(4):
            optimizer.zero_grad()
            noisy = images + 0.1 * torch.randn(images.shape)
            nn.functional.cross_entropy(model(noisy), labels).backward()
            optimizer.step()
            monitor.step()
        assert not model[1].training
        results.append(copy.deepcopy(model.state_dict()))
    assert all(torch.equal(a, b) for a, b in zip(*(result.values() for result in results), strict=True))


def test_what_is_evaluated_is_what_is_stored(net, train, recipe) -> None:
    seen = []

    def evaluate(model: nn.Module) -> float:
        seen.append(copy.deepcopy(model.state_dict()))
        return 0.9

    monitor = AccuracyMonitor(net, evaluate, recipe, Limit(max_drop_abs=0.1, room=0.9), schedule=Schedule(every=100))
    train(net, 3, monitor.step)
    found = monitor.finish()
    assert all(torch.equal(a, b) for a, b in zip(seen[-1].values(), net.state_dict().values(), strict=True))
    assert {plan.name: plan.step for plan in found.layers} == {plan.name: plan.step for plan in recipe.layers}
    assert found.plan("0.weight").bytes > 0
    assert all(type(module).__module__.startswith("torch") for module in net.modules())


def test_finish_loosens_until_the_threshold_is_kept(net, train, recipe) -> None:
    monitor = AccuracyMonitor(net, saying(0.9, 0.7, 0.75, 0.85), recipe, LIMIT)
    train(net, 2, monitor.step)
    found = monitor.finish()
    assert [record.metrics["metric"] for record in monitor.log] == [0.7, 0.75, 0.85]
    assert any(plan != recipe.plan(plan.name) for plan in found.layers)


def test_finish_says_that_nothing_helps(net, train, recipe) -> None:
    monitor = AccuracyMonitor(net, saying(0.9, 0.7), recipe, LIMIT)
    train(net, 2, monitor.step)
    with pytest.raises(BudgetError, match="metrics must keep their thresholds .* without any quantization") as caught:
        monitor.finish()
    methods = [plan.method for plan in caught.value.nearest.layers]
    assert methods == [Method.LOSSLESS, Method.PRUNE, Method.PRUNE], "what is dropped stays dropped"
    train(net, 1, monitor.step)  # it goes on


def test_baseline_may_be_that_of_now(net, train, recipe) -> None:
    monitor = AccuracyMonitor(
        net, saying(0.1, 0.5, 0.45, 0.8, 0.6), recipe, LIMIT, baseline="now", schedule=Schedule(every=1)
    )
    train(net, 2, monitor.step)
    assert [(record.baseline["metric"], record.state) for record in monitor.log] == [(0.5, "room"), (0.8, "below")]


def test_metrics_may_be_told(net, train, recipe) -> None:
    monitor = AccuracyMonitor(net, None, recipe, LIMIT, baseline=0.9)
    train(net, 1, monitor.step)
    assert monitor.observe(0.5).state == "below"
    with pytest.raises(TrainingError, match="must be told metrics: call observe"):
        monitor.check()
    monitor.finish()
    for baseline, text in ((None, "must have a baseline, or a threshold"), ("now", "baseline must be metrics, None")):
        with pytest.raises(TrainingError, match=text):
            AccuracyMonitor(net, None, recipe, LIMIT, baseline=baseline)


def test_diverged_training_is_found(net, train, recipe) -> None:
    monitor = AccuracyMonitor(net, saying(0.9, math.nan), recipe, LIMIT, schedule=Schedule(every=2))
    with pytest.raises(TrainingError, match="metric 'metric' must be finite, not nan"):
        train(net, 2, monitor.step)
    with torch.no_grad():
        next(net.parameters())[0, 0, 0, 0] = math.nan
    with pytest.raises(TrainingError, match="'0.weight' must be finite, and has NaN or infinity"):
        monitor.check()


def test_finished_monitors_and_second_ones_are_refused(net, recipe) -> None:
    monitor = AccuracyMonitor(net, saying(0.9), recipe, LIMIT)
    with pytest.raises(TrainingError, match="must pass through one recipe at a time"):
        AccuracyMonitor(net, saying(0.9), recipe, LIMIT)
    monitor.finish()
    for call in (monitor.step, monitor.finish, lambda: monitor.observe(0.5)):
        with pytest.raises(TrainingError, match="must be at work: it was finished or detached"):
            call()


def test_a_failed_start_leaves_the_model_alone(net, recipe) -> None:
    with pytest.raises(TrainingError, match="must be finite"):
        AccuracyMonitor(net, saying(math.nan), recipe, LIMIT)
    assert type(net[0]) is nn.Conv2d
    with pytest.raises(RecipeError, match="has no tensor"):
        AccuracyMonitor(net[0], saying(0.9), recipe, LIMIT)


class Hiding(nn.Module):
    """Uses a weight that its owner isn't asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.hidden = [self.layer.weight]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.hidden[0]


def test_weights_that_are_read_elsewhere_are_found(quantized) -> None:
    model = Hiding()
    monitor = AccuracyMonitor(model, saying(0.9), Recipe((quantized("layer.weight", 0.1),)), LIMIT)
    model(torch.ones(1, 4)).sum().backward()
    with pytest.raises(TrainingError, match="'layer.weight' must be read through its module"):
        monitor.step()


def test_log_is_lines_of_json(net, train, recipe, tmp_path) -> None:
    path = tmp_path / "log.jsonl"
    monitor = AccuracyMonitor(net, saying(0.9, 0.5, 0.9), recipe, LIMIT, schedule=Schedule(every=1), path=path)
    train(net, 3, monitor.step)
    assert read_log(path) == monitor.log
    first = json.loads(path.read_text().splitlines()[0])
    assert first["state"] == "below"
    assert {layer["name"] for layer in first["layers"]} == {"0.weight", "4.weight", "6.weight"}
    layer = next(layer for layer in first["layers"] if layer["name"] == "4.weight")
    assert (layer["granularity"], layer["density"]) == ("coarse", 0.5)
    assert layer["entropy"] > 3
    with pytest.raises(TrainingError, match="a line of the log must be a record with step, metrics"):
        parse_record('{"step": 1}')


def resumed(net, recipe, state, *values: float) -> AccuracyMonitor:
    monitor = AccuracyMonitor(net, saying(*values), recipe, LIMIT, schedule=Schedule(every=2), ramp=Ramp(0, 6, every=2))
    monitor.load_state_dict(state)
    return monitor


def test_going_on_from_a_state_is_as_if_nothing_had_happened(net, train, recipe, tmp_path) -> None:
    other = copy.deepcopy(net)
    values = (0.9, 0.7, 0.65, 0.85, 0.89, 0.9, 0.9)
    whole = AccuracyMonitor(net, saying(*values), recipe, LIMIT, schedule=Schedule(every=2), ramp=Ramp(0, 6, every=2))
    optimizer = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9)
    train(net, 5, whole.step, optimizer)
    saved = {"monitor": whole.state_dict(), "model": net.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(saved, tmp_path / "saved.pt")
    train(net, 7, whole.step, optimizer)

    saved = torch.load(tmp_path / "saved.pt", weights_only=True)
    other.load_state_dict(saved["model"])
    monitor = resumed(other, recipe, saved["monitor"], *values[:1], *values[3:])
    optimizer = torch.optim.SGD(other.parameters(), 0.05, momentum=0.9)
    optimizer.load_state_dict(saved["optimizer"])
    train(other, 7, monitor.step, optimizer)
    assert monitor.log == whole.log
    assert monitor.layers.aims == whole.layers.aims
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), other.state_dict().values(), strict=True))


def test_states_of_something_else_are_refused(net, recipe) -> None:
    monitor = AccuracyMonitor(net, saying(0.9), recipe, LIMIT)
    state = monitor.state_dict()
    monitor.detach()
    wider = nn.Sequential(nn.Linear(4, 5))
    for model, plans, text in (
        (wider, starting_recipe(wider), "state must be of this model: that one has other weights"),
        (net, starting_recipe(net), "state must be of this recipe: start with the one"),
    ):
        with pytest.raises(TrainingError, match=text):
            resumed(copy.deepcopy(model), plans, state, 0.9)
    with pytest.raises(TrainingError, match="state must be one that a monitor saved, of format 1"):
        resumed(copy.deepcopy(net), recipe, {}, 0.9)
