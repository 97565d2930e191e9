"""Retrieval alone: does a passage of 14 words find its article among 87?"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the package `minilm`: this folder

import torch
from minilm import metrics, model, splits

import regrain

OUTPUT = "embeddings"
load_model, output = model.load, model.embed


def inputs(split: str) -> Iterator[model.Batch]:
    """The split's passages."""
    return model.inputs(tuple(passage.text for passage in splits.passages(split)))


def evaluate(encoder: torch.nn.Module, split: str) -> dict[str, regrain.Scores]:
    """The reciprocal rank of each passage's article."""
    return {"retrieval": metrics.retrieval(encoder, split)}
