"""A compact ResNet that tells clothes apart: what it must not lose is accuracy on images it has not seen."""

from collections.abc import Iterator
from pathlib import Path

import fashion
import torch
from resnet import ResNet
from torch import Tensor

import regrain
from regrain.torch import load_file

OUTPUT = "logits"
ARTIFACT = Path(__file__).with_name("resnet.regrain.safetensors")


def load_model() -> ResNet:
    """The trained network, in eval mode."""
    model = ResNet()
    model.load_state_dict(load_file(ARTIFACT))
    return model.eval()


def inputs(split: str) -> Iterator[Tensor]:
    """Batches of images (n, 1, 28, 28) from "calibration", "search", "held_out" or "audit"."""
    images, _ = fashion.read(split)
    yield from images.split(100 if split == "calibration" else 500)


def output(model: ResNet, images: Tensor) -> Tensor:
    """Logits (n, 10)."""
    return model(images)


@torch.inference_mode()
def evaluate(model: ResNet, split: str) -> dict[str, regrain.Scores]:
    """1 for each image whose greatest logit is its label's, 0 for the others."""
    _, labels = fashion.read(split)
    guesses = torch.cat([output(model, images).argmax(1) for images in inputs(split)])
    return {"accuracy": regrain.Scores((guesses == labels).numpy())}
