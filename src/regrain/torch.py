"""safetensors.torch's functions, for artifacts and plain files alike: change one import.

Tensors are decoded into memory that they own, without a copy. What `save_file` writes is an artifact: smaller, and
read back bit for bit by `load_file`. Of a lossy artifact come dense weights in the original's type. Any checksum that
fails raises regrain.CorruptArtifactError.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from regrain import __version__
from regrain.artifact.container import Container
from regrain.artifact.handle import Handle, Slice, check_names, open_all, read_all
from regrain.artifact.output import OutputBytes, output_file
from regrain.artifact.reader import WeightFile, open_container
from regrain.artifact.source import from_tensors
from regrain.artifact.threads import resolve_threads
from regrain.artifact.writer import write_artifact
from regrain.core.dtypes import DTYPES, Bytes
from regrain.models.statedict import lazy_tensors, torch_dtype, torch_shape

__all__ = ["Slice", "load", "load_file", "load_model", "safe_open", "save", "save_file", "save_model"]

Device = str | int | torch.device


def load_file(
    filename: str | os.PathLike[str],
    device: Device = "cpu",
    *,
    threads: int | None = None,
    out: Mapping[str, torch.Tensor] | None = None,
) -> dict[str, torch.Tensor]:
    """Every tensor of a file; of an index JSON or a directory, those of all its shards.

    `out` maps each name to a contiguous CPU tensor of the same dtype and shape that is filled instead of a fresh one;
    after an error its content is undefined. `threads` None means every processor.
    """
    files = open_all(filename)
    count = resolve_threads(threads)
    if out is None:
        return {name: tensor for file in files for name, tensor in _fresh(file, device, count).items()}
    check_names(files, out, filename)
    for file in files:
        file.read([(name, _target(name, out[name], *entry[:2])) for name, entry in file.tensors.items()], count)
    return dict(out)


def load(data: bytes, *, threads: int | None = None) -> dict[str, torch.Tensor]:
    """Every tensor of a file's bytes."""
    return _fresh(open_container(Container(np.frombuffer(data, np.uint8), "bytes")), "cpu", resolve_threads(threads))


def save_file(
    tensors: Mapping[str, torch.Tensor],
    filename: str | os.PathLike[str],
    metadata: Mapping[str, str] | None = None,
    *,
    threads: int | None = None,
) -> None:
    """Write tensors as an artifact. A file that is there is replaced, at the end and at once.

    Unlike safetensors it takes tensors that share memory or are not contiguous; equal ones are stored once.
    """
    source = from_tensors(lazy_tensors(tensors), metadata, "tensors")
    with output_file(Path(filename), force=True) as sink:
        write_artifact(source, sink, version=__version__, threads=resolve_threads(threads))


def save(
    tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None, *, threads: int | None = None
) -> bytes:
    """The bytes of the artifact that `save_file` writes."""
    sink = OutputBytes()
    source = from_tensors(lazy_tensors(tensors), metadata, "tensors")
    write_artifact(source, sink, version=__version__, threads=resolve_threads(threads))
    return sink.getvalue()


def save_model(
    model: torch.nn.Module,
    filename: str | os.PathLike[str],
    metadata: Mapping[str, str] | None = None,
    force_contiguous: bool = True,  # noqa: ARG001 - safetensors has it
) -> None:
    """Write a module's state dict as an artifact, tied parameters once. `force_contiguous` changes nothing."""
    save_file(model.state_dict(), filename, metadata)


def load_model(
    model: torch.nn.Module,
    filename: str | os.PathLike[str],
    strict: bool = True,
    device: Device = "cpu",
    *,
    threads: int | None = None,
) -> tuple[list[str], list[str]]:
    """Load a file into a module and give the names (missing, unexpected).

    A parameter that shares memory with one that was loaded is not missing. Raises RuntimeError if `strict` and there
    are any.
    """
    result = model.load_state_dict(load_file(filename, device, threads=threads), strict=False)
    state, lost = model.state_dict(), set(result.missing_keys)
    loaded = {tensor.data_ptr() for name, tensor in state.items() if name not in lost and tensor.numel()}
    missing = [name for name in result.missing_keys if state[name].data_ptr() not in loaded]
    unexpected = list(result.unexpected_keys)
    if strict and (missing or unexpected):
        raise RuntimeError(f"{filename} must have the tensors of {type(model).__name__}; {missing=}, {unexpected=}")
    return missing, unexpected


class safe_open(Handle[torch.Tensor]):  # noqa: N801 - safetensors' name
    """A model, opened lazily: `with safe_open("x.regrain.safetensors") as f: f.get_slice("w")[10:20]`."""

    def __init__(
        self,
        filename: str | os.PathLike[str],
        framework: str = "pt",
        device: Device = "cpu",
        *,
        threads: int | None = None,
    ) -> None:
        if framework not in ("pt", "torch", "pytorch"):
            raise ValueError(f"framework must be 'pt', not {framework!r}: regrain.numpy.safe_open gives NumPy's arrays")
        super().__init__(open_all(filename), threads)
        self._device = device

    def _wrap(self, data: Bytes, dtype: str, shape: tuple[int, ...]) -> torch.Tensor:
        return _on(_tensor(data, _kind(dtype), torch_shape(dtype, shape)), self._device)

    def _pick(self, array: torch.Tensor, rest: tuple[slice | int, ...]) -> torch.Tensor:
        return array[rest].clone(memory_format=torch.contiguous_format)


def _fresh(file: WeightFile, device: Device, threads: int) -> dict[str, torch.Tensor]:
    kinds = {name: (_kind(dtype), torch_shape(dtype, shape)) for name, (dtype, shape, _, _) in file.tensors.items()}
    return {name: _on(_tensor(data, *kinds[name]), device) for name, data in read_all(file, threads).items()}


@cache
def _kind(dtype: str) -> tuple[torch.dtype, np.dtype[Any]]:
    """PyTorch's type, and the NumPy type whose arrays become tensors of it, or of integers as wide."""
    wanted = torch_dtype(dtype)
    try:
        same = torch.empty(0, dtype=wanted).numpy().dtype
    except TypeError:  # NumPy has none
        return wanted, np.dtype(f"i{DTYPES[dtype].itemsize}")
    return wanted, same


def _tensor(data: Bytes, kind: tuple[torch.dtype, np.dtype[Any]], shape: tuple[int, ...]) -> torch.Tensor:
    """A tensor over those bytes; it keeps them alive."""
    wanted, carrier = kind
    if data.size == 0:
        return torch.empty(shape, dtype=wanted)
    tensor = torch.from_numpy(np.ndarray(shape, carrier, data))
    return tensor if tensor.dtype == wanted else tensor.view(wanted)


def _on(tensor: torch.Tensor, device: Device) -> torch.Tensor:
    return tensor if device == "cpu" else tensor.to(device)


def _target(name: str, tensor: torch.Tensor, dtype: str, shape: tuple[int, ...]) -> Bytes:
    wanted, size = torch_dtype(dtype), torch_shape(dtype, shape)
    if tensor.dtype != wanted or tuple(tensor.shape) != size:
        raise ValueError(f"out[{name!r}] must be {wanted} of shape {size}, not {tensor.dtype} of {tuple(tensor.shape)}")
    if not tensor.is_contiguous() or tensor.device.type != "cpu":
        raise ValueError(f"out[{name!r}] must be contiguous and on the CPU")
    if tensor.numel() == 0:
        return np.empty(0, np.uint8)
    data: Bytes = tensor.detach().view(-1).view(torch.uint8).numpy()
    return data
