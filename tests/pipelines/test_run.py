"""`regrain run`: a task served, beside torch, with what changed; and the page about it."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from safetensors.torch import save_file

from regrain.core.errors import TaskError
from regrain.pipelines.run import Serving, run
from regrain.pipelines.run_report import render, run_report
from regrain.policies.trace import TraceError, read

TASK = Path(__file__).parents[1] / "cli" / "tiny.py"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    sys.path.insert(0, str(TASK.parent))
    try:
        import tiny
    finally:
        sys.path.pop(0)
    path = tmp_path_factory.mktemp("run") / "tiny.safetensors"
    save_file(tiny.trained().state_dict(), path)
    return path


def test_static_serving_is_the_model(model):
    found = run(model, task=TASK, serving=Serving("static"), threads=1)
    assert [layer.name for layer in found.layers] == ["0.weight", "2.weight"]
    assert all(layer.density == 1.0 and layer.switches == 0 for layer in found.layers)
    assert abs(found.fidelity.loss(0.95).drop) < 1e-9
    assert found.drops["accuracy"].before == found.drops["accuracy"].after
    assert len(found.batches) == 15 and all(batch.plain > 0 and batch.served > 0 for batch in found.batches)
    assert not found.left
    assert {layer.layout.partition(",")[0] for layer in found.layers} == {"f32 panels"}
    assert json.loads(json.dumps(found.to_json()))["policy"] == "static"


def test_a_policy_with_a_density(model, tmp_path):
    trace = tmp_path / "run.jsonl"
    found = run(model, task=TASK, serving=Serving("ranked", 0.6), trace=trace, threads=1)
    assert {layer.granularity for layer in found.layers} == {"medium"}
    assert all(0.5 < layer.density < 0.7 for layer in found.layers)
    assert 1e-4 < found.fidelity.loss(0.95).drop < 0.2
    with open(trace, encoding="utf-8") as lines:
        events = list(read(lines))
    assert {event.matrix for event in events} == {"0.weight", "2.weight"}
    page = render(found, events)
    assert page == render(found, events)
    for words in ("Seconds of each batch", "What is kept of each matrix", "0.weight, from token 0: medium, 60% kept"):
        assert words in page
    assert "<script" not in page and not re.search(r"https?://", page)
    assert run_report(found, tmp_path / "run.html", trace=trace).read_text() == page


def test_a_page_without_a_trace_and_one_that_is_none(model, tmp_path):
    found = run(model, task=TASK, serving=Serving("static"), threads=1)
    assert "What is kept of each matrix" not in render(found)
    (tmp_path / "bad.jsonl").write_text("{}\n")
    with pytest.raises(TraceError, match="line 1"):
        run_report(found, tmp_path / "out.html", trace=tmp_path / "bad.jsonl")
    assert not (tmp_path / "out.html").exists()


def test_a_task_that_fails(model):
    with pytest.raises(TaskError):
        run(model, task=model)
