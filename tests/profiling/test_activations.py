"""Statistics of inputs, beside those that NumPy finds in patches cut out by hand."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from regrain import TaskError
from regrain.models.network import Network
from regrain.profiling.activations import ROWS, Inputs, gather_inputs


def gather(model: nn.Module, batches: Iterable[torch.Tensor], **options: int) -> dict[str, Inputs]:
    network = Network(model.eval())

    def run() -> Iterable[object]:
        for batch in batches:
            with torch.no_grad():
                yield model(batch)

    names = [name for name, place in network.places.items() if place.kind in ("linear", "conv")]
    return gather_inputs(network, run, names, **options)


def patches(layer: nn.Conv1d | nn.Conv2d, batch: torch.Tensor) -> np.ndarray:
    """What each output position sees, (positions, channels x kernel positions)."""
    mode = {"zeros": "constant", "circular": "wrap", "reflect": "reflect"}[layer.padding_mode]
    x = np.pad(batch.numpy(), [(0, 0), (0, 0), *((size, size) for size in layer.padding)], mode=mode)
    spans = [(k - 1) * d + 1 for k, d in zip(layer.kernel_size, layer.dilation, strict=True)]
    starts = [range(0, n - span + 1, s) for n, span, s in zip(x.shape[2:], spans, layer.stride, strict=True)]
    rows = []
    for example, *start in product(range(len(x)), *starts):
        cut = [slice(a, a + span, d) for a, span, d in zip(start, spans, layer.dilation, strict=True)]
        rows.append(x[(example, slice(None), *cut)].reshape(-1))
    return np.array(rows)


def check(found: Inputs, rows: np.ndarray) -> None:
    rows = rows.astype(np.float64)
    assert found.count == len(rows)
    np.testing.assert_allclose(found.mean, rows.mean(0), atol=1e-6)
    np.testing.assert_allclose(found.variance, rows.var(0), atol=1e-5)
    np.testing.assert_allclose(found.least, rows.min(0), atol=1e-7)
    np.testing.assert_allclose(found.most, rows.max(0), atol=1e-7)
    assert found.hessian is not None
    np.testing.assert_allclose(found.hessian, np.cov(rows.T, bias=True), atol=1e-5)


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)) + 0.5


def test_linear() -> None:
    batches = [noise(4, 3, 5), 2 * noise(2, 7, 5)]
    check(gather(nn.Linear(5, 2), batches)["weight"], np.concatenate([b.reshape(-1, 5).numpy() for b in batches]))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv1d(3, 2, 4),
        nn.Conv1d(3, 2, 3, stride=2, padding=2, dilation=2),
        nn.Conv1d(3, 2, 3, padding=1, padding_mode="circular"),
        nn.Conv2d(3, 2, 1),
        nn.Conv2d(3, 2, (2, 3), stride=(2, 1), padding=(0, 2), dilation=(3, 1)),
        nn.Conv2d(3, 2, 3, padding=1, padding_mode="reflect"),
    ],
    ids=str,
)
def test_convolutions(layer: nn.Conv1d | nn.Conv2d) -> None:
    batches = [noise(3, 3, *[9] * len(layer.kernel_size)), noise(2, 3, *[11] * len(layer.kernel_size))]
    found = gather(layer, batches)["weight"]
    check(found, np.concatenate([patches(layer, batch) for batch in batches]))
    assert found.mean.size == layer.weight[0].numel()


def test_patches_are_in_the_order_of_the_weights() -> None:
    layer, batch = nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False), noise(2, 3, 8, 8)
    made = layer(batch).permute(0, 2, 3, 1).reshape(-1, 4).detach().numpy()
    flat = layer.weight.detach().reshape(4, -1).numpy()
    np.testing.assert_allclose(made, patches(layer, batch) @ flat.T, atol=1e-5)
    np.testing.assert_allclose(made.mean(0), flat @ gather(layer, [batch])["weight"].mean, atol=1e-5)


@pytest.mark.parametrize("layer", [nn.Conv3d(2, 3, 2), nn.Conv2d(2, 3, 3, padding="same")], ids=str)
def test_other_convolutions_know_their_channels(layer: nn.Module) -> None:
    batch = noise(2, 2, *[5] * (layer.weight.dim() - 2))
    found = gather(layer, [batch])["weight"]
    assert found.mean.size == layer.weight[0].numel()
    each = layer.weight[0, 0].numel()
    np.testing.assert_allclose(found.mean[::each], batch.mean([0, *range(2, batch.dim())]), atol=1e-6)


def test_one_example_without_an_axis_for_examples() -> None:
    layer, image = nn.Conv2d(3, 2, 3), noise(3, 6, 6)
    check(gather(layer, [image])["weight"], patches(layer, image[None]))


def test_grouped_convolutions_are_left_out() -> None:
    assert set(gather(nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(4, 2, 1)), [noise(2, 4, 6, 6)])) == {
        "1.weight"
    }


def test_layers_that_are_never_reached_are_left_out() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(3, 2), nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.used(input=x)

    assert set(gather(Half(), [noise(4, 3)])) == {"used.weight"}


def test_hessians_of_many_rows_are_thinned_evenly() -> None:
    rows = torch.arange(3.0 * ROWS)[:, None] / ROWS
    found = gather(nn.Linear(1, 1), [rows])["weight"]
    assert found.count == 3 * ROWS
    assert found.hessian[0, 0] == pytest.approx(rows.var().item(), rel=1e-3)


def test_wide_layers_get_no_hessian() -> None:
    found = gather(nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 2)), [noise(9, 6)], most=4)
    assert found["0.weight"].hessian is None
    assert found["1.weight"].hessian.shape == (4, 4)


class Heads(nn.Module):
    """Three layers that are given the same tensor, unless `apart` has that call's number, and one after them."""

    def __init__(self, *apart: int, inplace: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.q, self.k, self.v, self.out = (nn.Linear(6, 6) for _ in range(4))
        self.apart, self.inplace, self.calls = apart, inplace, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        x = x + 1
        made = self.q(x)
        other = x.mul_(0.5) if self.inplace else 0.5 * x if self.calls in self.apart else x
        return self.out(made + self.k(other) + self.v(x))


def alone(model: nn.Module, batches: list[torch.Tensor]) -> dict[str, Inputs]:
    """Each weight's statistics, gathered without the others."""
    network, found = Network(model.eval()), {}
    for name in (name for name in network.places if name.endswith("weight")):
        model.calls = 0
        with torch.no_grad():
            found |= gather_inputs(network, lambda: (model(batch) for batch in batches), [name])
    return found


def equal(one: Inputs, other: Inputs) -> bool:
    return one.count == other.count and all(
        np.array_equal(getattr(one, field), getattr(other, field))
        for field in ("mean", "variance", "least", "most", "hessian")
    )


@pytest.mark.parametrize(
    ("model", "objects"),
    [(Heads(), 1), (Heads(inplace=True), 2), (Heads(1, 2), 3), (Heads(1), 3), (Heads(2), 3)],
)
def test_layers_with_the_same_inputs_share_what_is_found(model: Heads, objects: int) -> None:
    batches = [noise(9, 6), 2 * noise(5, 6)]
    expected = alone(model, batches)

    def run() -> Iterable[object]:
        model.calls = 0
        for batch in batches:
            yield model(batch)

    with torch.no_grad():
        found = gather_inputs(Network(model), run, list(expected))
    assert set(found) == set(expected)
    for name in expected:
        assert equal(found[name], expected[name]), name
    assert len({id(found[f"{name}.weight"]) for name in "qkv"}) == objects


def test_a_convolution_sees_more_of_the_same_input() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.linear = nn.Conv1d(3, 2, 4), nn.Linear(9, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x).sum() + self.linear(x)

    batch = noise(2, 3, 9)
    check(gather(Both(), [batch])["linear.weight"], batch.reshape(-1, 9).numpy())


def test_memory_that_is_used_again_is_another_input() -> None:
    model = nn.Sequential(*[nn.Linear(6, 6, bias=False) for _ in range(8)])
    found = gather(model, [noise(50, 6)])
    assert len({id(one) for one in found.values()}) == len({float(one.variance.sum()) for one in found.values()}) == 8


def test_inputs_must_be_finite() -> None:
    with pytest.raises(TaskError, match="inputs of 'weight' must be finite"):
        gather(nn.Linear(2, 2), [torch.tensor([[1.0, torch.inf]])])


def test_hooks_go_even_if_the_model_fails() -> None:
    model = nn.Linear(2, 2)
    with pytest.raises(RuntimeError):
        gather(model, [noise(3, 2), noise(3, 5)])
    assert not model._forward_pre_hooks
