"""Plain paragraphs of MediaWiki articles: enough of the markup is understood to leave prose."""

from __future__ import annotations

import bz2
import html
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

_NAMESPACE = "{http://www.mediawiki.org/xml/export-0.10/}"

# What holds no prose, brackets aside: comments, footnotes, formulas, galleries and the like, with their contents.
_DROPPED = re.compile(
    r"<!--.*?-->|<ref[^<>]*/>|<(ref|math|gallery|timeline|source|pre|nowiki|table|sub|sup)\b[^<>]*>.*?</\1\s*>",
    re.DOTALL | re.IGNORECASE,
)
_TEMPLATE = re.compile(r"\{\{[^{}]*\}\}|\{\|(?:(?!\{\|).)*?\|\}", re.DOTALL)  # {{...}} and tables, innermost first
_MEDIA = re.compile(r"\[\[(?:File|Image|Category):(?:[^\[\]]|\[\[[^\[\]]*\]\])*\]\]", re.IGNORECASE)
_LINK = re.compile(r"\[\[(?:[^\[\]|]*\|)?([^\[\]|]*)\]\]")  # [[target|words]] or [[words]]
_EXTERNAL = re.compile(r"\[\w+://\S+\s*([^\]]*)\]")
_TAG = re.compile(r"</?\w[^<>]*>|__[A-Z]+__|'{2,}|\(\s*[;,\s]*\)")
_OPENED = re.compile(r"\(\s*[;,][;,\s]*")  # "(; , Akhilleus": templates for pronunciation stood there
_NOT_PROSE = tuple("=*#:;|!{}[<")  # how lines of headings, lists, tables and leftovers begin
_END = re.compile(r"^=+\s*(?:see also|references|notes|footnotes|external links|further reading)", re.I | re.M)


def paragraphs(markup: str) -> list[str]:
    """The paragraphs of an article's markup, white space normalized, the references at its end left out."""
    text = _DROPPED.sub("", html.unescape(markup))
    text = _until_fixed(_TEMPLATE, text)
    text = _EXTERNAL.sub(r"\1", _LINK.sub(r"\1", _MEDIA.sub("", text)))
    if end := _END.search(text):
        text = text[: end.start()]
    lines = (" ".join(_OPENED.sub("(", _TAG.sub("", line)).split()) for line in text.splitlines())
    return [line for line in lines if line and not line.startswith(_NOT_PROSE)]


def articles(path: Path) -> Iterator[tuple[str, str]]:
    """Title and markup of every article of a dump, pages/revision XML in bzip2; redirects are left out."""
    with bz2.open(path) as file:
        for _, page in ElementTree.iterparse(file):  # noqa: S314 - a file of an installed package
            if page.tag == f"{_NAMESPACE}page":
                if page.find(f"{_NAMESPACE}redirect") is None:
                    yield _text(page, "title"), _text(page, f"revision/{_NAMESPACE}text")
                page.clear()


def _text(page: ElementTree.Element, path: str) -> str:
    return page.findtext(_NAMESPACE + path) or ""


def _until_fixed(pattern: re.Pattern[str], text: str) -> str:
    """`pattern` removed until nothing matches: each pass takes the innermost of what is nested."""
    while (less := pattern.sub("", text)) != text:
        text = less
    return text
