"""Modules whose whole call is convolutions and what usually stands between them, so that it can be served as one."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import nn

from regrain.runtime.following import Follower, OtherwiseError, Stretch
from regrain.runtime.recording import record

LEAST = 2
"""Convolutions that make it worth while."""


def stretches(model: nn.Module, run: Callable[[], Iterable[object]]) -> dict[str, Stretch]:
    """What of a model can be served from end to end on eight bits, by the paths of modules: `attach(whole=...)`.

    run: uses the model for a batch of calibration data with each step. A module is found if its call is made of
    convolutions, batch normalizations, additions, ReLUs, a mean over positions and a linear layer, in all these calls
    alike, and nothing else uses what comes between; the outermost such modules are. As with `torch.jit.trace`, what a
    module decides by other things than tensors is taken to stay. The model is called in eval mode, without gradients.
    """
    recording = record(model, run)
    found: dict[str, Stretch] = {}
    if recording is None:
        return found
    for path, module in model.named_modules():
        span = recording.spans.get(path)
        if span is None or any(path.startswith(f"{outer}.") or not outer for outer in found):
            continue
        if any(_hooked(part) for part in module.modules()):
            continue
        try:
            stretch = Follower(model, recording, span).stretch()
        except OtherwiseError:
            continue
        if len(stretch.links) >= LEAST:
            found[path] = stretch
    return found


def _hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks) or "forward" in vars(module)  # noqa: SLF001
