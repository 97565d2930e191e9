"""Statistics of a model's weights, and what the rule makes of them."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from dataclasses import replace

from regrain.artifact.layout import find_layout
from regrain.artifact.source import Source
from regrain.artifact.ties import Ties
from regrain.artifact.writer import Progress
from regrain.core.dtypes import DTYPES, word_dtype
from regrain.core.profile import ModelProfile, TensorProfile
from regrain.core.selection import SelectionRule
from regrain.models import open_any
from regrain.profiling import DEFAULT_BLOCK, profile_tensor

_FILE = 600
_TENSOR = 180
"""Bytes of an artifact's header for the file, and for a tensor besides its name, which stands there twice."""


def profile(
    model: str | os.PathLike[str],
    *,
    rule: SelectionRule | None = None,
    block: tuple[int, int] = DEFAULT_BLOCK,
    progress: Progress | None = None,
) -> ModelProfile:
    """Profile every tensor of a safetensors file, a sharded checkpoint, a model directory or a PyTorch state dict.

    `rule` judges each matrix (None: the default thresholds); `block` is rows x columns of the blocks whose zeros are
    counted. Tensors are mapped and read in pieces, so memory does not grow with the model. In a model of several files
    each stands alone: ties are found within a file.

    Raises OSError, UnsupportedModelError, CorruptArtifactError for a broken file, ValueError for an impossible block.
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
    return ModelProfile(tuple(tensors), block, rule or SelectionRule(), overhead)


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
