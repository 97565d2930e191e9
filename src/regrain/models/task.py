"""A task: what compression must not break. A model, its inputs, its output, and an evaluation if there is one.

The functions are the user's; every call of them goes through here, where what they give back is checked, and whatever
goes wrong becomes a TaskError that names the function and the line.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from regrain.core.errors import TaskError
from regrain.core.scores import Scores
from regrain.models.siblings import Siblings

if TYPE_CHECKING:
    import torch

Kind = Literal["embeddings", "logits"]
Metric = Scores | float
UNIT_NORM = 1e-3
"""Rows whose norms are 1 within this are embeddings, where the task doesn't say what they are."""


@dataclass(frozen=True, slots=True)
class Task:
    """Functions of a task. The splits of `inputs` are "calibration", "search" and "held_out".

    `kind` is what `output` gives; None: look at it (`kind_of`). `path` and `sha256` (hex) are those of the file that
    the functions are from, None if they are from none; `siblings` are the modules beside it.
    """

    name: str
    load_model: Callable[[], torch.nn.Module]
    inputs: Callable[[str], Iterable[Any]]
    output: Callable[[torch.nn.Module, Any], torch.Tensor]
    evaluate: Callable[[torch.nn.Module, str], Mapping[str, Metric]] | None = None
    kind: Kind | None = None
    path: Path | None = None
    sha256: str | None = None
    siblings: Siblings | None = None

    def model(self) -> torch.nn.Module:
        """A new model, in eval mode. Raises TaskError."""
        import torch

        with self._calling("load_model()"), torch.inference_mode(False):
            model = self.load_model()
        if not isinstance(model, torch.nn.Module):
            raise TaskError(f"{self}: load_model() must return a torch.nn.Module, not {type(model).__name__}")
        return model.eval()

    def batches(self, split: str) -> list[Any]:
        """All batches of a split, at least one. Raises TaskError.

        Their tensors serve gradients even if the caller is in inference mode, since a task may keep them.
        """
        import torch

        with self._calling(f"inputs({split!r})"), torch.inference_mode(False):
            batches = list(self.inputs(split))
        if not batches:
            raise TaskError(f"{self}: inputs({split!r}) must give one batch or more, not none")
        return batches

    def outputs(
        self, model: torch.nn.Module, batch: Any, *, grad: bool = False, where: str = "a batch"
    ) -> torch.Tensor:
        """The model's output for a batch: float32 (n, d), n and d >= 1, finite; with a graph only if `grad`.

        `where` says which batch it is, for errors. Raises TaskError.
        """
        import torch

        with self._calling(f"output() of {where}"), nullcontext() if grad else torch.no_grad():
            rows = self.output(model, batch)
        if not isinstance(rows, torch.Tensor) or not rows.is_floating_point():
            kind = rows.dtype if isinstance(rows, torch.Tensor) else type(rows).__name__
            raise TaskError(f"{self}: output() of {where} must be a floating-point tensor, not {kind}")
        if rows.dim() != 2 or rows.numel() == 0:
            raise TaskError(f"{self}: output() of {where} must have shape (examples, d), not {tuple(rows.shape)}")
        if not torch.isfinite(rows.detach()).all():
            raise TaskError(f"{self}: output() of {where} must be finite, and has NaN or infinity in it")
        if grad and not rows.requires_grad:
            raise TaskError(f"{self}: output() of {where} must be differentiable: leave out torch.no_grad and detach")
        return rows.float()

    def each_output(self, model: torch.nn.Module, split: str) -> Iterator[torch.Tensor]:
        """`outputs` of all batches of a split, in order."""
        for number, batch in enumerate(self.batches(split)):
            yield self.outputs(model, batch, where=f"batch {number} of {split!r}")

    def kind_of(self, rows: torch.Tensor) -> Kind:
        """The task's kind of output; where it doesn't say, embeddings if and only if all `rows` have unit norm.

        Raises TaskError for a single column, which says nothing once it is normalized: both kinds are.
        """
        if rows.shape[1] < 2:
            raise TaskError(
                f"{self}: output() must have two columns or more, not {tuple(rows.shape)}: give a single logit z of a "
                "yes or no as the columns 0 and z"
            )
        if self.kind is not None:
            return self.kind
        norms = rows.detach().double().norm(dim=1)
        return "embeddings" if bool(((norms - 1.0).abs() <= UNIT_NORM).all()) else "logits"

    def scores(self, model: torch.nn.Module, split: str) -> dict[str, Metric]:
        """What `evaluate` finds on a split: a finite metric or more, Scores or float; empty without `evaluate`.

        Raises TaskError.
        """
        import torch

        if self.evaluate is None:
            return {}
        call = f"evaluate({split!r})"
        with self._calling(call), torch.inference_mode(False), torch.no_grad():
            found = self.evaluate(model, split)
        if not isinstance(found, Mapping) or not found or not all(isinstance(name, str) for name in found):
            raise TaskError(f"{self}: {call} must return a dict of metrics by name, not {found!r:.80}")
        return {name: self._metric(metric, f"{call}[{name!r}]") for name, metric in found.items()}

    def __str__(self) -> str:
        return f"task {self.name!r}"

    def _metric(self, metric: Any, where: str) -> Metric:
        if isinstance(metric, Scores):
            with self._calling(where):
                metric.value  # noqa: B018 - raises if the metric isn't finite
            return metric
        try:
            number = float(metric)
        except (TypeError, ValueError, RuntimeError):
            number = math.nan
        if not math.isfinite(number):
            raise TaskError(f"{self}: {where} must be regrain.Scores or a finite number, not {metric!r:.80}")
        return number

    @contextmanager
    def _calling(self, call: str) -> Iterator[None]:
        with explaining(f"{self}: {call}", self.path), self.siblings or nullcontext():
            yield


@contextmanager
def explaining(call: str, path: Path | None) -> Iterator[None]:
    """Turn what the user's code raises into a TaskError that says where it did; running out of memory stays that."""
    try:
        yield
    except MemoryError:
        raise
    except (Exception, SystemExit) as error:
        reason = str(error).strip().partition("\n")[0]
        what = type(error).__name__ + (f": {reason}" if reason else "")
        raise TaskError(f"{call} failed{_place(error, path)}: {what}") from error


def task_from(
    load_model: Callable[[], torch.nn.Module],
    inputs: Callable[[str], Iterable[Any]],
    output: Callable[[torch.nn.Module, Any], torch.Tensor],
    evaluate: Callable[[torch.nn.Module, str], Mapping[str, Metric]] | None = None,
    kind: Kind | None = None,
    name: str = "task",
) -> Task:
    """A task of functions instead of a file. Raises TaskError."""
    functions = {"load_model": load_model, "inputs": inputs, "output": output}
    if evaluate is not None:
        functions["evaluate"] = evaluate
    for function, value in functions.items():
        if not callable(value):
            raise TaskError(f"task {name!r}: {function} must be a function, not {value!r:.80}")
    if kind not in (None, "embeddings", "logits"):
        raise TaskError(f"task {name!r}: OUTPUT must be 'embeddings' or 'logits', not {kind!r:.80}")
    return Task(name, load_model, inputs, output, evaluate, kind)


def _place(error: BaseException, path: Path | None) -> str:
    """Where in the task's folder it happened: the innermost frame there; for a syntax error, the error's own line."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" at {Path(error.filename).name}, line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    if path is None:
        own = [frame for frame in frames if Path(frame.filename).parent != Path(__file__).parent]
        own = own[:1]  # the user's function: what it calls may be any library
    else:
        own = [frame for frame in frames if _is_below(Path(frame.filename), path.parent)]
    return f" at {Path(own[-1].filename).name}, line {own[-1].lineno}" if own else ""


def _is_below(file: Path, folder: Path) -> bool:
    """Whether a file is in the task's folder, and not in an environment that is installed there."""
    return file.is_relative_to(folder) and "site-packages" not in file.parts
