"""Artifacts of trained models: nothing is lost after training."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import regrain
import regrain.torch
from regrain.core.errors import OutputExistsError, TrainingError
from regrain.training import AccuracyMonitor, Limit, starting_recipe

LIMIT = Limit(threshold=0.5)


def equal(path, model: nn.Module) -> bool:
    found, state = regrain.torch.load_file(path), model.state_dict()
    assert found.keys() == state.keys()
    return all(
        torch.equal(found[name].view(torch.uint8), state[name].view(torch.uint8)) for name in state if state[name].dim()
    )


def test_restored_weights_are_the_folded_ones(net, train, recipe, tmp_path) -> None:
    monitor = AccuracyMonitor(net, None, recipe, LIMIT)
    train(net, 5, monitor.step)
    done = monitor.finish()
    path = tmp_path / "net.regrain.safetensors"
    monitor.compress(path)
    assert equal(path, net)
    found = regrain.inspect(path)
    assert found.files[0].receipt["training"]["steps"] == 5
    regrain.verify(path)
    again = tmp_path / "again.regrain.safetensors"
    monitor.compress(again)
    assert again.read_bytes() == path.read_bytes()
    with pytest.raises(OutputExistsError, match="overwrite it with"):
        monitor.compress(path)
    assert done.plan("4.weight").bytes < 32 * 256


def test_the_recipe_without_pruning_gives_the_same_again(net, train, quantized, tmp_path) -> None:
    """`regrain compress --recipe` of the folded weights: rounding changes nothing any more."""
    monitor = AccuracyMonitor(net, None, starting_recipe(net, step=0.7), LIMIT)
    train(net, 5, monitor.step)
    recipe = monitor.finish()
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    regrain.compress(tmp_path / "net.safetensors", tmp_path / "net.regrain.safetensors", recipe=recipe)
    assert equal(tmp_path / "net.regrain.safetensors", net)


def test_names_and_further_tensors_are_those_of_the_original(net, train, recipe, tmp_path) -> None:
    file = tmp_path / "net.safetensors"
    save_file(net.state_dict() | {"other": torch.arange(5)}, file, {"format": "pt", "note": "kept"})
    monitor = AccuracyMonitor(net, None, recipe, LIMIT)
    train(net, 3, monitor.step)
    monitor.finish()
    path = tmp_path / "net.regrain.safetensors"
    monitor.compress(path, original=file)
    found = regrain.torch.load_file(path)
    assert torch.equal(found.pop("other"), torch.arange(5))
    assert all(torch.equal(found[name], tensor) for name, tensor in net.state_dict().items())
    with regrain.torch.safe_open(path, "pt") as opened:
        assert opened.metadata() == {"format": "pt", "note": "kept"}
    state = net.state_dict()
    del state["0.bias"]
    save_file(state, file)
    with pytest.raises(TrainingError, match="original must have all tensors of the model, and lacks '0.bias'"):
        monitor.compress(path, original=file, force=True)
    save_file({name: tensor.bfloat16() for name, tensor in net.state_dict().items()}, file)
    with pytest.raises(TrainingError, match="must be BF16 of .* as in the original, not"):
        monitor.compress(path, original=file, force=True)


def test_tied_weights_are_stored_once(tmp_path) -> None:
    model = nn.Module()
    model.first, model.second = nn.Linear(64, 64, bias=False), nn.Linear(64, 64, bias=False)
    model.second.weight = model.first.weight
    monitor = AccuracyMonitor(model, None, starting_recipe(model), LIMIT)
    monitor.finish()
    monitor.compress(tmp_path / "tied.regrain.safetensors")
    assert equal(tmp_path / "tied.regrain.safetensors", model)
    assert regrain.inspect(tmp_path / "tied.regrain.safetensors").files[0].receipt["tensors"]["tied"] == 1


def test_only_a_finished_model_is_compressed(net, train, recipe, tmp_path) -> None:
    monitor = AccuracyMonitor(net, None, recipe, LIMIT)
    with pytest.raises(TrainingError, match="must be finished before it is compressed: call finish"):
        monitor.compress(tmp_path / "net.regrain.safetensors")
    monitor.finish()
    train(net, 1)
    with pytest.raises(TrainingError, match="'0.weight' must be as finish left it, and has changed since"):
        monitor.compress(tmp_path / "net.regrain.safetensors")
    assert not list(tmp_path.iterdir())
