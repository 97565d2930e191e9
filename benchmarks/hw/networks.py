"""Layer tables of networks, from their architectures. Knows neither regrain nor other simulators: both read it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple


class Layer(NamedTuple):
    """A convolution, or a product as one of a 1 x 1 kernel: `height` x `width` pixels come out."""

    height: int
    width: int
    kernel: int
    channels: int
    filters: int
    stride: int = 1

    @property
    def inputs(self) -> int:
        """Weights of a filter."""
        return self.kernel * self.kernel * self.channels

    @property
    def pixels(self) -> int:
        return self.height * self.width


def convolution(size: int, kernel: int, channels: int, filters: int, stride: int = 1) -> Layer:
    """`size` x `size` pixels come out, padding included."""
    return Layer(size, size, kernel, channels, filters, stride)


def linear(tokens: int, inputs: int, outputs: int) -> Layer:
    return Layer(tokens, 1, 1, inputs, outputs)


def resnet18() -> Iterator[Layer]:
    """He et al. 2016, 224 x 224: a stem, four stages of two basic blocks, a classifier."""
    yield convolution(112, 7, 3, 64, 2)
    channels = 64
    for size, filters in ((56, 64), (28, 128), (14, 256), (7, 512)):
        stride = 1 if filters == channels else 2
        yield convolution(size, 3, channels, filters, stride)
        if stride == 2:
            yield convolution(size, 1, channels, filters, stride)
        for _ in range(3):
            yield convolution(size, 3, filters, filters)
        channels = filters
    yield linear(1, 512, 1000)


def alexnet() -> Iterator[Layer]:
    """Krizhevsky 2014 (one column, as torchvision has it), 224 x 224."""
    yield convolution(55, 11, 3, 64, 4)
    yield convolution(27, 5, 64, 192)
    yield convolution(13, 3, 192, 384)
    yield convolution(13, 3, 384, 256)
    yield convolution(13, 3, 256, 256)
    yield linear(1, 9216, 4096)
    yield linear(1, 4096, 4096)
    yield linear(1, 4096, 1000)


def mobilenet() -> Iterator[Layer]:
    """Howard et al. 2017, 224 x 224. Depthwise: a layer of one channel and one filter for each channel."""
    yield convolution(112, 3, 3, 32, 2)
    channels = 32
    blocks = [(112, 64, 1), (56, 128, 2), (56, 128, 1), (28, 256, 2), (28, 256, 1), (14, 512, 2)]
    blocks += [(14, 512, 1)] * 5 + [(7, 1024, 2), (7, 1024, 1)]
    for size, filters, stride in blocks:
        yield from (convolution(size, 3, 1, 1, stride) for _ in range(channels))
        yield convolution(size, 1, channels, filters)
        channels = filters
    yield linear(1, 1024, 1000)


def googlenet() -> Iterator[Layer]:
    """Szegedy et al. 2015, 224 x 224, without the classifiers of training: nine inception blocks."""
    yield convolution(112, 7, 3, 64, 2)
    yield convolution(56, 1, 64, 64)
    yield convolution(56, 3, 64, 192)
    inception = [  # pixels, channels; filters of 1x1, before 3x3, 3x3, before 5x5, 5x5, after the pool
        (28, 192, 64, 96, 128, 16, 32, 32),
        (28, 256, 128, 128, 192, 32, 96, 64),
        (14, 480, 192, 96, 208, 16, 48, 64),
        (14, 512, 160, 112, 224, 24, 64, 64),
        (14, 512, 128, 128, 256, 24, 64, 64),
        (14, 512, 112, 144, 288, 32, 64, 64),
        (14, 528, 256, 160, 320, 32, 128, 128),
        (7, 832, 256, 160, 320, 32, 128, 128),
        (7, 832, 384, 192, 384, 48, 128, 128),
    ]
    for size, channels, one, before3, three, before5, five, pooled in inception:
        yield from (convolution(size, 1, channels, filters) for filters in (one, before3, before5, pooled))
        yield convolution(size, 3, before3, three)
        yield convolution(size, 5, before5, five)
    yield linear(1, 1024, 1000)


def encoder() -> Iterator[Layer]:
    """Six layers of a transformer encoder (MiniLM-L6), 384 wide, 128 tokens; each of 12 heads has its own products."""
    for _ in range(6):
        yield from (linear(128, 384, 384) for _ in range(4))
        for _ in range(12):
            yield linear(128, 32, 128)
            yield linear(128, 128, 32)
        yield linear(128, 384, 1536)
        yield linear(128, 1536, 384)


NETWORKS = {
    "ResNet-18": resnet18,
    "AlexNet": alexnet,
    "MobileNet": mobilenet,
    "GoogLeNet": googlenet,
    "MiniLM-L6": encoder,
}


def distinct(name: str) -> Counter[Layer]:
    """Layers of a network, and how often it has each of them."""
    return Counter(NETWORKS[name]())
