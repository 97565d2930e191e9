"""Which batch norm takes what a layer makes: its running mean can do what a bias would."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def norms_after(model: torch.nn.Module, call: Callable[[], object]) -> dict[str, str]:
    """The running mean (its name in the state dict) of the batch norm that directly follows each linear or
    convolutional layer without a bias, by the name of the layer's weight. `call` uses the model; what it doesn't reach
    is left out, and so is a batch norm that takes anything else, too.
    """
    import torch.nn as nn
    from torch.nn.modules.batchnorm import _BatchNorm

    makers: dict[int, tuple[str, Any, Any]] = {}  # the output is kept, so that no other tensor gets its id
    taken: dict[str, set[str | None]] = {}

    def makes(name: str) -> Callable[..., None]:
        def hook(layer: Any, _: Any, output: Any) -> None:
            if output.dim() == layer.weight.dim():  # else the norm's channels are another axis than the layer's
                makers[id(output)] = name, output, output.clone()

        return hook

    def takes(name: str) -> Callable[..., None]:
        def hook(_: Any, inputs: Any) -> None:
            maker, output, was = makers.get(id(inputs[0]) if inputs else 0, (None, None, None))
            changed = output is not None and not output.equal(was)  # in place, as by an activation
            taken.setdefault(name, set()).add(None if changed else maker)

        return hook

    modules = {f"{path}." if path else "": module for path, module in model.named_modules()}
    norms = [prefix for prefix, module in modules.items() if isinstance(module, _BatchNorm)]
    norms = [prefix for prefix in norms if modules[prefix].running_mean is not None]
    if not norms:
        return {}
    handles = [modules[prefix].register_forward_pre_hook(takes(f"{prefix}running_mean")) for prefix in norms]
    for prefix, module in modules.items():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d) and module.bias is None:
            handles.append(module.register_forward_hook(makes(f"{prefix}weight")))
    try:
        call()
    finally:
        for handle in handles:
            handle.remove()
    return {maker: name for name, (maker, *others) in taken.items() if maker is not None and not others}
