"""The parts of the page that need no script: the verdict, the points, the recipe, and how to repeat it."""

from __future__ import annotations

from collections.abc import Mapping

from regrain.pipelines.report.markup import Markup, join, pretty_json, section, tag
from regrain.pipelines.report.numbers import NONE, bits, count, megabytes, percent, seconds, significant
from regrain.pipelines.report.receipt import Point, Receipt
from regrain.pipelines.report.verdict import figures, verdict

_NOTHING = Markup("")


def heading(receipt: Receipt, title: str) -> Markup:
    """The verdict and its figures."""
    status, kind, sentence = verdict(receipt)
    task = "" if receipt.task is None else f", task {receipt.task}"
    about = tag("p", tag("span", status, class_=f"status {kind}"), tag("span", title + task, class_="name"))
    shown = [
        tag("div", tag("dt", figure.label), tag("dd", tag("b", figure.value), tag("small", figure.note)))
        for figure in figures(receipt)
    ]
    return join(about, tag("h1", sentence), tag("dl", *shown, class_="figures"))


def frontier_table(receipt: Receipt) -> Markup:
    """The points of the chart as a table, for those who would rather read it."""
    points, loss = receipt.frontier, "KL" if receipt.kind == "logits" else "D"
    names = sorted({name for point in points for name in point.metrics})
    worked = receipt.spared is not None and any(point.work is not None for point in points)
    work = ["multiply-adds"] if worked else []
    head = [
        "point",
        "bits per weight",
        "size",
        *work,
        f"{loss} predicted",
        loss,
        *(f"drop of {name}" for name in names),
        "",
    ]
    rows = [_point_row(point, names, receipt.work if worked else None) for point in points]
    columns = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in head)))
    caption = tag("summary", f"The {len(points)} points as a table" if len(points) != 1 else "The point as a table")
    return tag(
        "details",
        caption,
        tag("div", tag("table", columns, tag("tbody", *rows)), class_="scroll", tabindex="0"),
    )


def recipe(receipt: Receipt) -> Markup:
    """The recipe as JSON, to be read, copied and saved; nothing where there is none."""
    if not receipt.recipe:
        return _NOTHING
    hint = tag("p", "What was decided for each layer. Edit it, and pass it on with ", tag("code", "--recipe"), ".")
    text = tag("pre", pretty_json(dict(receipt.recipe)), id="recipe-text", tabindex="0")
    buttons = tag("p", _button("Copy", "recipe-text"), _save_button(), class_="buttons")
    return section("recipe", "Recipe", hint, tag("details", tag("summary", "Show the recipe"), text), buttons)


def repeat(receipt: Receipt) -> Markup:
    """How to come to the same artifact again."""
    facts = {
        "regrain": receipt.version,
        "model, SHA-256": receipt.model_sha256,
        "task": receipt.task,
        "task, SHA-256": receipt.task_sha256,
        "minimized": receipt.minimized,
        "selector": receipt.selector,
        "removed": None
        if receipt.slim is None
        else f"{count(receipt.slim[0])} channels; {count(receipt.slim[1])} weights are left",
        "seed": None if receipt.seed is None else str(receipt.seed),
        "measured on": receipt.machine,
        "time taken": None if receipt.seconds is None else seconds(receipt.seconds),
        "of it": ", ".join(f"{name} {seconds(spent)}" for name, spent in receipt.phases.items()) or None,
        "peak memory": None if receipt.peak_memory is None else megabytes(receipt.peak_memory),
    }
    pairs = [join(tag("dt", name), tag("dd", value)) for name, value in facts.items() if value is not None]
    command = _NOTHING
    if receipt.command is not None:
        text = tag("pre", receipt.command, id="command-text", tabindex="0")
        command = join(text, tag("p", _button("Copy", "command-text"), class_="buttons"))
    title = "Where it comes from" if receipt.command is None else "How to repeat it"
    return section("repeat", title, command, tag("dl", *pairs, class_="facts"))


def _point_row(point: Point, names: list[str], work: tuple[int, int] | None) -> Markup:
    drops = [_point_drop(point.metrics.get(name, {})) for name in names]
    state = "chosen" if point.chosen else "within the budget" if point.feasible else "over the budget"
    values = (
        bits(point.bits_per_weight),
        NONE if point.nbytes is None else megabytes(point.nbytes),
        *([] if work is None else [percent(None if point.work is None else point.work / max(1, work[0]))]),
        significant(point.predicted, 3),
        significant(point.loss, 3),
        *drops,
        state,
    )
    first = tag("th", "lossless" if point.number is None else str(point.number), scope="row")
    cells = (tag("td", value) for value in values)
    return tag("tr", first, *cells, class_="chosen") if point.chosen else tag("tr", first, *cells)


def _point_drop(metric: Mapping[str, float]) -> str:
    text = percent(metric.get("relative"))
    return f"{text}, at most {percent(metric['upper'])}" if "upper" in metric else text


def _button(label: str, target: str) -> Markup:
    return tag("button", label, type="button", data_copy=target)


def _save_button() -> Markup:
    return tag("button", "Save as recipe.json", type="button", data_save="recipe-text")
