"""HTML that cannot be broken from inside: text becomes markup only by being escaped."""

from __future__ import annotations

import html
import json


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def escape(text: str) -> Markup:
    """Text as HTML, also inside a quoted attribute. Lone surrogates, which UTF-8 has no bytes for, become '?'."""
    return text if isinstance(text, Markup) else Markup(html.escape(text.encode("utf-8", "replace").decode()))


def tag(name: str, *children: str, **attributes: str) -> Markup:
    """An element. Names of attributes lose a trailing underscore, and others become hyphens.

    >>> tag("td", "<3", class_="number", data_label="R&D")
    '<td class="number" data-label="R&amp;D">&lt;3</td>'
    """
    written = "".join(f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items())
    return Markup(f"<{name}{written}>{join(*children)}</{name}>")


def join(*parts: str) -> Markup:
    """Parts one after the other; those that are no markup are escaped."""
    return Markup("".join(escape(part) for part in parts))


def section(name: str, title: str, *children: str) -> Markup:
    """A part of the page under a heading."""
    return tag("section", tag("h2", title, id=f"{name}-title"), *children, id=name, aria_labelledby=f"{name}-title")


def script_json(value: object) -> Markup:
    """JSON for inside a script element: no byte of it can end the element or begin a comment."""
    text = json.dumps(value, separators=(",", ":"), sort_keys=True, allow_nan=False)
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def pretty_json(value: object, width: int = 100, indent: str = "") -> str:
    """JSON to be read: what fits on one line stands on one line.

    >>> print(pretty_json({"steps": [1, 2], "why": "x" * 30}, width=40))
    {
      "steps": [1, 2],
      "why": "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
    }
    """
    flat = json.dumps(value)
    if len(indent) + len(flat) <= width or not isinstance(value, dict | list | tuple):
        return flat
    inner = indent + "  "
    if isinstance(value, dict):
        parts = [f"{json.dumps(key)}: {pretty_json(item, width, inner)}" for key, item in value.items()]
    else:
        parts = [pretty_json(item, width, inner) for item in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    lines = (",\n" + inner).join(parts)
    return f"{opening}\n{inner}{lines}\n{indent}{closing}"
