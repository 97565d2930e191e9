"""A walk through a network in its order, each layer met as those before it left its inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from regrain import RecipeError, TaskError
from regrain.core.pattern import Compensation, Pattern, Pruning
from regrain.core.recipe import Cell, LayerPlan, Method
from regrain.models.network import Network
from regrain.models.task import Task, task_from
from regrain.planning.build import Built, build
from regrain.planning.layer import Layer
from regrain.planning.sequential import Sequential
from regrain.transforms.refit import Moments

Make = Callable[..., Layer]

BATCHES = [torch.randn(50, 2, 6, 6, generator=torch.Generator().manual_seed(seed)) + 0.3 for seed in range(3)]


class Net(nn.Module):
    """A convolution with a norm after it, another one with a bias, a linear layer that is used twice, and a last one
    without a bias."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.last = nn.Linear(8, 3, bias=False)  # made first, used last
        self.first, self.norm = nn.Conv2d(2, 6, 3, bias=False), nn.BatchNorm2d(6)
        self.second = nn.Conv2d(6, 8, 2)
        self.twice = nn.Linear(8, 8)
        for parameter in self.parameters():
            parameter.data *= 2.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.first(x)).relu_()
        x = self.second(x).relu().mean(dim=(2, 3))
        return self.last(self.twice(self.twice(x).relu()))


@pytest.fixture
def network() -> Network:
    return Network(Net().eval())


def task_of(network: Network) -> Task:
    return task_from(lambda: network.model, lambda split: BATCHES, lambda model, batch: model(batch), kind="logits")


@pytest.fixture
def sequential(network: Network) -> Sequential:
    return Sequential(network, task_of(network), BATCHES)


@pytest.fixture
def layers(network: Network, make_layer: Make) -> dict[str, Layer]:
    """Tensors of the network. Means aren't those of the calibration data: a walk finds them itself."""
    biases = {"first.weight": ("norm.running_mean", -1), "second.weight": ("second.bias", 1)}
    found = {}
    for name, place in network.places.items():
        weights = network.get(name)
        matrix = weights.reshape(place.shape[0], -1) if weights.ndim > 1 else weights.reshape(1, -1)
        made = make_layer(*matrix.shape, name=name, shape=place.shape, kind=place.kind, weights=matrix)
        if name in biases:
            bias, sign = biases[name]
            made = replace(made, bias=bias, bias_sign=sign, mean=np.zeros(matrix.shape[1], np.float32))
        found[name] = made
    return found


def plan(name: str, density: float, compensation: Compensation = Compensation.SEQUENTIAL) -> LayerPlan:
    return LayerPlan(name, Method.PRUNE, pruning=Pruning(Pattern("column"), density, compensation=compensation))


def outputs(network: Network, built: dict[str, Built] | None = None) -> np.ndarray:
    """Of all calibration data, with what was built in the network for as long."""
    before = {name: network.get(name) for name in built or {}}
    for name, one in (built or {}).items():
        network.set(name, one.values)
    with torch.no_grad():
        rows = torch.cat([network.model(batch) for batch in BATCHES]).numpy()
    for name, value in before.items():
        network.set(name, value)
    return rows


CENTERED = {"last.weight": False, "second.weight": True, "first.weight": True}


def test_layers_are_met_in_the_order_of_use(network: Network, sequential: Sequential) -> None:
    met: dict[str, Moments] = {}
    before = outputs(network)

    def visit(name: str, moments: Moments) -> dict[str, np.ndarray]:
        met[name] = moments
        return {"first.weight": 0.5 * network.get(name)} if name == "first.weight" else {}

    sequential.walk(CENTERED, {}, visit)
    assert list(met) == ["first.weight", "second.weight", "last.weight"]
    assert np.array_equal(outputs(network), before)
    model, x = network.model, torch.cat(BATCHES)
    with torch.no_grad():
        half = nn.functional.conv2d(x, 0.5 * model.first.weight)
        was, now = (model.norm(one).relu() for one in (model.first(x), half))
        y = nn.functional.conv2d(was, model.second.weight).movedim(1, -1).reshape(-1, 8).double().numpy()
        rows = nn.functional.unfold(now, (2, 2)).transpose(1, 2).reshape(-1, 24).double().numpy()
    found = met["second.weight"]
    np.testing.assert_allclose(found.mean, rows.mean(0), atol=1e-5)
    np.testing.assert_allclose(found.target, y.mean(0), atol=1e-5)
    np.testing.assert_allclose(found.inputs, np.cov(rows.T, bias=True), atol=1e-4)
    np.testing.assert_allclose(found.crossed, np.cov(y.T, rows.T, bias=True)[:8, 8:], atol=1e-4)
    last = met["last.weight"]  # without a bias that could take over the mean
    assert not last.mean.any()
    assert not last.target.any()


def test_others_are_changed_for_the_changed_network_alone(network: Network, sequential: Sequential) -> None:
    met = []
    others = {"first.weight": np.zeros((6, 2, 3, 3), np.float32), "twice.bias": np.ones(8, np.float32)}
    sequential.walk({"second.weight": True}, others, lambda _, moments: met.append(moments) or {})
    (found,) = met
    assert found.target.any()
    assert np.ptp(found.inputs) == 0.0  # all inputs are constants now
    np.testing.assert_array_equal(network.get("twice.bias"), Net().twice.bias.detach().numpy())


def test_what_it_can_not_meet_is_said(sequential: Sequential) -> None:
    assert [
        name for name in ("first.weight", "twice.weight", "last.weight", "norm.weight") if sequential.meets(name)
    ] == [
        "first.weight",
        "last.weight",
    ]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_whatever_happens_the_network_is_the_original_again(
    network: Network, sequential: Sequential, error: BaseException
) -> None:
    before = outputs(network)

    def visit(name: str, moments: Moments) -> dict[str, np.ndarray]:
        if name == "second.weight":
            raise error
        return {name: np.zeros(network.places[name].shape, np.float32)}

    with pytest.raises(type(error)):
        sequential.walk(CENTERED, {}, visit)
    assert np.array_equal(outputs(network), before)


def test_a_task_that_fails_says_so(network: Network) -> None:
    def output(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        if model.first.weight.abs().sum() == 0:
            raise ValueError("not these weights")
        return model(batch)

    task = task_from(lambda: network.model, lambda split: BATCHES, output)
    walk = Sequential(network, task, BATCHES)
    with pytest.raises(TaskError, match="not these weights"):
        walk.walk({"last.weight": False}, {"first.weight": np.zeros((6, 2, 3, 3), np.float32)}, lambda *_: {})


def test_calls_may_take_different_ways(network: Network) -> None:
    """A batch that doesn't reach a layer has no part in it."""

    def output(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        return model(batch) if batch is not BATCHES[1] else batch.flatten(1)[:, :3]

    met = []
    walk = Sequential(network, task_from(lambda: network.model, lambda split: BATCHES, output), BATCHES)
    walk.walk(CENTERED, {}, lambda name, _: met.append(name) or {})
    assert met == ["first.weight", "second.weight", "last.weight"]


def missed(network: Network, layers: dict[str, Layer], built: dict[str, Built]) -> float:
    """What the outputs of the second layer lack, as its factor of outputs has it."""
    model, x = network.model, torch.cat(BATCHES)
    values = {name: torch.from_numpy(one.values) for name, one in built.items()}
    with torch.no_grad():
        y = model.second(model.norm(model.first(x)).relu())
        mean = values["norm.running_mean"].reshape(-1)
        first = nn.functional.conv2d(x, values["first.weight"])
        norm = nn.functional.batch_norm(first, mean, model.norm.running_var, model.norm.weight, model.norm.bias)
        now = nn.functional.conv2d(norm.relu(), values["second.weight"], values["second.bias"].reshape(-1))
    rows = (now - y).movedim(1, -1).reshape(-1, 8).double().numpy()
    return float(np.einsum("ni,ij,nj->", rows, layers["second.weight"].factors.damage().outputs, rows))


@pytest.mark.parametrize("density", [1.0, 0.7, 0.4])
def test_a_layer_in_sequence_is_never_worse_than_by_itself(
    network: Network, layers: dict[str, Layer], sequential: Sequential, density: float
) -> None:
    """Its mask is the same, and so are the layers before it."""
    first = plan("first.weight", 0.5, Compensation.LEAST_SQUARES)
    second = [plan("second.weight", density, kind) for kind in (Compensation.LEAST_SQUARES, Compensation.SEQUENTIAL)]
    alone, after = (build(layers, {one.name: one for one in (first, two)}, sequential=sequential) for two in second)
    assert np.array_equal(alone["second.weight"].values != 0, after["second.weight"].values != 0)
    assert after["second.weight"].density == pytest.approx(density, abs=0.1)
    assert missed(network, layers, after) < 0.9 * missed(network, layers, alone)


def test_threads_do_not_matter(layers: dict[str, Layer], sequential: Sequential) -> None:
    plans = {name: plan(name, density) for name, density in (("first.weight", 0.5), ("last.weight", 1.0))}
    one, three = (build(layers, plans, threads, sequential=sequential) for threads in (1, 3))
    assert all(one[name].values.tobytes() == three[name].values.tobytes() for name in layers)


def test_means_of_the_outputs_are_kept(network: Network, layers: dict[str, Layer], sequential: Sequential) -> None:
    built = build(layers, {"second.weight": plan("second.weight", 0.5)}, sequential=sequential)
    model, x = network.model, torch.cat(BATCHES)
    with torch.no_grad():
        x = model.norm(model.first(x)).relu()
        weight, bias = (torch.from_numpy(built[f"second.{name}"].values) for name in ("weight", "bias"))
        moved = nn.functional.conv2d(x, weight, bias.reshape(-1)) - model.second(x)
    assert float(moved.mean(dim=(0, 2, 3)).abs().max()) < 1e-5
    assert float(moved.abs().max()) > 0.01


def test_what_comes_before_all_that_changes_stays_exact(layers: dict[str, Layer], sequential: Sequential) -> None:
    plans = {"first.weight": plan("first.weight", 1.0), "second.weight": plan("second.weight", 0.5)}
    built = build(layers, plans, sequential=sequential)
    assert np.array_equal(built["first.weight"].values.reshape(6, -1), layers["first.weight"].weights)
    assert np.array_equal(built["norm.running_mean"].values.reshape(1, -1), layers["norm.running_mean"].weights)


def test_rows_that_follow_make_up_for_others(layers: dict[str, Layer], sequential: Sequential) -> None:
    follows = LayerPlan("first.weight", Method.PRUNE, pruning=Pruning(Pattern("row"), follows="second.weight"))
    built = build(layers, {"second.weight": plan("second.weight", 0.5), "first.weight": follows}, sequential=sequential)
    used = built["second.weight"].values.any(axis=(0, 2, 3))
    assert used.sum() == 3
    assert np.array_equal(built["first.weight"].values.any(axis=(1, 2, 3)), used)


def test_what_is_kept_may_be_quantized(network: Network, layers: dict[str, Layer], sequential: Sequential) -> None:
    """Later layers make up for rounding, too."""
    rounded = replace(plan("first.weight", 1.0), method=Method.QUANTIZE, cell=Cell("row"), step=0.1)
    before = outputs(network)
    alone = build(layers, {"first.weight": rounded}, sequential=sequential)
    built = build(layers, {"first.weight": rounded, "second.weight": plan("second.weight", 1.0)}, sequential=sequential)
    assert np.array_equal(alone["first.weight"].values, built["first.weight"].values)
    lost, less = (float(np.square(outputs(network, one) - before).mean()) for one in (alone, built))
    assert less < 0.9 * lost


def test_it_takes_data(layers: dict[str, Layer]) -> None:
    with pytest.raises(RecipeError, match="compensation must not be sequential where no task runs the model"):
        build(layers, {"second.weight": plan("second.weight", 0.5)})
