"""Statistics of a model's weights, and what the rule makes of them."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from regrain.artifact.layout import find_layout
from regrain.artifact.source import Source
from regrain.artifact.ties import Ties
from regrain.artifact.writer import Progress
from regrain.core.activity import Activity
from regrain.core.dtypes import DTYPES, word_dtype
from regrain.core.profile import ModelProfile, TensorProfile
from regrain.core.selection import SelectionRule
from regrain.models import open_any
from regrain.profiling import DEFAULT_BLOCK, profile_tensor

if TYPE_CHECKING:
    from regrain.models.task import Task
    from regrain.pipelines.options import Listener
    from regrain.planning.layer import Layer
    from regrain.profiling.activations import Inputs

_FILE = 600
_TENSOR = 180
"""Bytes of an artifact's header for the file, and for a tensor besides its name, which stands there twice."""


def profile(
    model: str | os.PathLike[str],
    *,
    rule: SelectionRule | None = None,
    block: tuple[int, int] = DEFAULT_BLOCK,
    progress: Progress | None = None,
    task: Task | str | os.PathLike[str] | None = None,
    seed: int = 0,
    work: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    listener: Listener | None = None,
) -> ModelProfile:
    """Profile every tensor of a safetensors file, a sharded checkpoint, a model directory or a PyTorch state dict.

    `rule` judges each matrix (None: the default thresholds); `block` is rows x columns of the blocks whose zeros are
    counted. Tensors are mapped and read in pieces, so memory does not grow with the model. In a model of several files
    each stands alone: ties are found within a file.

    With `task`, what flows into each layer and how sensitive the output is to its weights are measured on calibration
    data, and kept in `work` (beside the model by default) for `regrain.plan` and `regrain.compress`; `seed`, `threads`
    and `listener` are as there.

    Raises OSError, UnsupportedModelError, CorruptArtifactError for a broken file, ValueError for an impossible block,
    TaskError for a task that can't be used.
    """
    if min(block) < 1:
        raise ValueError(f"block must be at least 1x1 weights, not {block[0]}x{block[1]}")
    sources = [open_any(path) for path in find_layout(model).paths()]
    total = sum(entry.nbytes for source in sources for entry in source.header.entries.values())
    tensors: list[TensorProfile] = []
    done = 0
    for source in sources:
        for found in _profiles(source, block):
            tensors.append(found)
            done += found.bytes
            if progress is not None:
                progress(done, total)
    overhead = sum(_overhead(source) for source in sources)
    made = ModelProfile(tuple(tensors), block, rule or SelectionRule(), overhead)
    return made if task is None else replace(made, activity=_activity(model, task, seed, work, threads, listener))


def _activity(
    model: str | os.PathLike[str],
    task: Task | str | os.PathLike[str],
    seed: int,
    work: str | os.PathLike[str] | None,
    threads: int | None,
    listener: Listener | None,
) -> dict[str, Activity]:
    from regrain.pipelines.options import Listener, options_of
    from regrain.pipelines.session import prepare

    options = options_of(seed=seed, work=work, threads=threads)
    evidence = prepare(model, task, options, listener or Listener()).evidence
    return {name: _of(layer, evidence.inputs.get(name)) for name, layer in evidence.layers.items()}


def _of(layer: Layer, met: Inputs | None) -> Activity:
    if met is None:
        return Activity(layer.factors.trace)
    trace, rank = None, None
    if met.hessian is not None:
        trace = float(met.hessian.trace(dtype=float))
        squares = float((met.hessian.astype(float) ** 2).sum())
        rank = trace * trace / squares if squares else None
    mean, variance, least, most = (tuple(values.tolist()) for values in (met.mean, met.variance, met.least, met.most))
    return Activity(layer.factors.trace, met.count, mean, variance, least, most, trace, rank)


def _profiles(source: Source, block: tuple[int, int]) -> Iterator[TensorProfile]:
    ties = Ties(source.read)
    found: dict[str, TensorProfile] = {}
    for name, entry in source.header.entries.items():
        data = source.read(name)
        other = ties.find(name, entry, data)
        if other is None:
            words = data.view(word_dtype(DTYPES[entry.dtype]))
            found[name] = profile_tensor(name, entry.dtype, entry.shape, words, block)
        else:
            found[name] = replace(found[other], name=name, predicted_bytes=0, tied_to=other)
        source.done(name)
        yield found[name]


def _overhead(source: Source) -> int:
    """Predicted bytes of the artifact's own header and of the original one, which it keeps compressed."""
    names = sum(len(name.encode("utf-8")) for name in source.header.entries)
    return _FILE + _TENSOR * len(source.header.entries) + 2 * names + len(zlib.compress(source.header.text, 9))
