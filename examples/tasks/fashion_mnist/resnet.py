"""A compact ResNet for gray images of 28 x 28 pixels: three stages of two basic blocks, 0.70 M parameters."""

from torch import Tensor, nn
from torch.nn.functional import relu

CLASSES = 10
WIDTHS = (32, 64, 128)


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut.

    He et al., "Deep residual learning for image recognition" (2016), figure 5, with projections as shortcuts where the
    shape changes (their option B).
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """From (n, inputs, h, w) to (n, outputs, ceil(h / stride), ceil(w / stride))."""
        y = relu(self.norm1(self.conv1(x)))
        return relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """Three stages of two basic blocks, at 14 x 14, 7 x 7 and 4 x 4: the stem gathers 2 x 2 pixels into channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(4, WIDTHS[0], 3, padding=1, bias=False),
            nn.BatchNorm2d(WIDTHS[0]),
            nn.ReLU(),
        )
        blocks, inputs = [], WIDTHS[0]
        for outputs in WIDTHS:
            stride = 1 if outputs == WIDTHS[0] else 2
            blocks += [BasicBlock(inputs, outputs, stride), BasicBlock(outputs, outputs, 1)]
            inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(inputs, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """From images (n, 1, 28, 28) of values from 0 to 1 to logits (n, 10)."""
        features: Tensor = self.blocks(self.stem(images)).mean(dim=(2, 3))
        logits: Tensor = self.head(features)
        return logits
