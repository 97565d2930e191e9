"""The report in a real browser: what is clicked, typed and pressed does what it should.

`make browser` runs this file. Its name keeps it out of `make test`, which needs no browser.
"""

from __future__ import annotations

import json

import pytest

from ..report.receipts import receipt
from .conftest import ATTACK

PAGES = ["minilm", "single", "pruned", "many", "hostile", "lossless", "bare"]

NAMES = "[...document.querySelectorAll('#layers-table tr.layer th button')].map((node) => node.textContent)"
BYTES = "JSON.parse(document.getElementById('data').textContent).layers.bytes"
SIZES = f"[...document.querySelectorAll('#layers-table tr.layer')].map((row) => {BYTES}[row.dataset.index])"
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
STATUS = "document.getElementById('layers-status').textContent"
TIP = "document.getElementById('tip').hidden ? '' : document.getElementById('tip').innerText"
FOCUSED = "document.activeElement.id || document.activeElement.textContent"

# Elements whose own text has less than 4.5:1 contrast (WCAG 2, AA) with the nearest opaque background behind it.
FAINT = """(() => {
  const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = color;
    context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data];
  };
  const luminance = (color) => {
    const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = rgba(color).map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    if (node.matches("#treemap .cell text")) return getComputedStyle(node.previousElementSibling).fill;
    if (node.matches("#treemap .group-name")) return getComputedStyle(node.previousElementSibling).fill;
    for (let up = node; up; up = up.parentElement) {
      const color = getComputedStyle(up).backgroundColor;
      if (rgba(color)[3] === 255) return color;
    }
    return "white";
  };
  const own = (node) => [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
  const nodes = [...document.querySelectorAll("body *:not(script)")];
  return nodes.filter((node) => own(node) && node.checkVisibility()).flatMap((node) => {
    const style = getComputedStyle(node);
    const [one, other] = [node instanceof SVGElement ? style.fill : style.color, behind(node)].map(luminance);
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    return contrast < 4.5 ? [`${contrast.toFixed(2)} ${node.tagName} ${node.textContent.slice(0, 40)}`] : [];
  });
})()"""


def background(page) -> str:
    return page.run("getComputedStyle(document.body).backgroundColor")


@pytest.mark.parametrize("width", [360, 1280, 1920])
@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_wider_than_the_window(page, files, name, width):
    page.resize(width)
    page.open(files[name])
    assert page.run(OVERFLOW) <= 0
    page.run("document.querySelectorAll('#layers-table tbody tr:first-child button').forEach((node) => node.click())")
    page.run("document.querySelectorAll('details').forEach((node) => { node.open = true; })")
    page.settle()
    assert page.run(OVERFLOW) <= 0
    outside = "[...document.querySelectorAll('section *')].filter((node) => !node.closest('.scroll, svg') && "
    outside += "node.getBoundingClientRect().right > innerWidth).map((node) => node.outerHTML.slice(0, 80))"
    assert page.run(outside) == []


@pytest.mark.parametrize("name", PAGES)
def test_nothing_moves_after_the_first_paint(page, files, name):
    page.open(files[name])
    shifts = page.run(
        """new Promise((done) => {
          new PerformanceObserver((list) => done(list.getEntries().map((entry) => entry.value)))
            .observe({ type: "layout-shift", buffered: true });
          setTimeout(() => done([]), 300);
        })"""
    )
    assert shifts == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["minilm", "single", "lossless"])
def test_contrast(page, files, name, scheme):
    page.prefer(scheme)
    page.open(files[name])
    page.click("#layers-table tbody button")
    assert page.run(FAINT) == []


def test_theme_follows_the_system_until_it_is_switched(page, files):
    page.open(files["minilm"])
    light = background(page)
    page.prefer("dark")
    dark = background(page)
    assert light != dark
    assert page.run("document.getElementById('theme').textContent") == "Light theme"
    page.click("#theme")
    assert background(page) == light
    assert page.run("document.getElementById('theme').textContent") == "Dark theme"
    page.click("#theme")
    assert background(page) == dark


def test_largest_layers_come_first_and_a_click_turns_them_around(page, files):
    page.open(files["minilm"])
    first = page.run(SIZES)
    assert first == sorted(first, reverse=True)
    assert len(first) == 25
    page.click("[data-by=bytes] button")
    smallest = page.run(SIZES)
    assert smallest == sorted(smallest)
    assert smallest[0] < first[-1]
    assert page.run("document.querySelector('[data-by=bytes]').ariaSort") == "ascending"


def test_sort_by_name(page, files):
    page.open(files["minilm"])
    page.click("[data-by=name] button")
    assert page.run(NAMES) == sorted(str(layer["name"]) for layer in receipt()["layers"])[:25]


def test_search(page, files):
    page.open(files["minilm"])
    page.click("#layers-search")
    page.type("LAYER.3 query.w")
    assert page.run(NAMES) == ["encoder.layer.3.attention.self.query.weight"]
    assert page.run(STATUS).startswith("1 of 104 tensors, 0.")
    page.type(" nowhere")
    assert page.run(NAMES) == []
    assert page.run(STATUS) == "0 of 104 tensors, 0.000 MB"


def test_more_rows(page, files):
    page.open(files["many"])
    assert page.run("document.getElementById('layers-more').textContent") == "Show 500 more"
    page.click("#layers-more")
    assert len(page.run(NAMES)) == 525
    page.click("#layers-search")
    page.type("layers.39.")
    assert page.run(STATUS).startswith("50 of 2,000 tensors")
    assert len(page.run(NAMES)) == 25


def test_details_of_a_layer(page, files):
    page.open(files["minilm"])
    button = "#layers-table tr[data-index='1'] button"
    page.click(button)
    text = page.run("document.querySelector('tr.details').innerText")
    assert "balances damage against bytes" in text
    assert "entropy of int8 indices, bits\n7.3" in text
    assert "30522\N{MULTIPLICATION SIGN}384" in text
    assert page.run("document.querySelectorAll('tr.details .histogram rect').length") == 32
    assert page.run(f"document.querySelector({json.dumps(button)}).ariaExpanded") == "true"
    page.click("[data-by=bytes] button")
    page.click("[data-by=bytes] button")
    assert page.run("document.querySelectorAll('tr.details').length") == 1, "details must survive sorting"
    page.click(button)
    assert page.run("document.querySelector('tr.details')") is None


def test_details_stay_in_the_table_when_the_window_shrinks(page, files):
    page.open(files["minilm"])
    page.click("#layers-table tbody button")
    page.resize(360)
    table, cell = page.run("['#layers-table', 'tr.details td'].map((name) => document.querySelector(name).clientWidth)")
    assert abs(table - cell) <= 1
    assert page.run("document.querySelector('tr.details td').colSpan") == 4


def test_chart_shows_values_and_changes_with_its_controls(page, files):
    page.open(files["minilm"])
    page.hover(".dot.written .halo")
    assert page.run(TIP).startswith(
        "The artifact, on held-out data\n3.12 bits per weight, 8.86 MB\nD = 1 \N{MINUS SIGN} cosine 0.00399"
    )
    assert page.run("document.querySelector('.budget-text').textContent") == "budget 0.005"
    assert page.run("document.querySelectorAll('#frontier-chart .prediction').length") == 1
    dots = "[...document.querySelectorAll('#frontier-chart .dot:not(.written) circle:last-of-type')]"
    heights = f"{dots}.map((node) => node.cy.baseVal.value)"
    logarithmic = page.run(heights)
    page.click("#frontier-log")
    assert page.run(heights) != logarithmic
    assert page.run(heights) == sorted(page.run(heights)), "D falls with every bit"
    choose = "(() => { const node = document.getElementById('frontier-loss'); node.value = 1;"
    page.run(choose + " node.dispatchEvent(new Event('change')); })()")
    assert page.run("document.querySelector('.budget-text').textContent") == "budget 1 %"
    assert page.run("document.querySelectorAll('#frontier-chart .whisker').length") == 13
    assert page.run("document.querySelectorAll('#frontier-chart .prediction').length") == 0


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("logarithmic", [True, False])
def test_what_was_measured_fills_the_chart(page, files, width, logarithmic):
    page.resize(width)
    page.open(files["minilm"])
    if not logarithmic:
        page.click("#frontier-log")
    places = page.run(
        "[...document.querySelectorAll('.dot circle:last-of-type')].map((node) => node.cx.baseVal.value).slice(0, 13)"
    )
    chart = page.run("document.getElementById('frontier-chart').clientWidth")
    *measured, lossless = places
    assert max(measured) - min(measured) > 0.4 * chart
    assert max(measured) < lossless < chart
    assert page.run("document.querySelectorAll('#frontier-chart .break').length") == 1
    line = page.run("[...document.querySelector('#frontier-chart .prediction').points].map(({ x, y }) => [x, y])")
    assert min(x for x, _ in line) < min(measured)
    assert max(x for x, _ in line) < lossless
    assert [y for _, y in line] == sorted(y for _, y in line), "the prediction falls with every bit"


def test_the_accepted_point_is_marked(page, files):
    page.open(files["single"])
    page.hover(".dot.chosen .halo")
    assert page.run(TIP).startswith("Point 4, chosen\n3.12 bits per weight")


def test_the_sequence_becomes_cards_on_a_phone(page, files):
    tops = """[...document.querySelectorAll('.sequence tbody:first-of-type tr > *')]
      .map((node) => [node.textContent.slice(0, 9), node.getBoundingClientRect().top + node.clientHeight / 2])"""
    page.open(files["minilm"])
    cells = dict(page.run(tops))
    assert abs(cells["15\N{NO-BREAK SPACE}%"] - cells["95.05\N{NO-BREAK SPACE}%"]) < 2, (
        "step and agreement span the rows of all losses"
    )
    assert cells["accuracy"] < cells["spearman"]
    page.resize(360)
    cells = dict(page.run(tops))
    assert abs(cells["15\N{NO-BREAK SPACE}%"] - cells["holds"]) < 6, "step and verdict are the card's title"
    assert cells["holds"] < cells["accuracy"] < cells["spearman"] < cells["95.05\N{NO-BREAK SPACE}%"]


def test_chart_by_keyboard(page, files):
    page.open(files["minilm"])
    page.run("document.getElementById('frontier-log').focus()")
    page.press("Tab")
    assert page.run(TIP).startswith("Point 0\n2.00 bits per weight")
    page.press("ArrowRight")
    assert page.run(TIP).startswith("Point 1\n2.30 bits per weight")
    page.press("End")
    assert page.run(TIP).startswith("Lossless\n26.76 bits per weight")
    page.press("Escape")
    assert page.run(TIP) == ""
    page.press("Tab")
    assert page.run("document.activeElement.tagName") == "SUMMARY", "the chart must be one tab stop"


def test_treemap_by_mouse_and_by_keyboard(page, files):
    page.open(files["minilm"])
    page.hover(".cell[data-index='1']")
    assert page.run(TIP).startswith("embeddings.word_embeddings.weight\n2.88 MB")
    areas = "[...document.querySelectorAll('.cell rect')].slice(0, 9).map((node) => node.getAttribute('width'))"
    by_bytes = page.run(areas)
    page.click("#treemap-measure input[value=damage]")
    assert page.run(areas) != by_bytes
    page.press("Tab")
    page.press("ArrowRight")
    name = page.run("document.activeElement.getAttribute('aria-label')").split(",")[0]
    page.press("Enter")
    assert page.run(FOCUSED) == name
    assert page.run("document.activeElement.ariaExpanded") == "true"
    assert page.run(TIP) == ""


def test_treemap_fills_its_area(page, files):
    page.open(files["many"])
    covered, whole = page.run(
        """(() => {
          const map = document.getElementById("treemap");
          const area = (node, height = node.height.baseVal.value) => node.width.baseVal.value * height;
          const cells = [...map.querySelectorAll(".cell rect")].map((node) => area(node));
          const headers = [...map.querySelectorAll(".group")].map((node) => area(node, 17));
          return [[...cells, ...headers].reduce((a, b) => a + b), map.clientWidth * map.clientHeight];
        })()"""
    )
    assert 0.95 * whole < covered <= whole
    assert page.run("document.querySelectorAll('.cell').length") == 2000


def test_a_click_on_the_treemap_finds_rows_that_are_not_shown(page, files):
    page.open(files["many"])
    page.click("#layers-search")
    page.type("nothing at all")
    assert page.run(NAMES) == []
    page.click(".cell[data-index='1999']")
    assert page.run(FOCUSED) == receipt_name(1999)
    assert page.run("document.getElementById('layers-search').value") == ""


def receipt_name(index: int) -> str:
    return f"model.layers.{index // 50}.block_sparse_moe.experts.{index % 50 // 2}.w{index % 2 + 1}.weight"


def test_copy_and_save(page, files, tmp_path):
    page.call("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    page.open(files["minilm"])
    page.click("[data-copy=command-text]")
    assert page.run("document.querySelector('[data-copy=command-text]').textContent") == "Copied"
    assert page.run("navigator.clipboard.readText()") == receipt()["command"]
    page.click("[data-save]")
    saved = tmp_path / "recipe.json"
    page.run("new Promise((done) => setTimeout(done, 300))")
    assert json.loads(saved.read_text()) == receipt()["recipe"]


def test_names_stay_text(page, files):
    page.open(files["hostile"])
    assert page.run("document.images.length + document.querySelectorAll('[onerror]').length") == 0
    assert page.run("document.scripts.length") == 2
    assert ATTACK in page.run(NAMES)
    assert page.run("document.title").startswith(ATTACK)


def test_print(page, files):
    page.prefer("dark", media="print")
    page.open(files["minilm"])
    assert page.run("getComputedStyle(document.querySelector('h1')).color") == "rgb(23, 25, 30)"
    hidden = "['header button', '.controls', '.buttons'].map((name) => document.querySelector(name).checkVisibility())"
    assert page.run(hidden) == [False, False, False]
    page.prefer("light")
