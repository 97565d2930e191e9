"""What a peer leaves: a file, and the weights one reads from it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from subject import State


@dataclass(frozen=True, slots=True)
class Stored:
    """bytes: of the file. state: the dequantized weights. decode_seconds: of the processor,
    from the file's bytes to the weights, where timed."""

    bytes: int
    state: State
    decode_seconds: float | None = None


def as_safetensors(tensors: Mapping[str, torch.Tensor], state: State) -> Stored:
    """Quantized tensors in a safetensors file, and in float16 what of `state` they do not hold.

    A name of the file is that of a weight, with or without a suffix after a slash.
    """
    held = {name.partition("/")[0] for name in tensors}
    rest = {name: tensor.half() for name, tensor in state.items() if name not in held}
    whole = {name: tensor.contiguous().clone() for name, tensor in {**tensors, **rest}.items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_file(whole, path)
        return Stored(path.stat().st_size, {name: tensor.float() for name, tensor in rest.items()})


def bundle(quantized: Iterable[tuple[str, Mapping[str, torch.Tensor], torch.Tensor]], state: State) -> Stored:
    """A file of (name, its packed parts, its dequantized weight), and the rest of `state` in float16."""
    parts: dict[str, torch.Tensor] = {}
    weights: State = {}
    for name, packed, weight in quantized:
        parts |= {f"{name}/{part}": tensor for part, tensor in packed.items()}
        weights[name] = weight.detach().float()
    stored = as_safetensors(parts, state)
    return Stored(stored.bytes, stored.state | weights)


def nibbles(codes: torch.Tensor) -> torch.Tensor:
    """Codes of 4 bits (their low ones), two in a byte, as uint8."""
    low, high = codes.reshape(-1, 2).to(torch.uint8).unbind(1)
    return (low & 15) | (high << 4)
