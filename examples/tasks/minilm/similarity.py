"""Word similarity alone, as people judge it. Its pairs hardly resolve 1 %: see the README."""

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
    """Single words; none of them is in a pair that is evaluated."""
    return model.inputs(splits.words(split))


def evaluate(encoder: torch.nn.Module, split: str) -> dict[str, regrain.Scores]:
    """Spearman's correlation with human judgments; audit also has that of the Lee documents, 1,225 pairs of 50."""
    found = {"similarity": metrics.similarity(encoder, split)}
    return found | {"lee": metrics.documents(encoder)} if split == "audit" else found
