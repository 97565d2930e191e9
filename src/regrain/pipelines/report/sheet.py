"""A self-contained page without scripts: headings, tables, and pictures as SVG."""

from __future__ import annotations

from regrain.pipelines.report.markup import Markup, escape, join, tag

WIDTH = 900
"""Units across a picture."""

_STYLE = """
:root { color-scheme: light dark; --ink: light-dark(#17191e, #eceef2); --soft: light-dark(#555b67, #a7adba);
  --line: light-dark(#dcdad4, #343840); --page: light-dark(#ffffff, #1c1e22); --mark: light-dark(#0b6a63, #6fd6c9);
  --bad: light-dark(#a82012, #ff9d8f); font: 15px/1.5 system-ui, sans-serif; font-variant-numeric: tabular-nums; }
body { margin: 0 auto; max-width: 1000px; padding: 16px; background: var(--page); color: var(--ink); }
svg { width: 100%; height: auto; display: block; } svg text { font-size: 11px; fill: var(--soft); }
.line { fill: none; stroke: var(--mark); stroke-width: 2; }
.other { fill: none; stroke: var(--soft); stroke-width: 1.5; }
.limit { stroke: var(--bad); stroke-dasharray: 5 4; } circle { fill: var(--mark); }
circle.below { fill: var(--bad); } .on { fill: var(--ink); }
.event { stroke: var(--bad); stroke-dasharray: 3 4; } .cell { fill: var(--mark); } .less { fill: var(--bad); }
table { border-collapse: collapse; } td, th { text-align: left; padding: 2px 12px 2px 0; vertical-align: top; }
td { border-top: 1px solid var(--line); } div { overflow-x: auto; }
"""


def sheet(title: str, *body: Markup) -> str:
    """The page."""
    head = Markup(
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{_STYLE}</style>"
    )
    whole = join(tag("h1", title), *body)
    return f'<!DOCTYPE html><html lang="en"><head>{head}</head><body>{whole}</body></html>\n'


def svg(height: float, label: str, *parts: Markup) -> Markup:
    """A picture of WIDTH units across; `label` is read out in its place."""
    return tag("svg", *parts, viewBox=f"0 0 {WIDTH} {height:.0f}", role="img", aria_label=label)


def text(x: float, y: float, words: str, **attributes: str) -> Markup:
    """Words in a picture."""
    return tag("text", escape(words), x=f"{x:.1f}", y=f"{y:.1f}", **attributes)


def cell(
    x: float, y: float, width: float, height: float, share: float, title: str | None = None, *, less: bool = False
) -> Markup:
    """A box that is the darker the larger `share`, 0 to 1, is; `less` takes the other color."""
    return tag(
        "rect",
        *(() if title is None else (tag("title", title),)),
        x=f"{x:.5g}",
        y=f"{y:.5g}",
        width=f"{max(width, 0.5):.4g}",
        height=f"{height:.3g}",
        fill_opacity=f"{0.06 + 0.8 * min(max(share, 0.0), 1.0):.2g}",
        class_="less" if less else "cell",
    )
