"""Which texts are for what: disjoint, the same in every run, and each split with a share of every kind of text."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import numpy as np
from minilm import data

SPLITS = ("calibration", "search", "held_out", "audit")
OPENING_WORDS, PASSAGE_WORDS = 64, 14
MIN_WORDS = 400  # of an article: shorter ones are lists of meanings, or give too few passages
# A turn deals 1 passage to calibration, 2 to search and 3 to held_out and audit each. With at most this many turns an
# article, long ones have no more than 20 times the weight of short ones.
TURN = ("held_out", "audit", "search", "held_out", "audit", "search", "held_out", "audit", "calibration")
TURNS = 14

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Passage:
    """Consecutive words of an article's text; `article` is its place in `openings()`."""

    article: int
    text: str


@dataclass(frozen=True, slots=True)
class Judged:
    """A pair of words; `rank` is the percentile of its similarity among those of its collection, 0 to 1."""

    pair: data.Pair
    rank: float


def split_or_raise(split: str) -> str:
    """`split`. Raises ValueError if there is none of that name."""
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, not {split!r}")
    return split


@cache
def openings() -> tuple[str, ...]:
    """The first words of each article, by which it is found; no passage has any of them."""
    return tuple(" ".join(words[:OPENING_WORDS]) for words in _articles())


@cache
def passages(split: str) -> tuple[Passage, ...]:
    """Passages of a split, ordered by article. The splits share the articles, never a word's occurrence."""
    random = np.random.default_rng(1)
    found = []
    for article, words in enumerate(_articles()):
        starts = range(OPENING_WORDS, len(words) - PASSAGE_WORDS + 1, PASSAGE_WORDS)
        chosen = random.permutation(starts)[: TURNS * len(TURN)]
        for turn, start in enumerate(chosen):
            if TURN[turn % len(TURN)] == split_or_raise(split):
                found.append(Passage(article, " ".join(words[start : start + PASSAGE_WORDS])))
    return tuple(found)


def judged_pairs(split: str) -> tuple[Judged, ...]:
    """Pairs of words with human judgments: 25 % are for search, 55 % held out, 20 % for audit, none for calibration.

    Most are held out, where bounds are strictest: the search asks for less confidence. A fifth shows little of its own:
    the environment variable MINILM_FOLD, 0 to 4, says which one is for audit, so that runs can take turns.
    """
    return _judged_pairs(split, int(os.environ.get("MINILM_FOLD", "0")))


@cache
def _judged_pairs(split: str, fold: int) -> tuple[Judged, ...]:
    unique: dict[frozenset[str], Judged] = {}
    for collection in (data.wordsim353(), data.simlex999()):
        values = np.array([pair.similarity for pair in collection])
        below, up_to = (np.searchsorted(np.sort(values), values, side) for side in ("left", "right"))
        for pair, rank in zip(collection, (below + up_to) / (2 * len(values)), strict=True):
            unique.setdefault(frozenset((pair.first, pair.second)), Judged(pair, float(rank)))
    return _share(list(unique.values()), split, (0, 5, 11, 4), turn=fold / 5)


@cache
def news(split: str) -> tuple[str, ...]:
    """Pieces of news, 200 words each."""
    return _share(_unique(data.news()), split, (1, 1, 2, 2))


@cache
def reviews(split: str) -> tuple[str, ...]:
    """Sentences of reviews."""
    return _share(_unique(data.reviews()), split, (1, 1, 2, 2))


@cache
def words(split: str) -> tuple[str, ...]:
    """Single words of the texts, none of which is in a pair with a human judgment."""
    return _share(_vocabulary(), split, (1, 1, 2, 2))


@cache
def mixture(split: str) -> tuple[str, ...]:
    """All kinds of text together: 256 for calibration, 512 for search, 1,024 each for held_out and audit."""
    scale = {"calibration": 1, "search": 2, "held_out": 4, "audit": 4}[split_or_raise(split)]
    found = passages(split)
    spread = np.linspace(0, len(found) - 1, 120 * scale).round().astype(int)  # over all articles
    rest = (*news(split)[: 24 * scale], *reviews(split)[: 16 * scale], *(found[index].text for index in spread))
    return rest + words(split)[: 256 * scale - len(rest)]


@cache
def _vocabulary() -> tuple[str, ...]:
    """Words of four letters or more that occur at least three times, in alphabetical order."""
    judged = {word.lower() for pair in data.wordsim353() + data.simlex999() for word in (pair.first, pair.second)}
    running = " ".join((*data.news(), *data.reviews(), *openings())).lower()
    counts = Counter(re.findall(r"\b[a-z]{4,}\b", running))
    return tuple(sorted(word for word, count in counts.items() if count >= 3 and word not in judged))


@cache
def _articles() -> tuple[tuple[str, ...], ...]:
    """The words of each article that is long enough."""
    found = (tuple(" ".join(article.paragraphs).split()) for article in data.wikipedia())
    return tuple(words for words in found if len(words) >= MIN_WORDS)


def _unique(texts: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def _share(items: Sequence[T], split: str, weights: tuple[int, int, int, int], turn: float = 0.0) -> tuple[T, ...]:
    """A split's share of shuffled items, by the splits' weights; the last `turn` of them, 0 to 1, come first."""
    shuffled = [items[index] for index in np.random.default_rng(2).permutation(len(items))]
    first = len(items) - round(turn * len(items))
    shuffled = shuffled[first:] + shuffled[:first]
    ends = np.cumsum((0, *weights)) * len(items) // sum(weights)
    number = SPLITS.index(split_or_raise(split))
    return tuple(shuffled[ends[number] : ends[number + 1]])
