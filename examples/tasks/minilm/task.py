"""A sentence encoder that must go on to do what it is for: find articles by their passages, judge words as people do.

Inputs are a mixture of encyclopedia, news, reviews and single words.
"""

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
    """Texts of all kinds, from one word to 128 tokens."""
    return model.inputs(splits.mixture(split))


def evaluate(encoder: torch.nn.Module, split: str) -> dict[str, regrain.Scores]:
    """Both metrics, on examples that no other split has."""
    return {"retrieval": metrics.retrieval(encoder, split), "similarity": metrics.similarity(encoder, split)}
