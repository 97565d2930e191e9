"""torchao, HQQ and optimum-quanto. They quantize layers, so each matrix is given to them as a layer of its own.

Embeddings, too: none of the three but torchao knows an embedding layer, and without it half of this model would stay at
16 bits. All start from float16 weights, so that scales take 16 bits; the weights are used in float32.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from stored import Stored, bundle, nibbles
from subject import State
from torch import nn


def torchao(state: State, configs: Mapping[str, Any]) -> Stored:
    """`configs`: name of a matrix -> torchao's configuration for it."""
    from torchao.quantization import quantize_

    found = []
    for name, config in configs.items():
        layer = nn.Sequential(_layer(state[name]))
        quantize_(layer, config)
        found.append((name, _torchao_parts(layer[0].weight), _torchao_weight(layer[0])))
    return bundle(found, state)


def int8_rows() -> Any:
    """int8, symmetric, one scale a row."""
    from torchao.quantization import Int8WeightOnlyConfig

    return Int8WeightOnlyConfig(set_inductor_config=False)


def int4_groups(size: int, hqq: bool = False) -> Any:
    """uint4 with scale and zero point a group, for the CPU kernels of ATen; parameters by HQQ where that is wanted."""
    from torchao.prototype.quantization.int4.inference_workflow import PrototypeInt4WeightOnlyConfig
    from torchao.quantization.quantize_.workflows.int4.int4_choose_qparams_algorithm import Int4ChooseQParamsAlgorithm

    algorithm = Int4ChooseQParamsAlgorithm.HQQ if hqq else Int4ChooseQParamsAlgorithm.TINYGEMM
    return PrototypeInt4WeightOnlyConfig(size, algorithm, set_inductor_config=False)


def intx_groups(bits: int, size: int) -> Any:
    """Symmetric integers of any width, one scale a group: torchao's way with embeddings."""
    from torchao.quantization import IntxWeightOnlyConfig, PerGroup

    return IntxWeightOnlyConfig(getattr(torch, f"int{bits}"), PerGroup(size))


def hqq(state: State, bits: Mapping[str, int], group: int = 64, axis: int = 1) -> Stored:
    """`bits`: name of a matrix -> width of its codes, packed by HQQ (ten codes of 3 bits in 32)."""
    logging.getLogger("hqq").setLevel(logging.ERROR)
    from hqq.core.quantize import BaseQuantizeConfig, HQQLinear

    found = []
    for name, width in bits.items():
        config = BaseQuantizeConfig(nbits=width, group_size=group, axis=axis)
        layer = HQQLinear(_layer(state[name]), config, compute_dtype=torch.float16, device="cpu")
        parts = {"codes": layer.W_q.data, "scale": layer.meta["scale"], "zero": layer.meta["zero"]}
        found.append((name, parts, layer.dequantize()))
    return bundle(found, state)


def quanto(state: State, kinds: Mapping[str, str], optimizer: str | None = None) -> Stored:
    """`kinds`: name of a matrix -> quanto's type for it. Groups of 128 below 8 bits, else a scale a row."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from optimum import quanto as tool
    chosen = {"hqq": tool.HqqOptimizer}[optimizer]() if optimizer else None
    found = []
    for name, kind in kinds.items():
        layer = nn.Sequential(_layer(state[name]))
        tool.quantize(layer, weights=getattr(tool, kind), optimizer=chosen)
        tool.freeze(layer)
        found.append((name, _quanto_parts(layer[0].weight), layer[0].weight.dequantize()))
    return bundle(found, state)


def _layer(weight: torch.Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, dtype=torch.float16)
    layer.weight = nn.Parameter(weight.half(), requires_grad=False)
    return layer


def _torchao_parts(weight: Any) -> dict[str, torch.Tensor]:
    """Its tensors. It leaves each int4 code for any device in a byte of its own: here two share one. Symmetric codes
    have a zero point of 0, which isn't stored.
    """
    parts = {name: getattr(weight, name) for name in weight.tensor_data_names}
    if getattr(weight, "target_dtype", None) == torch.int4:
        parts["qdata"] = nibbles(parts["qdata"])
    if parts.get("zero_point") is not None and not parts["zero_point"].any():
        del parts["zero_point"]
    return parts


def _torchao_weight(layer: nn.Module) -> torch.Tensor:
    """The weight, by `dequantize` or, where codes are laid out for a kernel, as the layer's product with I."""
    if hasattr(layer.weight, "dequantize") and "Opaque" not in type(layer.weight).__name__:
        return layer.weight.dequantize()
    eye = torch.eye(layer.in_features, dtype=layer.weight.dtype)
    return layer(eye).T


def _quanto_parts(weight: Any) -> dict[str, torch.Tensor]:
    parts = {"scale": weight._scale}
    if hasattr(weight, "_shift"):
        return parts | {"shift": weight._shift, "codes": weight._data._data}
    return parts | {"codes": weight._data}
