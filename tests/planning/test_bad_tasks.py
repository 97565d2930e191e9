"""Tasks, models and recipes that are hard to work with: the right result, or an error that says why, and no output."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from torch import nn

import regrain
from regrain import (
    Budget,
    BudgetError,
    CorruptArtifactError,
    RecipeError,
    RegrainError,
    Scores,
    TaskError,
    UnsupportedModelError,
)
from regrain.core.recipe import Cell, LayerPlan, Method, Recipe
from regrain.models.task import task_from
from regrain.pipelines.budgeted import BudgetedResult, compress_within
from regrain.pipelines.options import Options

SEEDS = {"calibration": 1, "search": 2, "held_out": 3}
WIDE = 24


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(8, WIDE), nn.Linear(WIDE, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.two(torch.tanh(self.one(x)))


def inputs(split: str) -> Iterator[torch.Tensor]:
    yield from torch.randn(150, 8, generator=seeded(SEEDS[split])).split(50)


def output(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    return model(batch)


def weights_of(model: nn.Module) -> dict[str, np.ndarray]:
    """Of that architecture, random but always the same."""
    rng = np.random.default_rng(0)
    return {
        name: rng.normal(0, 0.3, tensor.shape).astype(np.float32) + (0.7 if name.endswith("var") else 0)
        for name, tensor in model.state_dict().items()
        if tensor.is_floating_point()
    }


@dataclass
class Case:
    """A model's file, and where its artifact goes."""

    folder: Path

    @property
    def out(self) -> Path:
        return self.folder / "out.regrain.safetensors"

    def save(self, weights: dict[str, np.ndarray]) -> None:
        safetensors.numpy.save_file(weights, self.folder / "model.safetensors", {"format": "pt"})

    def run(
        self,
        budget: Budget = Budget(min_fidelity=0.99),  # noqa: B008 - frozen
        recipe: Recipe | None = None,
        kind: str = "embeddings",
        **functions: Any,
    ) -> BudgetedResult:
        task = task_from(**({"load_model": Net, "inputs": inputs, "output": output} | functions), kind=kind)
        model = self.folder / "model.safetensors"
        options = Options(work=self.folder / "work", threads=1)
        return compress_within(model, self.out, task=task, budget=budget, recipe=recipe, options=options)

    def fails(self, message: str, error: type[RegrainError] = TaskError, **given: Any) -> None:
        """It does, with nothing written, and the model as it was."""
        model = self.folder / "model.safetensors"
        before = model.read_bytes()
        with pytest.raises(error, match=message):
            self.run(**given)
        assert model.read_bytes() == before
        assert {path.name for path in self.folder.iterdir()} <= {"model.safetensors", "work"}

    def check(self, result: BudgetedResult, mode: str) -> dict[str, np.ndarray]:
        """The artifact is sound and of that kind; what it restores to."""
        assert result.receipt["mode"] == mode
        assert result.outcome == ("met" if mode == "lossy" else "lossless")
        assert regrain.verify(self.out).lossless == (mode == "lossless")
        regrain.restore(self.out, self.folder / "dense.safetensors")
        dense, model = self.folder / "dense.safetensors", self.folder / "model.safetensors"
        assert (dense.read_bytes() == model.read_bytes()) == (mode == "lossless")
        assert result.artifact.files[0].sha256 == hashlib.sha256(model.read_bytes()).hexdigest()
        return safetensors.numpy.load_file(dense)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    found = Case(tmp_path)
    found.save(weights_of(Net()))
    return found


def restored_loss(model: nn.Module, weights: dict[str, np.ndarray], split: str = "held_out") -> float:
    """D of a model with those weights to the original, measured here."""
    rows = []
    for state in (weights_of(model), weights):
        model.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in state.items()}, strict=False)
        model.eval()
        with torch.no_grad():
            rows.append(torch.cat([model(batch) for batch in inputs(split)]).double())
    return float(1 - nn.functional.cosine_similarity(*rows).mean())


def test_a_good_task(case: Case) -> None:
    result = case.run()
    dense = case.check(result, "lossy")
    assert 0 < restored_loss(Net(), dense) <= 0.01
    assert result.receipt["sizes"]["artifact"] < result.receipt["sizes"]["lossless"]


def raising(*_: Any) -> Any:
    raise ZeroDivisionError("my fault")


@pytest.mark.parametrize("function", ["load_model", "inputs", "output", "evaluate"])
def test_functions_that_raise(case: Case, function: str) -> None:
    case.fails(rf"{function}\(.* failed.*ZeroDivisionError: my fault", **{function: raising})


def test_functions_that_raise_later(case: Case) -> None:
    """Only on the changed model, when the search is well on its way."""
    original = torch.from_numpy(weights_of(Net())["one.weight"])

    def output(model: Net, batch: torch.Tensor) -> torch.Tensor:
        return model(batch) if torch.equal(model.one.weight, original) else raising()

    case.fails("output.* failed.*my fault", output=output)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_outputs_that_are_not_finite(case: Case, value: float) -> None:
    case.fails("output.*must be finite", output=lambda model, batch: model(batch) * value)


def test_scores_that_are_not_finite(case: Case) -> None:
    case.fails("must be regrain.Scores or a finite number, not nan", evaluate=lambda model, split: {"x": float("nan")})


def test_outputs_that_differ_from_call_to_call(case: Case) -> None:
    case.fails("must be the same each time", output=lambda model, batch: model(batch) + torch.rand(1))


def test_outputs_without_gradients(case: Case) -> None:
    case.fails("must be differentiable", output=lambda model, batch: model(batch).detach())


def test_inputs_that_ignore_their_split(case: Case) -> None:
    case.fails("must be disjoint, but are the same", inputs=lambda split: inputs("search"))


def test_splits_that_overlap(case: Case) -> None:
    def overlapping(split: str) -> Iterator[torch.Tensor]:
        yield from inputs(split)
        if split == "held_out":
            yield next(inputs("search"))

    case.fails("'search' and 'held_out' must be disjoint, but share 50 of 150", inputs=overlapping)


def test_inputs_that_differ_from_call_to_call(case: Case) -> None:
    case.fails("must give the same batches each time", inputs=lambda split: [torch.rand(20, 8)])


@pytest.mark.parametrize("split", SEEDS)
def test_splits_that_are_empty(case: Case, split: str) -> None:
    case.fails(rf"inputs\('{split}'\) must give one batch or more", inputs=lambda s: [] if s == split else inputs(s))


def test_tasks_that_change_the_model(case: Case) -> None:
    def output(model: Net, batch: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            model.one.bias += 1e-6
        return model(batch)

    case.fails("must not change the model's weights", output=output)


def test_names_that_are_not_those_of_the_model(case: Case) -> None:
    case.save({f"model.{name}": value for name, value in weights_of(Net()).items()})
    case.fails("MODEL must have every weight of load_model.* its state_dict must have MODEL's names")


def test_another_shape(case: Case) -> None:
    case.save(weights_of(Net()) | {"two.bias": np.zeros(7, np.float32)})
    case.fails(r"'two.bias' must have the shape \(6,\) .*, not \(7,\) as in MODEL")


def test_a_model_without_weights(case: Case) -> None:
    case.save({"ids": np.arange(4)})
    case.fails("MODEL must have every weight")


def test_a_file_that_is_no_model(case: Case) -> None:
    (case.folder / "model.safetensors").write_bytes(b"{}")
    case.fails("safetensors file must have at least 8 bytes, not 2", CorruptArtifactError)


def test_weights_that_are_not_finite(case: Case) -> None:
    case.save(weights_of(Net()) | {"two.bias": np.full(6, np.nan, np.float32)})
    case.fails("must be finite")


def scored(value: float) -> Callable[[nn.Module, str], dict[str, Scores]]:
    def evaluate(model: Net, split: str) -> dict[str, Scores]:
        rows = torch.cat([model(batch) for batch in inputs(split)]).numpy()
        return {"score": Scores(0 * rows[:, 0] + value)}

    return evaluate


def test_a_baseline_of_zero_has_no_relative_drop(case: Case) -> None:
    case.fails(
        r"must not be 0 for a relative drop: limit .* \(max_drop_abs\)",
        evaluate=scored(0.0),
        budget=Budget(max_drop=0.01),
    )


def test_a_baseline_of_zero_has_an_absolute_drop(case: Case) -> None:
    case.check(case.run(evaluate=scored(0.0), budget=Budget(max_drop_abs=0.5)), "lossy")


@pytest.mark.parametrize(
    "budget",
    [Budget(max_drop=0.0), Budget(max_drop_abs=0.0), Budget(min_fidelity=1.0)],
    ids=["drop", "drop_abs", "fidelity"],
)
@pytest.mark.parametrize("evaluate", [None, scored(1.0)], ids=["fidelity", "scores"])
def test_a_budget_of_zero_is_lossless(case: Case, budget: Budget, evaluate: Any) -> None:
    case.check(case.run(budget, evaluate=evaluate), "lossless")


def test_a_size_that_nothing_has(case: Case) -> None:
    case.fails("size must be at least about .* for this model, not", BudgetError, budget=Budget(max_bytes=10))


class Tied(nn.Module):
    """The second layer's weight is the first one's."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(8, 8), nn.Linear(8, 8)
        self.two.weight = self.one.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.two(torch.tanh(self.one(x)))


@pytest.mark.parametrize("names", [["one.weight"], ["two.weight"], ["one.weight", "two.weight"]], ids=",".join)
def test_layers_that_share_weights(case: Case, names: list[str]) -> None:
    weights = {name: value for name, value in weights_of(Tied()).items() if not name.endswith("weight")}
    case.save(weights | dict.fromkeys(names, weights_of(Tied())["one.weight"]))
    dense = case.check(case.run(load_model=Tied), "lossy")
    assert set(dense) == {*names, "one.bias", "two.bias"}
    assert np.array_equal(dense[names[0]], dense[names[-1]])


def test_layers_that_share_weights_in_the_model_only(case: Case) -> None:
    case.save(weights_of(Tied()))
    case.fails("'two.weight' must be equal to 'one.weight' in MODEL", load_model=Tied)


@pytest.mark.parametrize("which", [["one"], ["one", "two"]], ids=",".join)
def test_frozen_layers(case: Case, which: list[str]) -> None:
    def load() -> nn.Module:
        model = Net()
        for name in which:
            model.get_submodule(name).requires_grad_(False)
        return model

    dense = case.check(case.run(load_model=load), "lossy")
    assert not np.array_equal(dense["one.weight"], weights_of(Net())["one.weight"])


def test_layers_without_data(case: Case) -> None:
    def load() -> nn.Module:
        model = Net()
        model.one.weight = nn.Parameter(model.one.weight.detach().to_sparse())
        return model

    case.fails("weight 'one.weight' must be a dense tensor of numbers, not one that is sparse", load_model=load)


def test_weights_that_the_task_never_uses(case: Case) -> None:
    class Spare(Net):
        def __init__(self) -> None:
            super().__init__()
            self.spare = nn.Linear(40, 40)

    case.save(weights_of(Spare()))
    dense = case.check(case.run(load_model=Spare), "lossy")
    original = weights_of(Spare())["spare.weight"]
    assert 0 < np.abs(dense["spare.weight"] - original).max() < 0.05 * original.std()


def test_weights_that_the_model_has_no_place_for(case: Case) -> None:
    extra = {"extra": np.linspace(0, 1, 50, dtype=np.float32), "ids": np.arange(9)}
    case.save(weights_of(Net()) | extra)
    dense = case.check(case.run(), "lossy")
    assert all(np.array_equal(dense[name], value) for name, value in extra.items())


def test_layers_of_zeros_and_of_one_weight_and_of_none(case: Case) -> None:
    class Odd(Net):
        def __init__(self) -> None:
            super().__init__()
            self.gain, self.none = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(0, 6))
            self.zeros = nn.Linear(6, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = super().forward(x) * self.gain
            return y + self.zeros(y) + self.none.sum(0)

    odd = {"gain": np.full(1, 1.7, np.float32), "zeros.weight": np.zeros((6, 6), np.float32)}
    case.save(weights_of(Odd()) | odd)
    dense = case.check(case.run(load_model=Odd), "lossy")
    assert dense["none"].shape == (0, 6)
    assert all(np.array_equal(dense[name], value) for name, value in odd.items())


@pytest.mark.parametrize("affine", [True, False])
def test_running_statistics(case: Case, affine: bool) -> None:
    """They have no gradients of their own: those beside parameters are measured by these, others are left alone."""

    def load() -> nn.Module:
        return nn.Sequential(nn.Linear(8, WIDE), nn.BatchNorm1d(WIDE, affine=affine), nn.Tanh(), nn.Linear(WIDE, 6))

    weights = weights_of(load())
    weights["1.running_var"] = np.abs(weights["1.running_var"]) + 0.2
    case.save(weights)
    dense = case.check(case.run(load_model=load), "lossy")
    if not affine:
        assert np.array_equal(dense["1.running_mean"], weights["1.running_mean"])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(case: Case, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = Net().to(dtype)
    safetensors.torch.save_file(model.state_dict(), case.folder / "model.safetensors")
    result = case.run(load_model=lambda: Net().to(dtype), output=lambda model, batch: model(batch.to(dtype)))
    assert regrain.verify(case.out).lossless is False
    assert result.artifact.to_json()["tensors"][0]["dtype"] == {torch.bfloat16: "BF16", torch.float16: "F16"}[dtype]


def test_recipes_are_replayed(case: Case) -> None:
    recipe = Recipe((LayerPlan("one.weight", Method.QUANTIZE, Cell("row"), 0.02),))
    dense = case.check(case.run(recipe=recipe), "lossy")
    assert np.array_equal(dense["two.weight"], weights_of(Net())["two.weight"])


@pytest.mark.parametrize(
    ("plan", "error", "message"),
    [
        (
            LayerPlan("fc.weight", Method.LOSSLESS),
            RecipeError,
            "recipe must be for this model, which has no tensor 'fc.weight'",
        ),
        (
            LayerPlan("one.weight", Method.QUANTIZE, Cell("row"), 1e-30),
            RecipeError,
            "'one.weight': step must be at least",
        ),
        (LayerPlan("one.weight", Method.QUANTIZE, Cell("row"), 50.0), BudgetError, "recipe must keep the budget"),
    ],
)
def test_recipes_that_can_not_be(case: Case, plan: LayerPlan, error: type[RegrainError], message: str) -> None:
    case.fails(message, error, recipe=Recipe((plan,)))


def test_recipes_for_types_that_have_no_steps(case: Case) -> None:
    case.save({name: value.astype(np.float64) for name, value in weights_of(Net()).items()})
    plan = LayerPlan("one.weight", Method.QUANTIZE, Cell("row"), 0.1)
    case.fails(
        "'one.weight' must be F32, F16 or BF16 to be pruned or quantized, not F64", RecipeError, recipe=Recipe((plan,))
    )


def test_a_model_of_doubles_is_lossless(case: Case) -> None:
    case.save({name: value.astype(np.float64) for name, value in weights_of(Net()).items()})
    regrain.verify(case.run().path)


def test_data_that_numpy_has_no_type_for(case: Case) -> None:
    def halves(split: str) -> list[Any]:
        return [{"x": batch.bfloat16(), "n": 3, "name": "a"} for batch in inputs(split)]

    case.check(case.run(inputs=halves, output=lambda model, batch: model(batch["x"].float())), "lossy")


def test_the_same_run_gives_the_same_bytes(case: Case) -> None:
    case.run()
    first = case.out.read_bytes()
    case.out.unlink()
    for path in case.folder.glob("out*"):
        path.unlink()
    case.run()
    assert case.out.read_bytes() == first


def test_unsupported_files(case: Case) -> None:
    (case.folder / "model.safetensors").rename(case.folder / "model.onnx")
    with pytest.raises((UnsupportedModelError, FileNotFoundError)):
        case.run()
