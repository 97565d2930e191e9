"""A page taken apart by the parser of the standard library."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest

from .receipts import receipt

VOID = {"meta", "link", "input", "wbr"}


class Parsed(HTMLParser):
    """What a browser would see: elements with attributes, the text of each script and style, and visible text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.sources: dict[str, list[str]] = {"script": [], "style": []}
        self.text = ""
        self.within: dict[str, str] = {}
        self.open: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == [], "every element must be closed"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag in self.sources:
            self.sources[tag].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in self.sources:
            self.sources[self.open[-1]][-1] += data
        elif self.tags:
            self.text += data
            name, attributes = self.tags[-1]
            first = (attributes.get("class") or "").split(" ")[0]
            self.within.setdefault(f"{name}.{first}" if first else name, " ".join(data.split()))

    @property
    def data(self):
        """The JSON that the page's script reads."""
        return json.loads(self.sources["script"][0])

    @property
    def title(self) -> str:
        return self.within["title"]

    @property
    def heading(self) -> str:
        """The verdict's sentence."""
        return self.within["h1"]

    @property
    def status(self) -> str:
        """The word or two above the sentence."""
        return self.within["span.status"]

    @property
    def plain(self) -> str:
        """The visible text with single blanks."""
        return " ".join(self.text.split())


@pytest.fixture(scope="session")
def parse():
    return Parsed


@pytest.fixture
def minilm():
    """A receipt with every part."""
    return receipt()
