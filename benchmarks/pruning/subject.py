"""The networks that are pruned: what tools get of each, and how good what they leave is on data that no tool saw."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "tasks"))
sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "tasks" / "fashion_mnist"))

import fashion
import task as fashion_task
import torch
from minilm import task as encoder_task
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from regrain.accuracy import FidelityMeter

TASKS = Path(__file__).parents[2] / "examples" / "tasks"
Gradients = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Subject:
    """A network with its data.

    inputs: batches of a split; tools get "calibration" alone. blocks: parts in the order they compute, for methods that
    go through a network; layers outside of them are small and stay dense. unused: layers whose results nobody wants.
    valid: which positions of a batch are no padding, None for all. losses: a scalar for each sample of calibration
    data, to be differentiated. labels: of a split, None where there are none. fixed: modules whose output no tool may
    narrow.
    """

    name: str
    task: Path
    outputs: str
    load: Callable[[], nn.Module]
    output: Callable[[nn.Module, Any], Tensor]
    inputs: Callable[[str], Iterator[Any]]
    blocks: Callable[[nn.Module], list[nn.Module]]
    unused: tuple[str, ...]
    valid: Callable[[Any], Tensor | None]
    losses: Callable[[nn.Module], Iterator[Tensor]]
    labels: Callable[[str], Tensor] | None
    fixed: Callable[[nn.Module], list[nn.Module]]


def _image_losses(model: nn.Module) -> Iterator[Tensor]:
    for image, label in zip(*fashion.read("calibration"), strict=True):
        yield cross_entropy(model(image[None]), label[None])


def _text_losses(model: nn.Module) -> Iterator[Tensor]:
    """Texts have no labels: a random sign for each number of the embedding, whose squared gradients' mean is the
    diagonal of the embedding's Gauss-Newton matrix.
    """
    random = torch.Generator().manual_seed(0)
    for batch in encoder_task.inputs("calibration"):
        for row, length in enumerate(batch["attention_mask"].sum(dim=1)):
            text = {name: tensor[row : row + 1, :length] for name, tensor in batch.items()}
            embedding = encoder_task.output(model, text)[0]
            signs = torch.randint(2, embedding.shape, generator=random) * 2.0 - 1.0
            yield embedding @ signs


FASHION = Subject(
    name="Fashion-MNIST ResNet",
    task=TASKS / "fashion_mnist" / "task.py",
    outputs="logits",
    load=fashion_task.load_model,
    output=fashion_task.output,
    inputs=fashion_task.inputs,
    blocks=lambda model: [*model.blocks],
    unused=(),
    valid=lambda images: None,
    losses=_image_losses,
    labels=lambda split: fashion.read(split)[1],
    fixed=lambda model: [model.head],
)

ENCODER = Subject(
    name="all-MiniLM-L6-v2",
    task=TASKS / "minilm" / "task.py",
    outputs="embeddings",
    load=encoder_task.load_model,
    output=encoder_task.output,
    inputs=encoder_task.inputs,
    blocks=lambda model: [*model.encoder.layer],
    unused=("pooler.dense",),
    valid=lambda batch: batch["attention_mask"].bool(),
    losses=_text_losses,
    labels=None,
    fixed=lambda model: [model.embeddings, model.pooler],
)

SUBJECTS = (FASHION, ENCODER)


@cache
def gradients(subject: Subject, power: int) -> Gradients:
    """Parameter -> mean of its gradients to that power, over the samples of calibration data one by one. Tables of
    embeddings, which are not pruned, are left out.
    """
    model = subject.load()
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            module.requires_grad_(requires_grad=False)
    total: Gradients = {}
    count = 0
    for loss in subject.losses(model):
        model.zero_grad()
        loss.backward()
        count += 1
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                total[name] = total[name] + parameter.grad**power if name in total else parameter.grad**power
    return {name: value / count for name, value in total.items()}


@torch.no_grad()
def reestimate(subject: Subject, model: nn.Module) -> bool:
    """Take means and variances of batch normalization anew, on calibration data. False where there is none."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
        norm.train()
    for batch in subject.inputs("calibration") if norms else ():
        model(batch)
    model.eval()
    return bool(norms)


@torch.no_grad()
def audit(subject: Subject, model: nn.Module) -> dict[str, float]:
    """D, or KL and top-1 agreement, with the original on the audit split; with labels accuracy and its drop, too."""
    meter = FidelityMeter(subject.outputs)  # type: ignore[arg-type]
    guesses = []
    for batch, original in zip(subject.inputs("audit"), _originals(subject), strict=True):
        outputs = subject.output(model, batch)
        meter.add(original.numpy(), outputs.numpy())
        guesses.append(outputs.argmax(dim=1))
    found = meter.result()
    if subject.labels is None:
        return {"D": found.value}
    labels = subject.labels("audit")
    before, after = (
        (guess == labels).double().mean().item()
        for guess in (torch.cat([logits.argmax(dim=1) for logits in _originals(subject)]), torch.cat(guesses))
    )
    return {"KL": found.value, "top1": found.top1 or 0.0, "accuracy": after, "drop": before - after}


@cache
@torch.no_grad()
def _originals(subject: Subject) -> list[Tensor]:
    model = subject.load()
    return [subject.output(model, batch) for batch in subject.inputs("audit")]
