"""The networks, and their calibration data and streams."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "tasks"))
sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "tasks" / "fashion_mnist"))

import numpy as np
import texts
import torch
from emulate import Layer, Network
from torch import Tensor, nn

WINDOW = 64
"""Tokens of a window, of an encoder with the two special ones: there is no padding."""

WINDOWS = 8
"""Windows of a batch: 512 tokens."""

IMAGES = 16
"""Images of a batch."""


@dataclass(frozen=True)
class Subject:
    """A network with its streams. `batches` gives those of a domain and a part, "calibration" or "stream"."""

    key: str
    name: str
    load: Callable[[], Network]
    domains: tuple[str, ...]
    batches: Callable[[str, str], tuple[Any, ...]]
    segment: int  # batches of a domain before the next one comes, at most
    step: int  # examples of a stream that are served, observed and decided on at once
    calibration: int  # batches of a domain, at most
    quick: bool  # enough for more patterns


def minilm() -> Network:
    from minilm import model as encoder

    model = encoder.load()
    layers = {
        name: Layer.of(name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name.startswith("encoder.")
    }
    shared = {
        name: name.replace(part, "query") for name in layers for part in ("key", "value") if f"self.{part}" in name
    }
    return Network(model, layers, _embed, "embeddings", shared)


def _embed(model: nn.Module, ids: Tensor) -> Tensor:
    return nn.functional.normalize(model(input_ids=ids).last_hidden_state.mean(1), dim=1)


@cache
def encoder_windows(domain: str, part: str) -> tuple[Tensor, ...]:
    """Batches (WINDOWS, WINDOW) of a domain's tokens, one document after another."""
    from minilm import model as encoder

    tokenizer = encoder.tokenizer()
    ids = tokenizer(list(texts.split(domain, part)), add_special_tokens=False, verbose=False)["input_ids"]
    flat = np.concatenate([np.asarray(one) for one in ids])
    inner = WINDOW - 2
    whole = flat[: len(flat) // inner * inner].reshape(-1, inner)
    first, last = (np.full((len(whole), 1), token) for token in (tokenizer.cls_token_id, tokenizer.sep_token_id))
    return torch.from_numpy(np.concatenate((first, whole, last), axis=1)).split(WINDOWS)


def resnet() -> Network:
    import task

    model = task.load_model()
    layers = {
        name: Layer.of(name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d) and name.startswith("blocks.")
    }
    return Network(model, layers, task.output, "logits")


SHIFTS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "clean": lambda x, _: x,
    "dim": lambda x, _: 0.4 * x,
    "bright": lambda x, _: 0.5 + 0.5 * x,
    "noisy": lambda x, random: (x + 0.2 * torch.randn(x.shape, generator=random)).clamp(0, 1),
    "negative": lambda x, _: 1.0 - x,
}


@cache
def images(shift: str, part: str) -> tuple[Tensor, ...]:
    """Batches of images (n, 1, 28, 28) that the network was not trained on; every shift has others of them."""
    import fashion

    number = tuple(SHIFTS).index(shift)
    found, _ = fashion.read("calibration" if part == "calibration" else "held_out")
    random = torch.Generator().manual_seed(number)
    return SHIFTS[shift](found[number :: len(SHIFTS)], random).split(IMAGES)


MINILM = Subject(
    "minilm", "all-MiniLM-L6-v2", minilm, texts.DOMAINS, encoder_windows, segment=16, step=2, calibration=6, quick=False
)
RESNET = Subject(
    "resnet", "Fashion-MNIST ResNet", resnet, tuple(SHIFTS), images, segment=40, step=IMAGES, calibration=12, quick=True
)
SUBJECTS = (MINILM, RESNET)


@dataclass(frozen=True)
class Skipping:
    """A network for columns chosen by token. `batches` gives those of a part: "calibration" for thresholds, "probe" for
    what each `group` of matrices loses, "stream" for the score. `targets` are shares of the work.
    """

    key: str
    name: str
    load: Callable[[], Network]
    batches: Callable[[str], tuple[Any, ...]]
    group: Callable[[str], str]
    targets: tuple[float, ...]


def _encoder_parts(part: str) -> tuple[Tensor, ...]:
    """Windows of all domains together: 2 of each for probes, of data for calibration; 8 and 16 of each else."""
    which, start, stop = {"calibration": (0, 0, 8), "probe": (0, 8, 10), "stream": (1, 0, 16)}[part]
    windows = (torch.cat(encoder_windows(domain, texts.SPLITS[which])[:3])[start:stop] for domain in texts.DOMAINS)
    return torch.cat(tuple(windows)).split(10)


def smollm2() -> Network:
    from smollm2 import task

    model = task.load_model()
    layers = {name: Layer.of(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    first = {"k_proj": "q_proj", "v_proj": "q_proj", "up_proj": "gate_proj"}
    shared = {name: name.replace(part, one) for name in layers for part, one in first.items() if part in name}
    return Network(model, layers, task.output, "logits", shared)


def _decoder_parts(part: str) -> tuple[Tensor, ...]:
    from smollm2 import task

    split, count, length = {
        "calibration": ("calibration", 6, 256),
        "probe": ("search", 1, 256),
        "stream": ("held_out", 4, 512),
    }[part]
    return tuple(ids[:, :length] for ids in list(task.inputs(split))[:count])


def _decoder_group(name: str) -> str:
    """Kind of matrix, and which third of the depth: 30 blocks. The output matrix is a group of its own."""
    if "layers" not in name:
        return name
    return f"{name.rsplit('.', 1)[1]}, blocks {int(name.split('.')[2]) // 10 * 10} on"


SKIPPING = (
    Skipping("minilm", "all-MiniLM-L6-v2", minilm, _encoder_parts, str, (0.2, 0.25, 0.3, 0.5)),
    Skipping("smollm2", "SmolLM2-135M-Instruct", smollm2, _decoder_parts, _decoder_group, (0.2, 0.25, 0.3)),
)
