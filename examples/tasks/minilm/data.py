"""Texts with and without human labels, from the test data of the package gensim, which is not imported."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from minilm import wikitext

PACKAGE = "gensim==4.4.0"
_WIKIPEDIA = "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"


@dataclass(frozen=True, slots=True)
class Article:
    """An encyclopedia's article in plain paragraphs, in their order."""

    title: str
    paragraphs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two words or expressions, and how similar people find them, 0 to 10."""

    first: str
    second: str
    similarity: float


@cache
def folder() -> Path:
    """Where the package's test data are. Raises FileNotFoundError where they are not installed."""
    spec = find_spec("gensim")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        found = Path(place) / "test" / "test_data"
        if (found / _WIKIPEDIA).is_file():
            return found
    raise FileNotFoundError(
        f"the texts of this task are in the package {PACKAGE!r}, which must be installed: "
        f"pip install --no-deps {PACKAGE} (nothing of it is imported)"
    )


def lee_documents() -> tuple[str, ...]:
    """50 short pieces of news (Lee, Pincombe and Welsh, 2005)."""
    return _lines("lee.cor", "latin-1")


def lee_similarities() -> np.ndarray:
    """How similar people find them: (50, 50), 0.2 to 1, filled above the diagonal."""
    return np.loadtxt(folder() / "similarities0-1.txt")


def news() -> tuple[str, ...]:
    """300 pieces of news, 200 words each on average; none is a Lee document."""
    return _lines("lee_background.cor", "ascii")


def reviews() -> tuple[str, ...]:
    """200 sentences about films (Pang and Lee, 2005)."""
    lines = _lines("pang_lee_polarity.cor", "latin-1")
    return tuple(text for line in lines if (text := line.partition(" ")[2].strip()))


def wordsim353() -> tuple[Pair, ...]:
    """353 pairs of words by relatedness (Finkelstein et al., 2002)."""
    return _pairs("wordsim353.tsv")


def simlex999() -> tuple[Pair, ...]:
    """999 pairs of words by similarity in the strict sense: coast and shore, not clothes and closet (Hill, 2015)."""
    return _pairs("simlex999.txt")


@cache
def wikipedia() -> tuple[Article, ...]:
    """The first articles of the English Wikipedia of 2016, redirects and pages without prose left out."""
    found = ((title, tuple(wikitext.paragraphs(markup))) for title, markup in wikitext.articles(folder() / _WIKIPEDIA))
    return tuple(Article(title, paragraphs) for title, paragraphs in found if paragraphs)


def _lines(name: str, encoding: str) -> tuple[str, ...]:
    lines = (folder() / name).read_text(encoding).splitlines()
    return tuple(line.strip() for line in lines if line.strip())


def _pairs(name: str) -> tuple[Pair, ...]:
    with (folder() / name).open(encoding="ascii", newline="") as file:
        rows = csv.reader((line for line in file if not line.startswith("#")), delimiter="\t")
        return tuple(Pair(first, second, float(score)) for first, second, score in rows)
