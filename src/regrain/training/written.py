"""A trained model as an artifact, with nothing lost on the way."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from regrain import __version__
from regrain.artifact.output import output_file
from regrain.artifact.packed import write_packed
from regrain.artifact.source import Source, from_tensors
from regrain.artifact.threads import resolve_threads
from regrain.core.errors import TrainingError
from regrain.models import open_any
from regrain.models.statedict import lazy_tensors, tensor_bytes, tensor_dtype
from regrain.training.forms import Form, restored

METADATA = {"format": "pt"}
"""What transformers wants to find in a file of weights."""


def write(
    model: nn.Module,
    forms: Mapping[str, Form],
    same: Mapping[str, str],
    path: Path,
    receipt: Mapping[str, object],
    original: str | os.PathLike[str] | None,
    force: bool,
    threads: int | None,
) -> None:
    """Write the model's state; `same` names what tied weights are stored as. See `AccuracyMonitor.compress`."""
    state: dict[str, Tensor] = model.state_dict()
    _check(state, forms)
    source = from_tensors(lazy_tensors(state), METADATA, "model") if original is None else open_any(original)
    if original is not None:
        _fit(source, state)

    def choose(name: str) -> Form | None:
        return forms.get(same.get(name, name))

    def replaced(name: str) -> NDArray[np.uint8] | None:
        """Bytes in the words of the tensor's type; a model's own tensors need none."""
        if original is None or name not in state:
            return None
        entry = source.header.entries[name]
        data = tensor_bytes(state[name])
        return data.view(f"u{max(1, data.size // max(1, state[name].numel()))}").reshape(entry.shape)

    with output_file(path, force=force) as sink:
        write_packed(
            source,
            sink,
            choose,
            version=__version__,
            receipt=receipt,
            threads=resolve_threads(threads),
            replaced=replaced,
        )


def _check(state: Mapping[str, Tensor], forms: Mapping[str, Form]) -> None:
    """Raise TrainingError where a weight isn't what its form stands for."""
    for name, form in forms.items():
        if not np.array_equal(restored(form, tensor_dtype(state[name])), tensor_bytes(state[name])):
            raise TrainingError(
                f"{name!r} must be as finish left it, and has changed since: compress before training on"
            )


def _fit(source: Source, state: Mapping[str, Tensor]) -> None:
    """Raise TrainingError unless every tensor that both have has one type and shape."""
    for name, entry in source.header.entries.items():
        if name in state:
            mine = (tensor_dtype(state[name]), tuple(state[name].shape))
            if mine != (entry.dtype, entry.shape):
                raise TrainingError(f"{name!r} must be {entry.dtype} of {entry.shape} as in the original, not {mine}")
    lacking = sorted(state.keys() - source.header.entries.keys())
    if lacking:
        raise TrainingError(f"original must have all tensors of the model, and lacks {lacking[0]!r}: leave it out")
