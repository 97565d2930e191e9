"""Streams of text from five domains, all in the test data and the source of one package, cut into windows of tokens."""

from __future__ import annotations

import bz2
import re
import sys
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "tasks"))

import numpy as np
from minilm import data

DOMAINS = ("articles", "news", "reviews", "code", "bulgarian")
SPLITS = ("calibration", "stream")


@cache
def documents(domain: str) -> tuple[str, ...]:
    """All texts of a domain, shuffled once."""
    found = {"articles": _articles, "news": data.news, "reviews": data.reviews, "code": _code, "bulgarian": _bulgarian}
    texts = list(dict.fromkeys(found[domain]()))
    return tuple(texts[index] for index in np.random.default_rng(3).permutation(len(texts)))


def split(domain: str, part: str) -> tuple[str, ...]:
    """A third of the documents for calibration, the others for the stream: no document is in both."""
    texts = documents(domain)
    return texts[: len(texts) // 3] if part == SPLITS[0] else texts[len(texts) // 3 :]


def _articles() -> tuple[str, ...]:
    return tuple(paragraph for article in data.wikipedia() for paragraph in article.paragraphs)


def _code() -> tuple[str, ...]:
    """Functions and classes of the package's own modules."""
    sources = sorted(data.folder().parents[1].glob("models/*.py"))
    parts = (part for source in sources for part in re.split(r"\n(?=\s*(?:def|class) )", source.read_text()))
    return tuple(part.strip() for part in parts if len(part) > 200)


def _bulgarian() -> tuple[str, ...]:
    """Sentences of articles in another language and script; markup goes, as far as two expressions can tell."""
    with bz2.open(data.folder() / "bgwiki-latest-pages-articles-shortened.xml.bz2", "rt", encoding="utf-16") as file:
        text = re.sub(r"<[^>]*>|\{\{[^}]*\}\}|\[\[[^]|]*\||[\[\]'=|*{}]+", " ", file.read())
    lines = (re.sub(r"\s+", " ", line).strip() for line in text.splitlines())
    return tuple(line for line in lines if len(line) > 200)
