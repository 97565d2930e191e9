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

MOST = 512
"""Passages of a split that are inputs too: embeddings of more would say nothing new of fidelity."""


def inputs(split: str) -> Iterator[model.Batch]:
    """Passages of the split, evenly spread over the articles."""
    texts = [passage.text for passage in splits.passages(split)]
    return model.inputs(tuple(texts[:: -(-len(texts) // MOST)]))


def evaluate(encoder: torch.nn.Module, split: str) -> dict[str, regrain.Scores]:
    """The reciprocal rank of each passage's article."""
    return {"retrieval": metrics.retrieval(encoder, split)}
