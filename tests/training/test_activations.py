"""What flows into layers in training: seen as it is, in few batches, and counted where layers are chosen."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from regrain.core.errors import TrainingError
from regrain.core.pattern import Pattern, Pruning, Score
from regrain.core.recipe import LayerPlan, Method, Recipe
from regrain.training import AccuracyMonitor, Limit, Ramp, Schedule
from regrain.training.activations import POSITIONS, Activations, positions_of
from regrain.training.weights import weights_of

LIMIT = Limit(max_drop_abs=0.1)


def watched(model: nn.Module) -> Activations:
    return Activations(weights_of(model).by_name.values())


def monitored(net: nn.Module, recipe: Recipe, **options) -> AccuracyMonitor:
    return AccuracyMonitor(net, lambda _: 0.85, recipe, LIMIT, **options)


@pytest.mark.parametrize("groups", [1, 2])
def test_channels_are_those_of_the_input(groups: int) -> None:
    layer = nn.Conv2d(4, 6, 3, padding=1, groups=groups)
    seen = watched(layer)
    x = torch.randn(4, 4, 8, 8) * torch.tensor([1.0, 2.0, 3.0, 0.0]).reshape(1, 4, 1, 1) + 0.5
    x[:, 0, :4] = 0.0
    layer(x)
    found, line = seen.activity("weight"), seen.state_of("weight")
    rows = x.movedim(1, -1).reshape(-1, 4)
    assert found.positions == line.positions == len(rows) <= POSITIONS
    for got, wanted in (
        (found.mean, rows.mean(0)),
        (found.variance, rows.var(0, unbiased=False)),
        (found.least, rows.amin(0)),
        (found.most, rows.amax(0)),
    ):
        assert got == pytest.approx(wanted.tolist(), rel=1e-5, abs=1e-6)
    assert line.sparsity == pytest.approx(1 / 8)
    sizes = rows.abs()[rows != 0]
    assert line.dynamic_range == pytest.approx(float((sizes.max() / sizes.min()).log2()), rel=1e-5)
    assert line.variances == (found.variance[3], sorted(found.variance)[2], found.variance[2])
    assert (line.channels, line.least, line.most) == (4, min(found.least), max(found.most))


def test_entropy_is_that_of_indices_with_one_scale() -> None:
    layer = nn.Linear(4, 2)
    seen = watched(layer)
    layer(torch.tensor([[0.0, 1.0, -1.0, 0.5]] * 8))
    assert seen.state_of("weight").entropy == pytest.approx(2.0)
    layer(torch.zeros(8, 4))
    kept = 0.9 * 0.25
    assert seen.state_of("weight").entropy == pytest.approx(
        -(3 * kept * torch.tensor(kept).log2() + (kept + 0.1) * torch.tensor(kept + 0.1).log2()).item()
    )


def test_every_statistic_is_a_running_mean() -> None:
    layer = nn.Linear(2, 2)
    seen = watched(layer)
    for value in (1.0, 3.0):
        layer(torch.tensor([[value, -value], [value, value]]))
    found = seen.activity("weight")
    assert found.mean == pytest.approx((1.2, 0.0))
    assert found.variance == pytest.approx((0.9 * 1 + 0.1 * 9 - 1.44, 1.8))
    assert (found.least, found.most) == (pytest.approx((1.2, -1.2)), pytest.approx((1.2, 1.2)))
    assert found.positions == 4


def test_few_positions_stand_for_all_of_them() -> None:
    """No stride divides the width: no column of an image, and no token, stands for the others."""
    images = torch.arange(28.0).expand(64, 2, 28, 28)
    rows = positions_of(nn.Conv2d(2, 2, 3), images)
    assert 0.9 * POSITIONS < len(rows) <= POSITIONS
    assert rows[:, 0].unique().tolist() == list(range(28))
    tokens = torch.arange(128.0)[None, :, None].expand(512, 128, 3)
    rows = positions_of(nn.Linear(3, 3), tokens)
    assert 0.9 * POSITIONS < len(rows) <= POSITIONS
    assert rows[:, 0].unique().tolist() == list(range(128))
    assert positions_of(nn.Conv1d(2, 2, 1), torch.ones(2, 5)).shape == (5, 2)
    assert positions_of(nn.Linear(2, 2), torch.ones(2)).shape == (1, 2)
    assert len(positions_of(nn.Linear(2, 2), torch.ones(2000, 2))) <= POSITIONS


def test_what_is_not_finite_or_empty_is_left_out() -> None:
    layer = nn.Linear(2, 2)
    seen = watched(layer)
    layer(torch.tensor([[1.0, torch.inf]]))
    layer(torch.ones(0, 2))
    assert seen.activity("weight") is None
    assert seen.state_of("weight") is None


def test_looks_are_few_and_never_at_evaluations(net, train, recipe, images) -> None:
    def evaluate(model: nn.Module) -> float:
        model(100.0 * images)  # gradients are on
        return 0.85

    monitor = AccuracyMonitor(net, evaluate, recipe, LIMIT, schedule=Schedule(every=2, sample=3))
    counts = []

    def stepped() -> None:
        monitor.step()
        counts.append(monitor.activity()["6.weight"].positions)

    train(net, 7, stepped)
    assert counts == [64, 64, 64, 128, 128, 128, 192]
    with torch.no_grad():
        net(100.0 * images)
    found = monitor.activity()
    assert max(found["0.weight"].most) < 10.0
    assert found.keys() == {"0.weight", "4.weight", "6.weight"}
    assert found["0.weight"].positions == 3 * -(-64 * 4 * 4 // 3)
    assert min(found["4.weight"].least) == 0.0, "behind a ReLU"
    inputs = {layer.name: layer.inputs for layer in monitor.log[-1].layers}
    assert inputs["4.weight"].sparsity > 0.2
    assert 0.0 < inputs["4.weight"].entropy < 8.0
    monitor.detach()
    net(images)
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_a_state_goes_on(net, train, recipe, images) -> None:
    monitor = monitored(net, recipe)
    train(net, 3, monitor.step)
    state, before = monitor.state_dict(), monitor.activity()
    monitor.detach()
    other = monitored(copy.deepcopy(net), recipe)
    other.load_state_dict(state)
    assert other.activity() == before
    other.detach()
    older = monitored(copy.deepcopy(net), recipe)
    older.load_state_dict({key: value for key, value in state.items() if key != "activations"})
    assert older.activity() == {}


def test_choices_see_what_flows_now(quantized) -> None:
    """E[g^2] is of current gradients, which have current inputs in them: where inputs grow, damage does."""
    torch.manual_seed(0)
    model = nn.ModuleDict({"a": nn.Linear(16, 8), "b": nn.Linear(16, 8)})
    recipe = Recipe((quantized("a.weight", 0.05), quantized("b.weight", 0.05)))
    schedule = Schedule(every=1000, sample=1)
    monitor = AccuracyMonitor(model, None, recipe, LIMIT, baseline=0.9, schedule=schedule)

    def steps(a: float, b: float) -> dict[str, float]:
        for _ in range(60):
            x = torch.randn(64, 16)
            (model["a"](a * x) + model["b"](b * x)).square().mean().backward()
            monitor.step()
        return {name: effect.damage for name, effect in monitor.layers.effects().items()}

    first, then = steps(4.0, 1.0), steps(1.0, 4.0)
    assert first["a.weight"] > 4.0 * first["b.weight"]
    assert then["b.weight"] > 4.0 * then["a.weight"]
    assert [change.name for change in monitor.observe(0.5).changes] == ["b.weight"]
    variance = {name: activity.mean_variance for name, activity in monitor.activity().items()}
    assert variance == pytest.approx({"a.weight": 1.0, "b.weight": 16.0}, rel=0.2)


@pytest.mark.parametrize(("score", "kept"), [(Score.VARIANCE, [0, 1]), (Score.WANDA, [2, 3]), (Score.OBS, [2, 3])])
def test_masks_by_current_inputs(score: Score, kept: list[int]) -> None:
    """Inputs 0 and 1 vary; 2 and 3 are large and stay the same."""
    layer = nn.Linear(4, 8, bias=False)
    nn.init.ones_(layer.weight)
    pruning = Pruning(Pattern("column"), 0.5, score)
    recipe = Recipe((LayerPlan("weight", Method.PRUNE, pruning=pruning),))
    ramp = Ramp(0, 4, every=1)
    monitor = AccuracyMonitor(layer, None, recipe, LIMIT, baseline=1.0, schedule=Schedule(sample=1), ramp=ramp)
    for _ in range(4):
        x = torch.cat((torch.randn(256, 2), torch.full((256, 2), 3.0)), dim=1)
        layer(x).square().sum().backward()
        monitor.step()
    assert monitor.layers.passing.mask("weight")[0].nonzero().flatten().tolist() == kept


def test_scores_by_inputs_of_grouped_convolutions() -> None:
    model = nn.Conv2d(4, 4, 3, groups=2)
    seen = watched(model)
    x = torch.randn(8, 4, 8, 8) * torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(1, 4, 1, 1)
    model(x)
    factor = seen.factor(weights_of(model).by_name["weight"], Score.WANDA)
    power = x.square().mean((0, 2, 3))
    wanted = power[torch.tensor([[0, 1], [0, 1], [2, 3], [2, 3]])].repeat_interleave(9, 1)
    assert torch.allclose(factor, wanted, rtol=1e-5)


def test_scores_that_need_inputs_before_there_are_any(net) -> None:
    for pruning, ramp in ((Pruning(Pattern("row"), 0.5, Score.WANDA), None),
                          (Pruning(Pattern("2:4"), 0.5, Score.VARIANCE), Ramp(0, 5))):  # fmt: skip
        recipe = Recipe((LayerPlan("4.weight", Method.PRUNE, pruning=pruning),))
        with pytest.raises(TrainingError, match="score of '4.weight' must be obs or magnitude, not .*: give a ramp"):
            monitored(net, recipe, ramp=ramp)
        assert type(net[4]) is nn.Linear
        monitored(net, recipe, ramp=ramp, masks={"4.weight": torch.ones(32, 256, dtype=torch.bool)}).detach()


def test_training_is_the_same_with_looks(net, train, recipe) -> None:
    nets = [net, copy.deepcopy(net)]
    for model, sample in zip(nets, (1, 1000), strict=True):
        schedule = Schedule(every=1000, sample=sample)
        monitor = monitored(model, Recipe(recipe.layers[:1]), schedule=schedule)
        train(model, 4, monitor.step)
    assert all(torch.equal(a, b) for a, b in zip(*(model.state_dict().values() for model in nets), strict=True))


def test_compiled_models_are_not_looked_at(monkeypatch) -> None:
    layer = nn.Linear(2, 2)
    seen = watched(layer)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    layer(torch.ones(2, 2))
    assert seen.activity("weight") is None
