"""Measuring a model: once, in as many passes as memory allows, and only what isn't in the store yet."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from regrain.models import open_any
from regrain.models.network import Network
from regrain.models.task import task_from
from regrain.planning import evidence
from regrain.planning.evidence import Evidence, Setting, batches_digest, gather, load_weights
from regrain.planning.store import Store


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv1d(3, 6, 2), nn.BatchNorm1d(6)
        self.head, self.spare = nn.Linear(6, 4), nn.Linear(4, 4, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.conv(x)).relu().mean(2))


def inputs(split: str) -> Iterator[torch.Tensor]:
    yield from torch.randn(24, 3, 7, generator=torch.Generator().manual_seed(len(split))).split(8)


Gather = Callable[[Path], Evidence]


@pytest.fixture
def calls() -> list[int]:
    """Rows that went through the model."""
    return []


@pytest.fixture
def measured(tmp_path: Path, calls: list[int]) -> Gather:
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(Net().state_dict(), path)

    def output(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        calls.append(len(batch))
        return model(batch)

    def run(store: Path) -> Evidence:
        task = task_from(Net, inputs, output, kind="logits")
        sources, network = [open_any(path)], Network(task.model())
        unused = load_weights(network, sources)
        batches = task.batches("calibration")
        return gather(sources, network, task, batches, Store(store), Setting(probes=2), unused=unused)

    return run


def same(one: Evidence, other: Evidence) -> bool:
    return list(one.layers) == list(other.layers) and all(
        one.layers[name].factors.trace == other.layers[name].factors.trace
        and np.array_equal(one.layers[name].factors.inputs, other.layers[name].factors.inputs)
        and np.array_equal(one.layers[name].factors.outputs, other.layers[name].factors.outputs)
        for name in one.layers
    )


def test_everything_is_measured(measured: Gather, tmp_path: Path) -> None:
    found = measured(tmp_path / "store")
    assert set(found.layers) == {name for name, tensor in Net().state_dict().items() if tensor.is_floating_point()}
    assert {name for name, layer in found.layers.items() if layer.factors.trace == 0.0} == {"spare.weight"}
    conv = found.layers["conv.weight"]
    assert conv.weights.shape == (6, 6)
    assert conv.shape == (6, 3, 2)
    assert conv.bias == "conv.bias"
    assert conv.mean.shape == (6,)
    assert found.layers["spare.weight"].bias is found.layers["spare.weight"].mean is None
    assert all(layer.lossless > 0 for layer in found.layers.values())
    assert found.fixed > 0  # the count of batches that normalization keeps


def test_nothing_is_measured_again(measured: Gather, tmp_path: Path, calls: list[int]) -> None:
    first = measured(tmp_path / "store")
    calls.clear()
    assert same(first, measured(tmp_path / "store"))
    assert calls == []


def test_passes_do_not_matter(
    measured: Gather, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: list[int]
) -> None:
    whole = measured(tmp_path / "one")
    at_once, _ = len(calls), calls.clear()
    monkeypatch.setattr(evidence, "_passes", lambda network, names, limit: [[name] for name in names])
    assert same(whole, measured(tmp_path / "many"))
    assert len(calls) == 3 * (1 + len(whole.layers)) > at_once


def test_passes_keep_to_the_limit(measured: Gather) -> None:
    network = Network(Net())
    names = list(network.places)
    groups = evidence._passes(network, names, 4 * (36 + 36))
    assert [name for group in groups for name in group] == names
    assert len(groups) == 3
    assert evidence._passes(network, names, 1 << 20) == [names]


@pytest.mark.parametrize("lost", ["conv.weight", "spare.weight", "norm.running_var"])
def test_what_was_lost_is_measured_again(measured: Gather, tmp_path: Path, lost: str) -> None:
    """As after a process was killed, even if all that is left to measure is unused."""
    first = measured(tmp_path / "store")
    shutil.rmtree(tmp_path / "store" / evidence._key(lost))
    assert same(first, measured(tmp_path / "store"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (torch.ones(2), torch.ones(1, 2)),
        (torch.ones(2), torch.ones(2, dtype=torch.float64)),
        (torch.ones(2, dtype=torch.bfloat16), torch.zeros(2, dtype=torch.bfloat16)),
        (np.arange(3), np.arange(3)[::-1]),
        ({"a": np.ones(2)}, {"b": np.ones(2)}),
        (["ab"], ["a", "b"]),
        ((1, 2), [1, 2]),
    ],
)
def test_digests_tell_batches_apart(one: object, other: object) -> None:
    assert batches_digest([one]) == batches_digest([one])
    assert batches_digest([one]) != batches_digest([other])


def test_digests_of_odd_tensors() -> None:
    odd = [torch.ones(()), torch.empty(0, 3), torch.arange(6).reshape(2, 3).T, torch.tensor([True, False])]
    assert batches_digest(odd) == batches_digest([tensor.clone() for tensor in odd])
