"""Small networks of different kinds, for images of clothes (n, 1, 28, 28) and for text by the character."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

CLASSES = 10


def mlp(*widths: int) -> nn.Module:
    """Layers of those widths, fully connected."""
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in zip((784, *widths), widths, strict=False):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], CLASSES))


def cnn(*widths: int) -> nn.Module:
    """3 x 3 convolutions, the image halved after each; no normalization."""
    layers: list[nn.Module] = []
    for inputs, outputs in zip((1, *widths), widths, strict=False):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    side = 28 >> len(widths)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(widths[-1] * side * side, CLASSES))


def separable(*widths: int) -> nn.Module:
    """Depthwise and pointwise convolutions with batch normalization (Howard et al., MobileNets, 2017)."""
    layers: list[nn.Module] = [_normed(nn.Conv2d(4, widths[0], 3, padding=1, bias=False))]
    for number, (inputs, outputs) in enumerate(pairwise(widths)):
        stride = 1 + number % 2
        layers += [
            _normed(nn.Conv2d(inputs, inputs, 3, stride, padding=1, groups=inputs, bias=False)),
            _normed(nn.Conv2d(inputs, outputs, 1, bias=False)),
        ]
    pooled = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], CLASSES)]
    return nn.Sequential(nn.PixelUnshuffle(2), *layers, *pooled)


def _normed(convolution: nn.Conv2d) -> nn.Module:
    return nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU())


def waves(*widths: int) -> nn.Module:
    """Convolutions along an image's rows, whose pixels are the first channels."""
    layers: list[nn.Module] = [nn.Flatten(1, 2)]
    for inputs, outputs in zip((28, *widths), widths, strict=False):
        layers += [nn.Conv1d(inputs, outputs, 5, padding=2), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(4), nn.Flatten(), nn.Linear(4 * widths[-1], CLASSES))


class Recurrent(nn.Module):
    """The next character by a GRU: from ids (n, length) to logits (n, length, vocabulary)."""

    def __init__(self, vocabulary: int, width: int, layers: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width // 2)
        self.gru = nn.GRU(width // 2, width, layers, batch_first=True)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, ids: Tensor) -> Tensor:
        logits: Tensor = self.head(self.gru(self.embedding(ids))[0])
        return logits


class Transformer(nn.Module):
    """The next character by attention to those before: from ids (n, length <= 64) to logits (n, length, vocabulary)."""

    def __init__(self, vocabulary: int, width: int, layers: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(64, width)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(layers)))
        self.head = nn.Linear(width, vocabulary)

    def forward(self, ids: Tensor) -> Tensor:
        places = torch.arange(ids.shape[1])
        logits: Tensor = self.head(self.blocks(self.embedding(ids) + self.positions(places)))
        return logits


class Block(nn.Module):
    """Attention with heads of 16, then two layers four times as wide, each after normalization."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.inner, self.outer = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, length, width = x.shape
        parts = self.inner(self.norms[0](x)).view(n, length, 3, width // 16, 16).permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(*parts, is_causal=True).transpose(1, 2).reshape(n, length, width)
        x = x + self.outer(mixed)
        y: Tensor = x + self.narrow(torch.nn.functional.gelu(self.wide(self.norms[1](x))))
        return y
