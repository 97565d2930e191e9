"""Two tasks of examples/tasks with a budget each, in the form that tools with accuracy control want them.

An item of validation data is (batch, labels); its score is the mean over the batch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "tasks"))
sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "tasks" / "fashion_mnist"))

import fashion
import task as fashion_task
import torch
from minilm import model as encoder
from minilm import retrieval, splits

import regrain

Item = tuple[Any, torch.Tensor]
VALIDATION = ("search", "held_out")


@dataclass(frozen=True, slots=True)
class Subject:
    """A task with the largest drop of its metric that is allowed, relative to the metric's value or in its own units.

    calibrate: batches. validate: items of
    VALIDATION. score: a model's score for each of some items. audit: its scores
    on data that no tool gets. feed: a batch as OpenVINO's input. runnable: OpenVINO's compiled model as a module.
    """

    name: str
    metric: str
    budget: float
    relative: bool
    load: Callable[[], torch.nn.Module]
    calibrate: Callable[[], list[Any]]
    validate: Callable[[], list[Item]]
    score: Callable[[torch.nn.Module, Sequence[Item]], list[float]]
    audit: Callable[[torch.nn.Module], regrain.Scores]
    feed: Callable[[Any], Any]
    runnable: Callable[[Any], torch.nn.Module]
    transformer: bool
    conversion: dict[str, Any] = field(default_factory=dict)


class Compiled(torch.nn.Module):
    """A compiled OpenVINO model that is called as the original is."""

    def __init__(self, compiled: Any, output: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.compiled = compiled
        self.output = output

    def forward(self, *images: torch.Tensor, **tokens: torch.Tensor) -> Any:
        found = self.compiled(images[0].numpy() if images else _arrays(tokens))
        return self.output(torch.from_numpy(found[0]))


def _arrays(batch: encoder.Batch) -> dict[str, Any]:
    return {name: tensor.numpy() for name, tensor in batch.items()}


def _images() -> list[Item]:
    read = [fashion.read(split) for split in VALIDATION]
    return [item for images, labels in read for item in zip(images.split(50), labels.split(50), strict=True)]


@torch.inference_mode()
def _right(model: torch.nn.Module, items: Sequence[Item]) -> list[float]:
    return [(model(images).argmax(1) == labels).float().mean().item() for images, labels in items]


def _passages() -> list[Item]:
    items = []
    for split in VALIDATION:
        passages = splits.passages(split)
        for indices, batch in encoder.batches(tuple(passage.text for passage in passages)):
            items.append((batch, torch.tensor([passages[index].article for index in indices])))
    return items


@torch.inference_mode()
def _found(model: torch.nn.Module, items: Sequence[Item]) -> list[float]:
    """The reciprocal rank of each passage's own article, as the task has it."""
    openings = encoder.embed_all(model, splits.openings())
    scores = []
    for batch, articles in items:
        cosines = encoder.embed(model, batch) @ openings.T
        ranks = 1 + (cosines > cosines.gather(1, articles[:, None])).sum(dim=1)
        scores.append((1.0 / ranks).mean().item())
    return scores


FASHION = Subject(
    name="fashion_mnist",
    metric="accuracy",
    budget=0.005,
    relative=False,
    load=fashion_task.load_model,
    calibrate=lambda: [image for batch in fashion_task.inputs("calibration") for image in batch.split(1)],
    validate=_images,
    score=_right,
    audit=lambda model: fashion_task.evaluate(model, "audit")["accuracy"],
    feed=lambda images: images.numpy(),
    runnable=lambda compiled: Compiled(compiled, lambda logits: logits),
    transformer=False,
    conversion={"input": [-1, 1, fashion.SIDE, fashion.SIDE]},
)

RETRIEVAL = Subject(
    name="minilm/retrieval",
    metric="retrieval",
    budget=0.01,
    relative=True,
    load=retrieval.load_model,
    calibrate=lambda: list(retrieval.inputs("calibration")),
    validate=_passages,
    score=_found,
    audit=lambda model: retrieval.evaluate(model, "audit")["retrieval"],
    feed=_arrays,
    runnable=lambda compiled: Compiled(compiled, lambda hidden: SimpleNamespace(last_hidden_state=hidden)),
    transformer=True,
)
