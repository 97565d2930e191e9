"""What the encoder is for, scored example by example."""

from __future__ import annotations

import numpy as np
import torch
from minilm import data, splits
from minilm.model import embed_all

import regrain
from regrain.accuracy import spearman


def retrieval(model: torch.nn.Module, split: str) -> regrain.Scores:
    """Does a passage find its article? The reciprocal of its article's rank among all, by the openings' cosines.

    A second place counts 1/2, a third 1/3: chance moves the mean less than it moves the share of first places, so
    fewer passages show the same drop.
    """
    passages = splits.passages(split)
    articles = np.array([passage.article for passage in passages])
    cosines = embed_all(model, tuple(passage.text for passage in passages)) @ embed_all(model, splits.openings()).T
    own = cosines[torch.arange(len(passages)), torch.from_numpy(articles)]
    ranks = 1 + (cosines > own[:, None]).sum(dim=1)
    return regrain.Scores(1.0 / ranks.numpy(), clusters=articles)


def similarity(model: torch.nn.Module, split: str) -> regrain.Scores:
    """Spearman's correlation of the cosines of two words with human judgments, these as percentiles of their
    collection; examples that share a word are not independent.
    """
    judged = splits.judged_pairs(split)
    vocabulary = tuple(sorted({word for one in judged for word in (one.pair.first, one.pair.second)}))
    number = {word: index for index, word in enumerate(vocabulary)}
    pairs = np.array([(number[one.pair.first], number[one.pair.second]) for one in judged])
    return _correlation(embed_all(model, vocabulary), pairs, np.array([one.rank for one in judged]))


def documents(model: torch.nn.Module) -> regrain.Scores:
    """Spearman's correlation with human judgments of the 1,225 pairs of the 50 Lee documents."""
    pairs = np.stack(np.triu_indices(len(data.lee_documents()), 1), axis=1)
    return _correlation(embed_all(model, data.lee_documents()), pairs, data.lee_similarities()[tuple(pairs.T)])


def _correlation(embeddings: torch.Tensor, pairs: np.ndarray, human: np.ndarray) -> regrain.Scores:
    first, second = (embeddings[torch.from_numpy(column)].double() for column in pairs.T)
    cosines = (first * second).sum(dim=1).numpy()
    return regrain.Scores(np.stack((cosines, human), axis=1), aggregate=spearman, clusters=pairs)
