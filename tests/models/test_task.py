"""Tasks: files are run, functions are guarded, and whatever goes wrong names the function and the line."""

from __future__ import annotations

import hashlib
import pickle
import sys
import textwrap
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from regrain import Scores, TaskError
from regrain.models.task import Task, task_from
from regrain.models.task_file import load_task

GOOD = """
    import torch
    from dataclasses import dataclass

    OUTPUT = "logits"

    @dataclass
    class Split:
        seed: int

    def load_model():
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Dropout())

    def inputs(split):
        generator = torch.Generator().manual_seed(len(split))
        for _ in range(2):
            yield torch.randn(5, 4, generator=generator)

    def output(model, batch):
        return model(batch)

    def evaluate(model, split):
        from regrain import Scores
        rows = torch.cat([model(batch) for batch in inputs(split)])
        return {"accuracy": Scores(rows.argmax(1) == 0), "norm": rows.norm()}
"""


def write(folder: Path, text: str, name: str = "good.py") -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return path


def failing(**functions: object) -> Task:
    plain = {
        "load_model": lambda: torch.nn.Linear(4, 3),
        "inputs": lambda split: [torch.ones(2, 4)],
        "output": lambda model, batch: model(batch),
    }
    return task_from(**(plain | functions))


def test_file(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    task = load_task(path)
    assert (task.name, task.kind, task.path) == ("good", "logits", path)
    assert task.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    model = task.model()
    assert not model.training and not model[1].training
    batches = task.batches("search")
    rows = task.outputs(model, batches[0])
    assert (rows.shape, rows.dtype, rows.requires_grad, len(batches)) == ((5, 3), torch.float32, False, 2)
    assert task.outputs(model, batches[0], grad=True).requires_grad
    assert len(list(task.each_output(model, "search"))) == 2
    scores = task.scores(model, "search")
    assert isinstance(scores["accuracy"], Scores) and scores["accuracy"].n == 10
    assert isinstance(scores["norm"], float)
    assert str(task) == "task 'good'"


def test_task_py_is_named_by_its_folder(tmp_path: Path) -> None:
    assert load_task(write(tmp_path, GOOD, "images/task.py")).name == "images"


def test_classes_of_a_file_can_be_pickled(tmp_path: Path) -> None:
    task = load_task(write(tmp_path, GOOD))
    split = task.inputs.__globals__["Split"](3)
    assert pickle.loads(pickle.dumps(split)) == split


def test_modules_beside_files_do_not_mix(tmp_path: Path) -> None:
    """Two tasks with a data.py each, imported at the top and in a function; afterwards nothing of it is left."""
    text = GOOD.replace("import torch\n", "import torch, data\n", 1).replace(
        "return model(batch)", "import more.late\n        return model(batch) * 0 + data.VALUE * more.late.VALUE"
    )
    tasks = []
    for number in (1, 2):
        folder = tmp_path / str(number)
        path = write(folder, text, "task.py")
        write(folder, f"VALUE = {number}", "data.py")
        write(folder / "more", "", "__init__.py")
        write(folder / "more", "import data\nVALUE = 10 * data.VALUE", "late.py")
        tasks.append(load_task(path))
    before = list(sys.path)
    for number, task in (1, tasks[0]), (2, tasks[1]), (1, tasks[0]):
        model = task.model()
        assert float(task.outputs(model, task.batches("search")[0]).max()) == 10 * number * number
    assert sys.path == before
    assert not {"data", "more", "more.late"} & set(sys.modules)


def test_a_sibling_does_not_replace_the_standard_library(tmp_path: Path) -> None:
    write(tmp_path, "raise RuntimeError", "random.py")
    import random

    load_task(write(tmp_path, GOOD + "\n    import random\n    random.random()\n"))
    assert sys.modules["random"] is random


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def load_model(: pass", "task file .*bad.py' failed at bad.py, line 1: SyntaxError: "),
        ("x = 1\ny = x / 0\n", "task file .*bad.py' failed at bad.py, line 2: ZeroDivisionError: division by zero"),
        ("import nosuchmodule", "failed at bad.py, line 1: ModuleNotFoundError: No module named 'nosuchmodule'"),
        ("def inputs(split): ...", "must define load_model, inputs, output, and has no load_model, output"),
        (GOOD.replace('"logits"', '"classes"'), "task 'bad': OUTPUT must be 'embeddings' or 'logits', not 'classes'"),
        (GOOD + "\n    evaluate = 3\n", "task 'bad': evaluate must be a function, not 3"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        load_task(write(tmp_path, text, "bad.py"))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_task(tmp_path / "task.py")


def test_errors_name_function_and_line_and_keep_the_cause(tmp_path: Path) -> None:
    text = GOOD.replace("return model(batch)\n", "return helper.broken(model)\n", 1).replace(
        "import torch\n", "import torch, helper\n", 1
    )
    write(tmp_path, "def broken(model):\n    import numpy\n    return numpy.zeros(3)[7]\n", "helper.py")
    task = load_task(write(tmp_path, text))
    match = r"task 'good': output\(\) of batch 3 of 'search' failed at helper.py, line 3: IndexError: index 7"
    with pytest.raises(TaskError, match=match) as caught:
        task.outputs(task.model(), torch.ones(1, 4), where="batch 3 of 'search'")
    assert isinstance(caught.value.__cause__, IndexError)


def test_errors_in_generators_and_plain_functions() -> None:
    def inputs(split: str) -> object:
        yield torch.ones(1, 4)
        raise ValueError(f"no {split}\nsecond line")

    with pytest.raises(
        TaskError,
        match=r"^task 'task': inputs\('held_out'\) failed at test_task.py, line \d+: ValueError: no held_out$",
    ):
        failing(inputs=inputs).batches("held_out")


def test_running_out_of_memory_is_not_the_tasks_fault() -> None:
    def load_model() -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        failing(load_model=load_model).model()


@pytest.mark.parametrize(
    ("functions", "message"),
    [
        ({"load_model": dict}, r"load_model\(\) must return a torch.nn.Module, not dict"),
        ({"inputs": lambda split: []}, r"inputs\('search'\) must give one batch or more, not none"),
        ({"inputs": lambda split: None}, r"inputs\('search'\) failed.*: TypeError"),
        ({"output": lambda model, batch: [1.0]}, "batch 0 of 'search' must be a floating-point tensor, not list"),
        ({"output": lambda model, batch: batch.long()}, "must be a floating-point tensor, not torch.int64"),
        ({"output": lambda model, batch: batch[0]}, r"must have shape \(examples, d\), not \(4,\)"),
        ({"output": lambda model, batch: batch[:0]}, r"must have shape \(examples, d\), not \(0, 4\)"),
        ({"output": lambda model, batch: batch / 0}, "must be finite, and has NaN or infinity in it"),
        ({"evaluate": lambda model, split: 0.5}, r"evaluate\('search'\) must return a dict of metrics by name"),
        ({"evaluate": lambda model, split: {}}, r"must return a dict of metrics by name, not \{\}"),
        ({"evaluate": lambda model, split: {1: 2.0}}, "must return a dict of metrics by name"),
        ({"evaluate": lambda model, split: {"a": "b"}}, r"\['a'\] must be regrain.Scores or a finite number, not 'b'"),
        ({"evaluate": lambda model, split: {"a": np.nan}}, "must be regrain.Scores or a finite number, not nan"),
        ({"evaluate": lambda model, split: {"a": torch.ones(2)}}, "must be regrain.Scores or a finite number"),
        ({"evaluate": lambda model, split: {"a": Scores([1], aggregate=lambda v: 1 / 0)}}, "failed.*ZeroDivisionError"),
        ({"evaluate": lambda model, split: {"a": Scores([np.inf])}}, "TaskError: values must be finite, not inf"),
    ],
)  # fmt: skip
def test_wrong_results(functions: dict[str, object], message: str) -> None:
    task = failing(**functions)
    with pytest.raises(TaskError, match="^task 'task': .*" + message):
        model = task.model()
        list(task.each_output(model, "search"))
        task.scores(model, "search")


def test_output_must_be_differentiable_where_that_is_asked_for() -> None:
    task = failing(output=torch.no_grad()(lambda model, batch: model(batch)))
    with pytest.raises(TaskError, match=r"must be differentiable: leave out torch.no_grad and detach"):
        task.outputs(task.model(), torch.ones(1, 4), grad=True)


def test_what_is_kept_from_inference_mode_serves_gradients() -> None:
    """A model and batches that a task made while it was simulated, and keeps, are compressed later in the process."""
    keep = cache(lambda split: [torch.ones(2, 4)])
    task = failing(inputs=keep, evaluate=lambda model, split: {"norm": model(keep(split)[0]).norm()})
    with torch.inference_mode():
        model = task.model()
        (batch,) = task.batches("search")
        task.scores(model, "held_out")
    for one in (batch, keep("held_out")[0]):
        assert task.outputs(model, one, grad=True).requires_grad


def test_without_evaluate_there_are_no_metrics() -> None:
    assert failing().scores(torch.nn.Linear(1, 1), "search") == {}


def test_outputs_are_float32() -> None:
    task = failing(output=lambda model, batch: model(batch).bfloat16())
    assert task.outputs(task.model(), torch.ones(1, 4)).dtype == torch.float32


@pytest.mark.parametrize(("scale", "kind"), [(1.0, "embeddings"), (1.0005, "embeddings"), (1.01, "logits")])
def test_unit_rows_are_embeddings(scale: float, kind: str) -> None:
    rows = torch.nn.functional.normalize(torch.randn(5, 4, generator=torch.Generator().manual_seed(0)))
    rows[2] *= scale
    assert failing().kind_of(rows) == kind
    assert failing(kind="logits").kind_of(rows) == "logits"


def test_leaving_the_program_is_a_failure_too() -> None:
    with pytest.raises(TaskError, match=r"load_model\(\) failed.*SystemExit: 7"):
        failing(load_model=lambda: sys.exit(7)).model()
