"""Sensitivities, beside exact Jacobians, finite differences, and the damage that random changes really do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from regrain import TaskError
from regrain.accuracy import FidelityMeter
from regrain.models.network import Network
from regrain.models.task import task_from
from regrain.profiling import sensitivity
from regrain.profiling.sensitivity import Sensitivity, measure, running_statistics

PROBES = 1500


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def net(norm: bool = False) -> nn.Module:
    torch.manual_seed(3)
    middle = nn.BatchNorm1d(6) if norm else nn.Tanh()
    model = nn.Sequential(nn.Linear(5, 6), middle, nn.Tanh(), nn.Linear(6, 4)).eval()
    if norm:
        middle.running_mean.normal_(generator=seeded(1))
        middle.running_var.uniform_(0.5, 2, generator=seeded(2))
    return model


def inputs(split: str) -> list[torch.Tensor]:
    return list(torch.randn(8, 5, generator=seeded(len(split))).split(5))


def measured(
    model: nn.Module, kind: str, names: list[str], means: dict[str, Any] | None = None, probes: int = PROBES
) -> dict[str, Sensitivity]:
    task = task_from(lambda: model, inputs, lambda model, batch: model(batch), kind=kind)
    batches = inputs("calibration")
    return measure(Network(model), task, batches, means or {}, names, seed=0, probes=probes)


def jacobians(model: nn.Module, kind: str) -> dict[str, torch.Tensor]:
    """M^(1/2) J of every weight, (n, d, *shape)."""
    batch = torch.cat(inputs("calibration"))
    state = {name: tensor.detach() for name, tensor in model.named_parameters()}

    def run(state: dict[str, torch.Tensor]) -> torch.Tensor:
        rows = torch.func.functional_call(model, state, (batch,))
        return nn.functional.normalize(rows, dim=1) if kind == "embeddings" else rows

    found = torch.func.jacrev(run)(state)
    if kind == "embeddings":
        return found
    p = run(state).softmax(1)
    values, vectors = torch.linalg.eigh(torch.diag_embed(p) - p[:, :, None] * p[:, None, :])
    square = vectors * values.clamp_min(0).sqrt()[:, None, :]  # square square^T = M
    return {name: torch.einsum("nij,ni...->nj...", square, j) for name, j in found.items()}


def close(found: np.ndarray, exact: torch.Tensor) -> None:
    assert np.abs(found - exact.numpy()).max() < 0.06 * exact.diagonal().max().item()


@pytest.mark.parametrize("kind", ["embeddings", "logits"])
def test_against_exact_jacobians(kind: str) -> None:
    model = net()
    found = measured(model, kind, ["0.weight", "0.bias", "3.weight"])
    for name, exact in jacobians(model, kind).items():
        if name not in found:
            continue
        assert found[name].trace == pytest.approx(exact.square().sum().item() / 8, rel=0.05)
        if exact.dim() == 4:
            close(found[name].columns, torch.einsum("ndrc,ndrk->ck", exact, exact) / 8)
            close(found[name].rows, torch.einsum("ndrc,ndkc->rk", exact, exact) / 8)
        else:
            assert found[name].columns is None


def test_centering_takes_the_mean_input_out() -> None:
    model, mean = net(), np.linspace(-1, 1, 5, dtype=np.float32)
    exact = jacobians(model, "embeddings")
    centered = exact["0.weight"] - exact["0.bias"][..., None] * torch.from_numpy(mean)
    found = measured(model, "embeddings", ["0.weight"], {"0.weight": mean})["0.weight"]
    assert found.trace == pytest.approx(centered.square().sum().item() / 8, rel=0.05)
    close(found.columns, torch.einsum("ndrc,ndrk->ck", centered, centered) / 8)


def test_running_statistics_against_finite_differences() -> None:
    model = net(norm=True).double()
    batch, pull = torch.cat(inputs("calibration")).double(), torch.randn(8, 4, generator=seeded(9)).double()
    statistics = running_statistics(Network(model), ["1.running_mean", "1.running_var", "0.weight"])
    assert [each.name for each in statistics] == ["1.running_mean", "1.running_var"]
    (model(batch) * pull).sum().backward()
    for each in statistics:
        buffer = model.get_buffer(each.name)
        for at in range(6):
            ends = []
            for change in (1e-5, -1e-5):
                buffer[at] += change
                ends.append((model(batch) * pull).sum().item())
                buffer[at] -= change
            gradient = model.get_parameter(each.parameter).grad[at] * each.factor[at]
            assert gradient.item() == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5)


def test_running_statistics_are_measured() -> None:
    model = net(norm=True)
    found = measured(model, "logits", ["1.running_mean", "1.running_var", "1.bias"], probes=20)
    spread = (model[1].weight / (model[1].running_var + model[1].eps).sqrt()).detach()
    assert found["1.running_mean"].trace > 0 < found["1.running_var"].trace
    assert found["1.running_mean"].trace == pytest.approx(
        found["1.bias"].trace * spread.square().mean().item(), rel=0.5
    )
    assert not model[1].running_mean.requires_grad


@pytest.mark.parametrize("kind", ["embeddings", "logits"])
def test_predicted_loss_is_what_random_changes_cost(kind: str) -> None:
    """loss ~ trace v / 2, summed over all weights: within 10 %."""
    model = net()
    names = [name for name, _ in model.named_parameters()]
    variances = {name: 1e-6 * (1 + at) for at, name in enumerate(names)}
    found = measured(model, kind, names)
    predicted = sum(found[name].trace * variance / 2 for name, variance in variances.items())
    model, batch = model.double(), torch.cat(inputs("calibration")).double()
    generator, meter = seeded(5), FidelityMeter(kind)
    with torch.no_grad():
        state = {name: tensor.clone() for name, tensor in model.named_parameters()}
        original = model(batch).numpy()
        for _ in range(250):
            changed = {
                name: tensor + variances[name] ** 0.5 * torch.randn(tensor.shape, generator=generator)
                for name, tensor in state.items()
            }
            meter.add(original, torch.func.functional_call(model, changed, (batch,)).numpy())
    assert meter.result().value == pytest.approx(predicted, rel=0.1)


def test_weights_that_the_output_ignores_have_no_trace() -> None:
    model = net()
    model.register_module("spare", nn.Linear(3, 2))
    task = task_from(
        lambda: model, inputs, lambda model, batch: model[3](model[2](model[1](model[0](batch)))), kind="logits"
    )
    found = measure(Network(model), task, inputs("calibration"), {}, ["spare.weight"], seed=0, probes=1)
    assert found["spare.weight"].trace == 0.0
    assert found["spare.weight"].rows is None


def test_weights_alone_are_measured_as_they_are_with_others() -> None:
    model = net()
    both = measured(model, "logits", ["0.weight", "3.weight"], probes=3)
    alone = measured(model, "logits", ["3.weight"], probes=3)
    assert alone["3.weight"].trace == both["3.weight"].trace
    assert np.array_equal(alone["3.weight"].columns, both["3.weight"].columns)


class Twice(nn.Module):
    """A layer that is used twice, one without a bias, an embedding that is the output matrix too."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.embed, self.inner, self.plain = nn.Embedding(7, 5), nn.Linear(5, 5), nn.Linear(5, 5, bias=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.inner(self.inner(self.embed(ids)).tanh()) + self.plain(self.embed(ids))
        return x @ self.embed.weight.T


def test_sums_are_those_of_whole_gradients() -> None:
    """The same projections, each gradient found by itself and multiplied in double precision."""
    model, batches, probes = Twice(), [torch.tensor([1, 4, 1]), torch.tensor([6, 2])], 3
    means = {"inner.weight": np.linspace(-1, 1, 5, dtype=np.float32)}
    names = ["embed.weight", "inner.weight", "plain.weight", "inner.bias"]
    task = task_from(lambda: model, inputs, lambda model, batch: model(batch), kind="logits")
    found = measure(Network(model), task, batches, means, names, seed=5, probes=probes)
    gradients: dict[str, list[torch.Tensor]] = {name: [] for name in names}
    generator, examples = seeded(5), 0
    for batch in batches:
        model.requires_grad_()
        rows = model(batch)
        for _ in range(probes):
            loss = sensitivity._projected(rows, "logits", generator)
            each = torch.autograd.grad(loss, [model.get_parameter(name) for name in names], retain_graph=True)
            for name, gradient in zip(names, each, strict=True):
                gradients[name].append(gradient.double())
            examples += len(rows)
    for at, (weight, bias) in enumerate(zip(gradients["inner.weight"], gradients["inner.bias"], strict=True)):
        gradients["inner.weight"][at] = weight - bias[:, None] * torch.from_numpy(means["inner.weight"])
    for name, each in gradients.items():
        assert found[name].trace == pytest.approx(sum(g.square().sum().item() for g in each) / examples, rel=1e-5)
        if name == "inner.bias":
            continue
        columns, rows = sum(g.T @ g for g in each) / examples, sum(g @ g.T for g in each) / examples
        np.testing.assert_allclose(found[name].columns, columns, rtol=1e-4, atol=1e-5 * columns.max().item())
        rows = rows.diagonal() if name == "embed.weight" else rows
        np.testing.assert_allclose(found[name].rows, rows, rtol=1e-4, atol=1e-5 * rows.max().item())


def test_gradients_make_room_as_soon_as_they_are_known() -> None:
    model = nn.Sequential(*[nn.Linear(5, 5, bias=False) for _ in range(3)])
    task = task_from(lambda: model, inputs, lambda model, batch: model(batch), kind="logits")
    network = Network(model)
    held: list[bool] = []
    model[0].weight.register_hook(lambda _: held.extend(p.grad is not None for p in model.parameters()))  # the last one
    measure(network, task, inputs("calibration"), {}, list(network.places), seed=0, probes=1)
    assert held == [False] * 6


def test_long_sides_get_diagonals(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = measured(net(), "logits", ["0.weight"], probes=2)["0.weight"]
    monkeypatch.setattr(sensitivity, "LARGEST", 5)
    found = measured(net(), "logits", ["0.weight"], probes=2)["0.weight"]
    assert found.columns.shape == (5, 5)
    np.testing.assert_allclose(found.rows, whole.rows.diagonal(), rtol=1e-5)


class Words(nn.Module):
    def __init__(self, sparse: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.head = nn.Embedding(9, 4, sparse=sparse), nn.Linear(4, 3)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.embed(ids))


@pytest.mark.parametrize("sparse", [False, True])
def test_embeddings_keep_the_use_of_each_row(sparse: bool) -> None:
    model = Words(sparse)
    task = task_from(lambda: model, inputs, lambda model, batch: model(batch), kind="logits")
    found = measure(Network(model), task, [torch.tensor([1, 1, 4])], {}, ["embed.weight"], seed=0, probes=4)[
        "embed.weight"
    ]
    assert found.rows.shape == (9,)
    assert np.flatnonzero(found.rows).tolist() == [1, 4]
    assert found.columns.shape == (4, 4)


def test_half_precision_models() -> None:
    model, exact = net().bfloat16(), measured(net(), "logits", ["0.weight"], probes=8)["0.weight"]
    task = task_from(lambda: model, inputs, lambda model, batch: model(batch.bfloat16()), kind="logits")
    mean = {"0.weight": np.zeros(5, np.float32)}
    found = measure(Network(model), task, inputs("calibration"), mean, ["0.weight"], seed=0, probes=8)["0.weight"]
    assert found.columns.dtype == np.float32
    assert found.trace == pytest.approx(exact.trace, rel=0.05)


def test_gradients_must_be_finite() -> None:
    class Root(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x * 0).abs().sqrt()

    model = Root(5, 4)
    nn.init.zeros_(model.bias)
    with pytest.raises(TaskError, match="gradients must be finite"):
        measured(model, "logits", ["bias"], probes=1)
