"""The picture of a log: complete, well-formed, and nothing in it breaks out."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest
from torch import nn

from regrain.core.errors import OutputExistsError, TrainingError
from regrain.pipelines.training_report import render, training_report
from regrain.training import AccuracyMonitor, Limit, Schedule


def parsed(page: str) -> ElementTree.Element:
    """The page as XML, but for what HTML leaves open in its head."""
    body = page[page.index("<body>") : page.index("</html>")]
    return ElementTree.fromstring(body)


@pytest.fixture
def monitor(net: nn.Module, train, recipe, tmp_path) -> AccuracyMonitor:
    values = iter([0.9, 0.5, 0.6, 0.95, 0.95])
    path = tmp_path / "log.jsonl"
    found = AccuracyMonitor(
        net, lambda _: next(values), recipe, Limit(max_drop=0.1), schedule=Schedule(every=1), path=path
    )
    train(net, 4, found.step)
    return found


def test_page_shows_metric_threshold_layers_and_changes(monitor, tmp_path) -> None:
    out = training_report(tmp_path / "log.jsonl", tmp_path / "log.html")
    page = out.read_text("utf-8")
    assert page == render(monitor.log)
    body = parsed(page)
    assert len(body.findall(".//circle")) == 4
    assert len([one for one in body.iter("circle") if one.get("class") == "below"]) == 2
    assert len(body.findall(".//rect")) == 4 * 3 * 4
    assert page.count("256 channels, mean ") == 2 * 4
    assert "threshold 0.81" in page
    changes = [change for record in monitor.log for change in record.changes]
    assert len(body.findall(".//tbody/tr")) == len(changes) > 0
    assert "<script" not in page
    with pytest.raises(OutputExistsError):
        training_report(monitor.log, out)


def test_logs_from_before_inputs_were_seen(monitor) -> None:
    layers = tuple(replace(layer, inputs=None) for layer in monitor.log[0].layers)
    page = render([replace(monitor.log[0], layers=layers)])
    assert len(parsed(page).findall(".//rect")) == 2 * 3
    assert "Variance of" not in page
    mixed = render([replace(monitor.log[0], layers=(layers[0], *monitor.log[0].layers[1:]))])
    assert mixed.count("no inputs seen") == 2


def test_hostile_names_stay_text(monitor) -> None:
    record = monitor.log[0]
    layer = replace(record.layers[0], name="</svg><script>alert(1)</script>\"&'")
    evil = replace(record, layers=(layer,), metrics={"<b>": 1.0}, thresholds={"<b>": 0.5})
    page = render([evil])
    assert "<script" not in page
    assert "<b>" not in page
    parsed(page)


def test_logs_without_evaluations_are_refused() -> None:
    with pytest.raises(TrainingError, match="log must have an evaluation or more"):
        render([])
