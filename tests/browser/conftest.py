"""One browser for all checks, and the pages that they look at."""

from __future__ import annotations

import pytest

from regrain.pipelines.report import render

from ..report.receipts import frontier, judgment, many, pruned, receipt
from .devtools import browser

ATTACK = "</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="session")
def session():
    with browser() as page:
        yield page


@pytest.fixture
def page(session):
    """The browser as a fresh visitor finds it: light, 1280 pixels wide. No check may leave a complaint behind."""
    session.prefer("light")
    session.resize(1280)
    yield session
    assert session.problems == []
    assert session.requests == [session.run("location.href")], "the page must load nothing but itself"


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Reports by name, written once."""
    folder = tmp_path_factory.mktemp("reports")
    hostile = receipt([(ATTACK, [8, 8]), ("x" * 2000, [4, 4]), ("a.b." * 90, [2, 2])])
    tensors = [{"name": "conv.weight", "shape": [8, 1, 3, 3], "bytes": 250, "bits": 27.8, "scheme": "lossless, rans"}]
    single = [judgment(step, accepted=step == 1.0) for step in (0.5, 1.0)]
    for one in single:
        del one["metrics"][1]
    images = {"judgement": single, "budget": {"max_drop": 0.01, "confidence": 0.95}, "frontier": frontier(chosen=True)}
    texts = {
        "minilm": render(receipt(), title="minilm.regrain.safetensors"),
        "single": render(receipt() | images, title="single.regrain.safetensors"),
        "pruned": render(pruned(receipt()), title="pruned.regrain.safetensors"),
        "many": render(receipt(many(2000)), title="experts.regrain.safetensors"),
        "hostile": render(hostile | {"task": {"name": ATTACK}, "command": "y" * 3000}, title=ATTACK),
        "lossless": render({"mode": "lossless", "sizes": {"original": 400, "artifact": 300}, "layers": tensors}),
        "bare": render({"sizes": {"original": 400, "artifact": 300}}),
    }
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in texts}
