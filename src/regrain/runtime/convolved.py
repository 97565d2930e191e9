"""What stands in the place of a convolution's `forward` while it is served."""

from __future__ import annotations

import torch

from regrain.kernels.convolution import Window, convolve_at
from regrain.kernels.panels import Panels
from regrain.runtime.engine import Engine
from regrain.runtime.host import Host
from regrain.runtime.layers import Layer
from regrain.runtime.layout import Biased
from regrain.runtime.served import Fit, Pins, Served


class Convolved(Served):
    """The forward of a convolution. Where the original gives the same and is faster with inputs of that size, it goes
    on: sizes that differ by less than a factor of two are taken for one.
    """

    def __init__(self, layer: Layer, engine: Engine, threads: int, pins: Pins | None, host: Host) -> None:
        super().__init__(layer, engine, threads, pins)
        assert layer.window is not None
        self._window: Window = layer.window
        self._axes = 1 + layer.weight.dim() - 2
        self._channels = layer.weight.shape[1]
        self._host = host
        self._left: dict[int, bool] = {}

    def _fit(self, shape: torch.Size) -> Fit | None:
        if len(shape) not in (self._axes, self._axes + 1) or shape[-self._axes] != self._channels:
            return None
        count, size = (shape[0] if len(shape) > self._axes else 1), shape[1 - self._axes :]
        height, width = (1, size[0]) if len(size) == 1 else (size[0], size[1])
        try:
            high, wide = self._window.outputs((height, width))
        except ValueError:
            return None
        outputs = (*shape[: -self._axes], self._rows, *(high, wide)[-len(size) :])
        fit = Fit(shape, count * high * wide, outputs, (count, self._channels, height, width))
        return None if self.engine.exact and self._slower(fit) else fit

    def _compute(self, product: Biased, x: int, fit: Fit, out: int, threads: int) -> None:
        assert isinstance(product, Panels)
        convolve_at(product, self._window, x, fit.images, out, threads)

    def _slower(self, fit: Fit) -> bool:
        """Whether the original is faster with such inputs."""
        bucket = fit.tokens.bit_length()
        if fit.tokens and bucket not in self._left:
            x, out, panels = torch.ones(fit.inputs), torch.empty(fit.outputs), self.engine.layout.few

            def ours() -> None:
                self._compute(panels, x.data_ptr(), fit, out.data_ptr(), self.threads)

            what = f"{self._window} {fit.images}"
            self._left[bucket] = self._host.prefers_original(panels, what, ours, lambda: self.original(x))
        return self._left.get(bucket, False)
