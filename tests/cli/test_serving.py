"""`regrain run` and `regrain bench` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from regrain.pipelines import bench

TASK = Path(__file__).parent / "tiny.py"


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    """Times of this machine are remembered there."""
    monkeypatch.setenv("HOME", str(tmp_path))


def test_run(trained, tmp_path, run):
    page, trace = tmp_path / "page.html", tmp_path / "run.jsonl"
    arguments = ["run", trained, "--task", TASK, "--policy", "ranked", "--density", "0.7", "--threads", "1"]
    done = run(*arguments, "--html", page, "--trace", trace, width=200)
    assert done.exit_code == 0, done.output
    assert "times as fast as torch" in done.output and "accuracy: " in done.output
    assert f"trace: {trace}" in done.output and f"page: {page}" in done.output
    assert page.read_text().startswith("<!DOCTYPE html>") and trace.read_text().count("\n") >= 2
    done = run(*arguments, "--json", "--html", page, "--trace", trace)
    assert done.exit_code == 0 and json.loads(done.stdout)["policy"] == "ranked"


@pytest.mark.parametrize(("option", "kind"), [("--html", "page"), ("--trace", "trace")])
def test_a_run_replaces_no_other_file(trained, run, option, kind):
    before = trained.read_bytes()
    done = run("run", trained, "--task", TASK, option, trained, width=200)
    assert done.exit_code == 1 and f"error: {kind} must be a new file or replace a" in done.output
    assert trained.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--split", "calibration"], "split must be search or held_out, not 'calibration'"),
        (["--density", "0"], "density must be a fraction above 0 to 1, not 0.0"),
        (["--policy", "magic"], "policy must be one of static, "),
        (["--activations", "i4"], "activations must be f32 or i8, not 'i4'"),
        (["--value", "i2"], "value must be one of f32, f16, i8, i4, not 'i2'"),
        (["--pattern", "round"], "pattern must be fine, N:M"),
    ],
)
def test_usage_of_run(trained, run, arguments, message):
    done = run("run", trained, "--task", TASK, *arguments, width=200)
    assert done.exit_code == 2
    assert message in " ".join(done.output.replace("│", " ").split())


def test_bench(trained, run, monkeypatch):
    monkeypatch.setattr(bench, "ROUNDS", 1)
    monkeypatch.setattr(bench, "ROUND", 1e-6)
    done = run("bench", trained, "--tokens", "1,20", width=120)
    assert done.exit_code == 0, done.output
    assert "96 x 16 times as fast as torch's dense product" in done.output
    assert "int8 x int8" in done.output and "20 tokens" in done.output
    done = run("bench", trained, "--tokens", "1", "--json")
    assert {row["name"] for row in json.loads(done.stdout)["timings"]} >= {"torch", "dense"}


@pytest.mark.parametrize("tokens", ["", "0", "1,x", "70000"])
def test_usage_of_bench(run, tokens):
    done = run("bench", "--tokens", tokens, width=200)
    assert done.exit_code == 2
    assert "tokens must be counts from 1 to 65536" in " ".join(done.output.replace("│", " ").split())
