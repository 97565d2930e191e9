"""PyTorch state dicts, read without running what is in them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from regrain.artifact.source import Lazy, Source, from_tensors
from regrain.core.dtypes import DTYPES, Bytes
from regrain.core.errors import UnsupportedModelError

if TYPE_CHECKING:
    import torch

WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys under which training scripts keep the state dict of a model."""


def from_state_dict_file(path: str | os.PathLike[str]) -> Source:
    """A file written by `torch.save`: a state dict, or a checkpoint that has one under a usual key.

    It is read with `weights_only=True`, so that no code in it can run, and mapped where its format allows it. Raises
    UnsupportedModelError if it holds anything but plain tensors that PyTorch will load that way.
    """
    label = os.fspath(path)
    loaded = _load(label)
    if not isinstance(loaded, Mapping):
        raise UnsupportedModelError(
            f"{label!r} must hold a state dict, not {type(loaded).__name__}: save model.state_dict()"
        )
    state, notes = _unwrap(loaded)
    return from_state_dict(state, label, notes)


def from_state_dict(state: Mapping[str, torch.Tensor], label: str, notes: tuple[str, ...] = ()) -> Source:
    """Tensors by name. Shared storage is stored once: the tensors come out equal, but separate."""
    return from_tensors(lazy_tensors(state), None, label, notes)


def lazy_tensors(state: Mapping[str, torch.Tensor]) -> dict[str, Lazy]:
    """Tensors for a Source. Raises UnsupportedModelError for one that is not dense or has no data."""
    return {name: _lazy(name, tensor) for name, tensor in state.items()}


def tensor_dtype(tensor: torch.Tensor) -> str:
    """The safetensors name of a tensor's type."""
    name = _NAMES.get(str(tensor.dtype).removeprefix("torch."))
    if name is None:
        raise UnsupportedModelError(f"dtype must be one that safetensors has, not {tensor.dtype}: cast it")
    return name


def torch_dtype(dtype: str) -> torch.dtype:
    """PyTorch's type of a safetensors name."""
    import torch

    name = "float4_e2m1fn_x2" if dtype == "F4" else DTYPES[dtype].numpy
    found: torch.dtype | None = getattr(torch, name, None) if name else None
    if found is None:
        raise UnsupportedModelError(
            f"dtype must be one that this PyTorch ({torch.__version__}) has, not {dtype}: upgrade it"
        )
    return found


def torch_shape(dtype: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """PyTorch's shape of a shape in elements: the packed 4-bit type has two to an item."""
    return (*shape[:-1], shape[-1] // 2) if dtype == "F4" and shape else shape


def tensor_bytes(tensor: torch.Tensor) -> Bytes:
    """The bytes of a tensor in C order: a view where it is contiguous and on the CPU."""
    import torch

    flat = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
    data: Bytes = flat.view(torch.uint8).numpy() if flat.numel() else torch.empty(0, dtype=torch.uint8).numpy()
    return data


def tensor_shape(tensor: torch.Tensor) -> tuple[int, ...]:
    """The shape in elements: two to a byte for the packed 4-bit type."""
    shape = tuple(tensor.shape)
    return (*shape[:-1], 2 * shape[-1]) if tensor_dtype(tensor) == "F4" else shape


_NAMES = {dtype.numpy: dtype.name for dtype in DTYPES.values()} | {"float4_e2m1fn_x2": "F4"}


def _lazy(name: str, tensor: torch.Tensor) -> Lazy:
    import torch

    if not isinstance(tensor, torch.Tensor):
        raise UnsupportedModelError(f"{name!r} must be a tensor, not {type(tensor).__name__}")
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta:
        raise UnsupportedModelError(
            f"{name!r} must be a dense tensor with data, not {tensor.layout} on {tensor.device}"
        )
    return Lazy(tensor_dtype(tensor), tensor_shape(tensor), lambda: tensor_bytes(tensor))


def _load(label: str) -> object:
    try:
        import torch
    except ImportError:
        raise UnsupportedModelError(f"reading {label!r} needs PyTorch: pip install 'regrain[torch]'") from None
    try:
        try:
            return torch.load(label, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # the format before PyTorch 1.6 cannot be mapped
            return torch.load(label, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # a broken pickle makes the unpickler fail in every way there is
        reason = str(error).strip().partition("\n")[0]
        raise UnsupportedModelError(
            f"{label!r} must load with weights_only=True, which PyTorch refuses: {reason}. Save model.state_dict() "
            "instead, or convert it to safetensors where you trust it"
        ) from None


def _unwrap(loaded: Mapping[object, object]) -> tuple[Mapping[str, torch.Tensor], tuple[str, ...]]:
    """The state dict proper, and what is left out."""
    import torch

    for key in WRAPPERS:
        inner = loaded.get(key)
        if isinstance(inner, Mapping) and inner and all(isinstance(v, torch.Tensor) for v in inner.values()):
            others = sorted(str(other) for other in loaded if other != key)
            return _named(inner), (f"left out beside {key!r}: {', '.join(others)}",) if others else ()
    return _named(loaded), ()


def _named(state: Mapping[object, object]) -> Mapping[str, torch.Tensor]:
    import torch

    named: dict[str, torch.Tensor] = {}
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            kind = type(value).__name__
            raise UnsupportedModelError(
                f"state dict must map names to tensors, not {key!r} to {kind}: save model.state_dict()"
            )
        named[key] = value
    if not named:
        raise UnsupportedModelError("state dict must hold at least one tensor")
    return named
