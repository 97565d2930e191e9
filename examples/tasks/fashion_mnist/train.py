# ruff: noqa: T201 - a script says how far it is by printing
"""Train the ResNet on Fashion-MNIST and store it."""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import fashion
import torch
from resnet import ResNet
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import cross_entropy, pad

import regrain

BATCH = 256
SHIFT = 2  # pixels, the most by which an image is moved
PEAK_RATE = 0.2
SMOOTHING = 0.1
WEIGHT_DECAY = 5e-4


def main() -> None:
    """Train, round, judge on the test images, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=18, help="passes over the 55,000 images [18]")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).with_name("resnet.safetensors"),
        help="safetensors file to write; the artifact is put beside it",
    )
    arguments = parser.parse_args()

    model = train(arguments.epochs)
    print(f"test accuracy, as trained: {accuracy(model, 'held_out', 'audit'):.2%}")
    round_to_bfloat16(model)
    print(f"test accuracy, rounded to bfloat16: {accuracy(model, 'held_out', 'audit'):.2%}")

    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, arguments.out)
    artifact = arguments.out.with_suffix(".regrain.safetensors")
    regrain.compress(arguments.out, artifact, force=True)
    print(f"{artifact}: {artifact.stat().st_size / 1e6:.2f} MB")


def train(epochs: int) -> ResNet:
    """SGD with Nesterov's momentum and one cycle of the learning rate (Smith and Topin, 2018), from a fixed seed."""
    torch.manual_seed(0)
    images, labels = fashion.read("train")
    model = ResNet().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), PEAK_RATE, momentum=0.9, weight_decay=WEIGHT_DECAY, nesterov=True)
    steps = len(images) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, epochs * steps, pct_start=0.2)
    start = time.perf_counter()
    for epoch in range(1, epochs + 1):
        model.train()
        total = 0.0
        for chosen in batches(len(images)):
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(augment(images[chosen]))
            loss = cross_entropy(logits.float(), labels[chosen], label_smoothing=SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        seconds = time.perf_counter() - start
        unseen = accuracy(model, "calibration", "search")
        print(f"epoch {epoch:2}  loss {total / steps:.3f}  unseen {unseen:.2%}  {seconds:.0f} s", flush=True)
    return model.eval()


def batches(count: int) -> Iterator[Tensor]:
    """Indices below `count` in a new random order, BATCH at a time; what doesn't fill a batch is left out."""
    yield from torch.randperm(count)[: count // BATCH * BATCH].split(BATCH)


def augment(images: Tensor) -> Tensor:
    """Each of the images (n, 1, 28, 28) moved by up to SHIFT pixels, and half of them mirrored."""
    windows = pad(images, [SHIFT] * 4).unfold(2, fashion.SIDE, 1).unfold(3, fashion.SIDE, 1)
    down, right = torch.randint(2 * SHIFT + 1, (2, len(images)))
    moved = windows[torch.arange(len(images)), :, down, right]
    return torch.where(torch.rand(len(images), 1, 1, 1) < 0.5, moved.flip(3), moved)


@torch.inference_mode()
def accuracy(model: ResNet, *splits: str) -> float:
    """The fraction of the splits' images that the model, in eval mode from here on, labels right."""
    model.eval()
    right = []
    for images, labels in map(fashion.read, splits):
        right += [model(x).argmax(1) == y for x, y in zip(images.split(500), labels.split(500), strict=True)]
    return torch.cat(right).double().mean().item()


def round_to_bfloat16(model: ResNet) -> None:
    """Every floating-point weight and statistic to the nearest bfloat16, kept as float32."""
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(tensor.bfloat16())


if __name__ == "__main__":
    main()
