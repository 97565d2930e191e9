"""Slim models: smaller files, which do what the pruned ones do."""

import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import regrain
import regrain.torch
from regrain.core.pattern import Pattern, Pruning
from regrain.core.recipe import Cell, LayerPlan, Method, Recipe
from regrain.models.slim import fit
from regrain.models.task import task_from
from regrain.pipelines.channels import Channels, read_channels
from regrain.pipelines.slim import cut_of


def mlp():
    torch.manual_seed(0)
    linear, relu = torch.nn.Linear, torch.nn.ReLU
    return torch.nn.Sequential(linear(12, 24), relu(), linear(24, 16), relu(), linear(16, 4))


def convolutions():
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 12, 3, bias=False),
        torch.nn.BatchNorm2d(12),
        torch.nn.ReLU(),
        torch.nn.Conv2d(12, 8, 3, padding=1),
        torch.nn.BatchNorm2d(8),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(8, 4),
    )
    with torch.no_grad():
        model.train()(torch.randn(64, 1, 6, 6))
        for module in model:
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.5, 2.0)
                module.bias.normal_()
    return model


def valid():
    """Without padding and biases: running means take over."""
    torch.manual_seed(0)
    conv, norm, relu = torch.nn.Conv2d, torch.nn.BatchNorm2d, torch.nn.ReLU
    model = torch.nn.Sequential(
        conv(1, 12, 3, bias=False), norm(12), relu(), conv(12, 8, 3, bias=False), norm(8), relu(), torch.nn.Flatten(),
        torch.nn.Linear(32, 4)
    )  # fmt: skip
    with torch.no_grad():
        model[1].bias.fill_(0.5)
        model.train()(torch.randn(64, 1, 6, 6))
    return model


SHAPES = {mlp: (12,), convolutions: (1, 6, 6), valid: (1, 6, 6)}
CHAINS = {mlp: (("0.weight", "2.weight"), ("2.weight", "4.weight")), convolutions: (("0.weight", "3.weight"),)}


def inputs_of(make):
    def inputs(split):
        seed = ("calibration", "search", "held_out").index(split)
        return torch.randn(160, *SHAPES[make], generator=torch.Generator().manual_seed(seed)).split(80)

    return inputs


def recipe_of(make, cell=None):
    """Columns of each user are pruned, and rows of its maker with them; all are quantized if there is a cell."""
    maker, user = CHAINS[make][0]
    how = {user: Pruning(Pattern("column"), 0.5), maker: Pruning(Pattern("row"), follows=user)}
    plans = [
        LayerPlan(name, Method.PRUNE, pruning=pruning)
        if cell is None
        else LayerPlan(name, Method.QUANTIZE, Cell(cell), 2.0**-7, pruning=pruning)
        for name, pruning in how.items()
    ]
    return Recipe(tuple(plans))


@pytest.fixture(params=[mlp, convolutions], ids=lambda make: make.__name__)
def made(request, tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(request.param().state_dict(), path)
    return request.param, path


def compressed(made, out, **options):
    make, path = made
    task = task_from(make, inputs_of(make), lambda model, batch: model(batch), kind="logits")
    return regrain.compress(path, path.with_name(out), task=task, threads=1, **options)


def outputs(make, model):
    with torch.no_grad():
        return torch.cat([model.eval()(batch) for batch in inputs_of(make)("held_out")])


def close(one, other):
    return float((one - other).abs().max()) <= 1e-5 * float(other.abs().max())


def masked(make, artifact):
    model = make()
    regrain.torch.load_model(model, artifact)
    return model


def test_chains_lose_rows_and_columns(tmp_path):
    made = mlp, tmp_path / "model.safetensors"
    save_file(mlp().state_dict(), made[1])
    how = dict.fromkeys(("0.weight", "2.weight", "4.weight"), Pruning(Pattern("column"), 0.5))
    exact = [LayerPlan(name, Method.PRUNE, pruning=pruning) for name, pruning in how.items()]
    rounded = [LayerPlan(plan.name, Method.QUANTIZE, Cell("row"), 2.0**-7, pruning=plan.pruning) for plan in exact]
    for plans in (exact, rounded):
        found = compressed(made, "slim.safetensors", recipe=Recipe(tuple(plans)), slim=True, force=True)
        state, model = regrain.torch.load_file(found.path), mlp()
        assert [tuple(state[name].shape) for name in how] == [(12, 12), (8, 12), (4, 8)]
        fit(model, state)
        whole = compressed(made, "whole.safetensors", recipe=Recipe(tuple(plans)), force=True)
        assert close(outputs(mlp, model), outputs(mlp, masked(mlp, whole.path)))
        kept = {one.descriptor.name: one.descriptor.density for one in found.artifact.tensors}
        assert (kept["0.weight"], kept["2.weight"]) == (0.5, None)


@pytest.mark.parametrize("cell", [None, "tensor", "row", "column"])
def test_a_slim_model_does_what_the_pruned_one_does(made, cell):
    make, path = made
    whole = compressed(made, "whole.safetensors", recipe=recipe_of(make, cell))
    wanted = outputs(make, masked(make, whole.path))
    small = path.with_name("small.safetensors")
    restored = regrain.restore(whole.path, small, slim=True)
    state = load_file(small)
    model = make()
    fit(model, state)
    maker, user = CHAINS[make][0]
    assert len(state[maker]) == state[user].shape[1] == make().state_dict()[user].shape[1] // 2
    assert close(outputs(make, model), wanted)
    assert restored.nbytes == small.stat().st_size < path.stat().st_size and not restored.lossless

    slim = compressed(made, "slim.safetensors", recipe=recipe_of(make, cell), slim=True)
    assert slim.receipt["slim"]["channels"] == len(make().state_dict()[maker]) // 2
    assert slim.receipt["slim"]["weights"] == slim.artifact.weights
    model, state = make(), regrain.torch.load_file(slim.path)
    fit(model, state)
    assert close(outputs(make, model), wanted)
    assert regrain.verify(slim.path).tensors == len(state)
    task = task_from(make, inputs_of(make), lambda model, batch: model(batch), kind="logits")
    evaluated = regrain.evaluate(slim.path, task=task, against=path, threads=1).fidelity
    assert math.isclose(evaluated.value, slim.receipt["judgement"][-1]["fidelity"]["kl"], rel_tol=1e-3, abs_tol=1e-7)
    measured = [one.receipt["judgement"][-1]["fidelity"]["kl"] for one in (whole, slim)]
    assert math.isclose(*measured, rel_tol=1e-4, abs_tol=1e-9)
    assert " --slim" in slim.receipt["command"] and " --slim" not in whole.receipt["command"]


def by_rows(cell=None, **densities):
    """Rows are pruned on their own."""
    plans = []
    for name, density in densities.items():
        pruning = Pruning(Pattern("row"), density)
        step = (None, None) if cell is None else (Cell(cell), 2.0**-7)
        plans.append(LayerPlan(name, Method.PRUNE if cell is None else Method.QUANTIZE, *step, pruning=pruning))
    return Recipe(tuple(plans))


@pytest.mark.parametrize("cell", [None, "row"])
@pytest.mark.parametrize(("make", "user", "bias"), [(mlp, "2.weight", "2.bias"), (valid, "3.weight", "4.running_mean")])
def test_rows_that_were_dropped_alone_fold_into_biases(tmp_path, make, user, bias, cell):
    made = make, tmp_path / "model.safetensors"
    save_file(make().state_dict(), made[1])
    recipe = by_rows(cell, **{"0.weight": 0.5})
    whole = compressed(made, "whole.safetensors", recipe=recipe)
    (told,) = whole.receipt["channels"]
    assert (told["user"], told["bias"], told["sign"]) == (user, bias, -1 if make is valid else 1)
    count = len(make()[0].weight)
    assert len(told["constants"]) == count // 2
    assert any(held > 0.0 for _, held in told["constants"])
    wanted = outputs(make, masked(make, whole.path))
    regrain.restore(whole.path, tmp_path / "small.safetensors", slim=True)
    slim = compressed(made, "slim.safetensors", recipe=recipe, slim=True)
    assert slim.receipt["slim"]["channels"] == count // 2
    for state in (load_file(tmp_path / "small.safetensors"), regrain.torch.load_file(slim.path)):
        assert len(state["0.weight"]) == state[user].shape[1] == count // 2
        model = make()
        fit(model, state)
        assert close(outputs(make, model), wanted)


def test_rows_that_must_stay_are_told_of(tmp_path):
    """Behind them zeros are put around what a batch norm makes of them, but for what its ReLU makes 0."""
    made = convolutions, tmp_path / "model.safetensors"
    save_file(convolutions().state_dict(), made[1])
    recipe = by_rows(**{"0.weight": 0.5, "3.weight": 0.5, "8.weight": 0.5})
    found = compressed(made, "slim.safetensors", recipe=recipe, slim=True)
    state = regrain.torch.load_file(found.path)
    assert 6 < len(state["0.weight"]) < 12
    assert len(state["3.weight"]) == 4
    model = convolutions()
    fit(model, state)
    whole = compressed(made, "whole.safetensors", recipe=recipe)
    assert close(outputs(convolutions, model), outputs(convolutions, masked(convolutions, whole.path)))
    padded = "rows of '0.weight' that were dropped stay, as zeros: '3.weight' pads with zeros, so that none can take"
    assert any(note.startswith(padded) for note in found.notes)
    assert any("rows of '8.weight' that were dropped stay, as zeros: " in note for note in found.notes)
    assert not any("'3.weight' that" in note for note in found.notes)


def test_layers_of_a_slim_receipt_are_those_of_its_file(made):
    make, _ = made
    found = compressed(made, "slim.safetensors", recipe=recipe_of(make, "row"), slim=True)
    stored = {one.descriptor.name: one.stored for one in found.artifact.tensors}
    for layer in found.receipt["layers"]:
        assert layer["bytes"] == stored[layer["name"]], layer["name"]
    sizes = found.receipt["sizes"]
    assert sizes["artifact"] == pytest.approx(found.artifact.nbytes, rel=0.3)
    whole = compressed(made, "whole.safetensors", recipe=recipe_of(make, "row"))
    assert sizes["artifact"] < whole.receipt["sizes"]["artifact"]


def test_the_search_finds_channels_to_remove(made):
    make, _ = made
    found = compressed(
        made, "slim.safetensors", min_fidelity=0.0, max_work=0.6, objective="work", patterns=["column"], slim=True
    )
    assert found.receipt["work"]["artifact"] <= 0.6 * found.receipt["work"]["original"]
    model = make()
    fit(model, regrain.torch.load_file(found.path))
    assert outputs(make, model).shape == (160, 4)
    assert sum(p.numel() for p in model.parameters()) < sum(p.numel() for p in make().parameters())


def test_nothing_to_remove_is_said(made):
    path = made[1]
    whole = compressed(made, "whole.safetensors", bits=80)
    with pytest.raises(regrain.UnsupportedArtifactError, match="must have channels to remove"):
        regrain.restore(whole.path, path.with_name("small.safetensors"), slim=True)
    assert not path.with_name("small.safetensors").exists()
    assert any("nothing is slim" in note for note in compressed(made, "b.safetensors", bits=80, slim=True).notes)


def test_options_that_slim_models_cannot_have(made):
    for wrong, words in (
        ({"cells": ["group:4"]}, "cells must be"),
        ({"patterns": ["fine"]}, "patterns must have column or row"),
    ):
        with pytest.raises(regrain.BudgetError, match=words):
            compressed(made, "a.safetensors", bits=9, slim=True, **wrong)


@pytest.mark.parametrize("told", ["x", [1], [{"user": 1, "makers": [], "vectors": []}], [{"user": "a", "makers": [1]}]])
def test_hostile_channels(told):
    with pytest.raises(regrain.CorruptArtifactError, match="channels"):
        read_channels([{"channels": told}])


@pytest.mark.parametrize("constants", ["x", [[0]], [[0, "1"]], [[1, 0.0], [1, 0.0]], [[-1, 0.0]], [[0, math.inf]]])
def test_hostile_constants(constants):
    told = {"user": "a", "makers": ["b"], "vectors": [], "constants": constants}
    with pytest.raises(regrain.CorruptArtifactError, match="constants must be channels in ascending order"):
        read_channels([{"channels": [told]}])


def test_channels_are_written_and_read():
    for one in (Channels("a", ("b",), ("c",)), Channels("a", ("b",), (), ((0, 0.0), (2, -1.5)), "c", -1)):
        assert read_channels([{}, {"channels": [one.to_json()]}]) == [one]


@pytest.mark.parametrize(
    "channels",
    [
        Channels("absent", ("a",), ()),
        Channels("a", ("b",), (), ((4, 0.0),)),
        Channels("a", ("b",), (), ((3, 1.0),), "absent"),
        Channels("a", ("b",), (), ((3, 1.0),), "vector"),
        Channels("vector", ("a",), ()),
        Channels("a", ("absent",), ()),
        Channels("a", ("vector",), ()),
        Channels("a", ("b",), ("vector",)),
        Channels("a", ("b", "b"), ()),
    ],
)
def test_channels_that_do_not_fit(channels):
    tensors = {"a": np.ones((2, 4)), "b": np.ones((4, 3)), "vector": np.ones(5)}
    with pytest.raises(regrain.CorruptArtifactError):
        cut_of([channels], tensors.get)


def test_one_channel_is_left():
    cut = cut_of([Channels("a", ("b",), ("absent",))], {"a": np.zeros((2, 4)), "b": np.ones((4, 3))}.get)
    assert (cut.columns["a"].tolist(), cut.rows["b"].tolist(), cut.shape("a", (2, 4, 3))) == ([0], [0], (2, 1, 3))
