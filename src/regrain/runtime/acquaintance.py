"""What pruning does to the inputs of the layers that follow, seen on calibration data while the network is served."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from regrain.models.trace import evaluating
from regrain.policies import Monitor, Observation
from regrain.runtime.calibrated import Run
from regrain.runtime.engine import rows_of
from regrain.runtime.layers import Layer
from regrain.runtime.served import Served


def monitored(model: nn.Module, served: Sequence[Served], run: Run) -> dict[str, Observation]:
    """Moments of the inputs of adapting layers, by the names of their weights, as monitors count them; what `run` uses
    the model for is no part of the stream. Inputs that aren't finite are left out.
    """
    monitors = {}
    for one in served:
        assert one.engine.adaptation is not None
        monitors[one.engine.name] = Monitor(one.engine.adaptation.master.matrix, 1)
    with evaluating(model), _watched(served, monitors):
        for _ in run():
            pass
    return {name: seen for name, monitor in monitors.items() if (seen := monitor.take()) is not None}


@contextmanager
def _watched(served: Sequence[Served], monitors: dict[str, Monitor]) -> Iterator[None]:
    handles = []
    for one in served:

        def hook(_: nn.Module, args: Any, named: Any, layer: Layer = one.layer) -> None:
            x = args[0] if args else named["input"]
            monitors[layer.name].add(rows_of(x.detach().float(), _channels(layer), _images(layer, x)))

        handles.append(one.layer.module.register_forward_pre_hook(hook, with_kwargs=True))
        one.engine.watching = False
    try:
        yield
    finally:
        for one, handle in zip(served, handles, strict=True):
            one.engine.watching = True
            handle.remove()


def _channels(layer: Layer) -> int:
    return layer.shape[1] // layer.span


def _images(layer: Layer, x: torch.Tensor) -> int:
    """How many are in an input; 0 where it isn't a convolution's."""
    return 0 if layer.window is None else x.numel() // math.prod(x.shape[1 - layer.weight.dim() :])
