"""Faults of tasks are found before they spoil a figure; and tasks without faults pass."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from regrain import Scores, TaskError
from regrain.models.examples import digest_of_state, examples
from regrain.models.task import Task, task_from
from regrain.models.task_check import check_task

SEEDS = {"calibration": 1, "search": 2, "held_out": 3}


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 3)
        self.dropout = torch.nn.Dropout()
        self.register_buffer("calls", torch.zeros(()), persistent=False)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self.dropout(self.layer(batch))


def draw(split: str, count: int = 200) -> Iterator[torch.Tensor]:
    generator = torch.Generator().manual_seed(SEEDS[split])
    yield from torch.randn(count, 4, generator=generator).split(60)


def task_with(**functions: object) -> Task:
    plain = {"load_model": Net, "inputs": draw, "output": lambda model, batch: model(batch)}
    return task_from(**(plain | functions))


def check(task: Task) -> tuple[str, ...]:
    return check_task(task, task.model())


def test_good_tasks_pass() -> None:
    asked = []

    def evaluate(model: torch.nn.Module, split: str) -> dict[str, Scores]:
        asked.append(split)
        return {"accuracy": Scores([0, 1])}

    assert check(task_with()) == ()
    assert check(task_with(evaluate=evaluate)) == ()
    assert asked == ["search"]


def test_random_inputs() -> None:
    with pytest.raises(TaskError, match=r"inputs\('calibration'\) must give the same batches each time: fix its seed"):
        check(task_with(inputs=lambda split: [torch.rand(3, 4)]))


def test_split_is_ignored() -> None:
    with pytest.raises(
        TaskError, match=r"inputs\('calibration'\) and inputs\('search'\) must be disjoint, but are the same"
    ):
        check(task_with(inputs=lambda split: draw("search")))


def test_other_batches_of_the_same_examples_are_the_same() -> None:
    def inputs(split: str) -> object:
        rows = torch.cat(list(draw("search")))
        return rows.flip(0).split({"calibration": 10, "search": 33, "held_out": 50}[split])

    with pytest.raises(TaskError, match="must be disjoint, but are the same"):
        check(task_with(inputs=inputs))


@pytest.mark.parametrize(("shared", "fails"), [(2, False), (3, True)])
def test_overlap(shared: int, fails: bool) -> None:
    """Up to one example in a hundred may be there twice by chance."""

    def inputs(split: str) -> object:
        extra = torch.cat(list(draw("search")))[:shared]
        return [*draw(split, 200 - shared), extra] if split == "held_out" else draw(split)

    task = task_with(inputs=inputs)
    if fails:
        with pytest.raises(TaskError, match="'search' and 'held_out' must be disjoint, but share 3 of 200 examples"):
            check(task)
    else:
        assert check(task) == ("task 'task': 'search' and 'held_out' share 2 of 200 examples",)


def test_objects_that_say_nothing_are_a_warning() -> None:
    class Batch:
        def __init__(self, rows: torch.Tensor) -> None:
            self.rows = rows

    warnings = check(task_with(inputs=lambda s: map(Batch, draw(s)), output=lambda model, batch: model(batch.rows)))
    assert warnings == (
        "task 'task': inputs('calibration') gives objects that can't be compared; splits were not checked",
    )


def test_random_outputs() -> None:
    with pytest.raises(
        TaskError, match=r"output\(\) of batch 0 of 'calibration' must be the same each time, but differs by"
    ):
        check(task_with(output=lambda model, batch: model(batch) + torch.rand(())))


def test_noise_is_a_warning() -> None:
    signs = iter([0.0, 0.0, 1e-5, 0.0, 0.0])
    (warning,) = check(task_with(output=lambda model, batch: model(batch) + next(signs)))
    assert "output() of batch 0 of 'calibration' differs by" in warning


def test_shape_changes() -> None:
    counts = iter([3, 3, 2])
    with pytest.raises(TaskError, match="must have the same shape each time"):
        check(task_with(output=lambda model, batch: model(batch)[: next(counts)]))


def test_nan_in_one_split() -> None:
    def output(model: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
        return model(batch) / float(not torch.equal(batch, next(draw("held_out"))))

    with pytest.raises(TaskError, match="batch 0 of 'held_out' must be finite"):
        check(task_with(output=output))


def test_no_gradient() -> None:
    with pytest.raises(TaskError, match="must be differentiable"):
        check(task_with(output=lambda model, batch: model(batch).detach()))


def _weights(model: Net) -> None:
    model.layer.weight.data[0, 0] += 1


def _buffers(model: Net) -> None:
    model.calls += 1


@pytest.mark.parametrize("change", [_weights, _buffers])
@pytest.mark.parametrize("function", ["output", "evaluate"])
def test_changed_model(change: Callable[[Net], None], function: str) -> None:
    def output(model: Net, batch: torch.Tensor) -> torch.Tensor:
        if function == "output" and batch.shape[0] == 60 and torch.equal(batch, next(draw("search"))):
            change(model)
        return model(batch)

    def evaluate(model: Net, split: str) -> dict[str, float]:
        if function == "evaluate":
            change(model)
        return {"accuracy": 0.5}

    with pytest.raises(TaskError, match="must not change the model's weights or buffers"):
        check(task_with(output=output, evaluate=evaluate))


def test_training_mode() -> None:
    def evaluate(model: torch.nn.Module, split: str) -> dict[str, float]:
        model.train()
        return {"accuracy": 0.5}

    with pytest.raises(TaskError, match="must leave the model in eval mode"):
        check(task_with(evaluate=evaluate))


TOKENS = torch.tensor([[5, 6, 7], [5, 8, 0]])


@pytest.mark.parametrize(
    ("batch", "count"),
    [
        (TOKENS, 2),
        (TOKENS.numpy(), 2),
        (TOKENS.bfloat16(), 2),
        ((TOKENS, torch.tensor([0, 1])), 2),
        (UserDict(ids=TOKENS, mask=TOKENS > 0, length=3, extra=None), 2),
        (["a text", "another"], 2),
        ({"texts": ["a text", "another"], "labels": (0, 1)}, 2),
        ({"ids": TOKENS, "weights": torch.ones(5)}, 1),
        ("one text", 1),
        (torch.tensor(3.0), 1),
        ([], 0),
        ({}, 0),
        (torch.empty(0, 3), 0),
        (range(3), 3),
    ],
)
def test_examples_are_counted(batch: object, count: int) -> None:
    found = examples(batch)
    assert found is not None
    assert len(found) == len(set(found)) == count
    assert examples(batch) == found


def test_padding_does_not_hide_an_example() -> None:
    long, short = ({"ids": ids, "mask": ids > 0} for ids in (TOKENS, TOKENS[1:, :2]))
    assert examples(long)[1:] == examples(short)  # type: ignore[index]


@given(st.lists(st.text(max_size=3), min_size=1, max_size=5), st.lists(st.text(max_size=3), min_size=1, max_size=5))
def test_equal_lists_have_equal_digests(one: list[str], other: list[str]) -> None:
    assert (examples(one) == examples(other)) == (one == other)


def test_examples_of_unknown_objects() -> None:
    assert examples(object()) is None
    assert examples([torch.ones(2), object()]) is None
    assert examples(complex(1, 2)) == examples(complex(1, 2)) != examples(complex(1, 3))


def test_state_digest() -> None:
    model = Net()
    before = digest_of_state(model)
    assert digest_of_state(model) == before
    model.layer.bias.data[0] = float(np.nextafter(np.float32(model.layer.bias[0].item()), np.float32(9)))
    assert digest_of_state(model) != before
