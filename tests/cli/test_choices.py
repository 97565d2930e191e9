"""Selectors, objectives and slim artifacts, end to end on a tiny task: what is printed and written."""

import json
import runpy
from pathlib import Path

import pytest
import safetensors.torch

import regrain
import regrain.torch
from regrain.models.slim import fit

TASK = Path(__file__).with_name("tiny.py")


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """One folder for all, so that everything is measured once."""
    folder = tmp_path_factory.mktemp("choices")
    safetensors.torch.save_file(runpy.run_path(str(TASK))["trained"]().state_dict(), folder / "model.safetensors")
    return folder


@pytest.fixture
def job(run, folder):
    def execute(verb, *options, code=0, width=120):
        result = run(verb, folder / "model.safetensors", "--task", TASK, "--threads", "1", *options, width=width)
        assert result.exit_code == code, result.output
        return " ".join((result.stdout or result.stderr).split())

    return execute


def receipt(path):
    return regrain.inspect(path).files[0].receipt


@pytest.mark.parametrize("selector", ["closed-form", "learned"])
def test_selectors_that_know_a_loss(job, folder, selector):
    out = folder / f"{selector}.safetensors"
    printed = job("compress", "--max-drop", "3%", "--selector", selector, "-o", out)
    assert "✓ within a drop of 3.00 %" in printed and f" --selector {selector} --seed 0" in printed
    made = receipt(out)
    assert (made["selector"], made["objective"]) == (selector, {"minimized": "bytes"})
    assert any(layer["scheme"] == "quantized" for layer in made["layers"])


def test_the_rule_and_its_thresholds(job, folder):
    out, recipe = folder / "rule.safetensors", folder / "rule.json"
    rule = ["--selector", "rule", "--high-entropy", "8", "--low-entropy", "7.5", "--max-sparsity", "20%"]
    rule += ["--rule-bits", "7", "--rule-density", "0.9"]
    job("plan", "--max-drop", "50%", *rule, "-o", recipe)
    plan = json.loads(recipe.read_text())
    assert plan["layers"]["2.weight"]["cell"] == "row"
    known = {"high_entropy": 8.0, "low_entropy": 7.5, "max_sparsity": 0.2, "bits": 7, "density": 0.9}
    assert (plan["note"]["selector"], plan["note"]["rule"]) == ("rule", known)
    printed = job("compress", "--max-drop", "50%", *rule, "-o", out)
    assert "--selector rule --high-entropy 8.0 --low-entropy 7.5 --max-sparsity 0.2 --rule-bits 7" in printed
    made = receipt(out)
    assert made["rule"] == known and len(made["judgement"]) == 1  # one recipe, whatever the loss: judged once


def test_a_rule_that_changes_nothing_is_lossless(job, folder):
    printed = job("compress", "--max-drop", "50%", "--selector", "rule", "-o", folder / "nothing.safetensors")
    assert "lossless: the recipe changes nothing" in printed and "✓" not in printed
    assert receipt(folder / "nothing.safetensors")["outcome"] == "lossless"
    out = folder / "nothing.html"
    regrain.report(folder / "nothing.safetensors", out)
    assert "the recipe changes nothing" in out.read_text()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--rule-bits", "5"], "--rule-bits must be given with --selector rule, not search"),
        (["--selector", "learned", "--high-entropy", "5"], "--high-entropy must be given with --selector rule"),
        (["--selector", "rule", "--rule-bits", "99"], "bits must be 2 to 15 for an index, not 99"),
        (["--selector", "rule", "--rule-density", "0"], "density must be a fraction above 0 to 1"),
        (["--selector", "rule", "--low-entropy", "7"], "low_entropy must be 0 to high_entropy"),
        (["--selector", "rule", "--max-sparsity", "much"], "max_sparsity must be a fraction"),
        (["--selector", "best"], "selector must be search or closed-form or learned or rule, not 'best'"),
        (["--selector", "learned", "--objective", "work"], "objective must be bytes with the selector learned"),
        (["--selector", "closed-form", "--cells", "row"], "cells must not be given with the selector closed-form"),
        (["--selector", "rule", "--patterns", "fine"], "patterns must not be given with the selector rule"),
        (["--slim", "--cells", "group:32"], "cells must be"),
    ],
)
def test_wrong_usage_exits_with_2(run, options, words):
    result = run("compress", "model.safetensors", "--task", TASK, "--max-drop", "1%", *options, width=200)
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.replace("│", " ").split())


def test_thresholds_stand_apart_in_the_help(run):
    for verb in ("plan", "compress"):
        printed = run(verb, "--help", width=120).stdout
        assert printed.index("Options of --selector rule") < printed.index("--rule-density")


def test_work_is_shown_where_it_is_minimized(job, folder):
    planned = job("plan", "--max-drop", "3%", "--objective", "work")
    assert "work %" in planned and "2 pruned" in planned and "multiply-adds for each example: 1,920 →" in planned
    assert "work %" not in job("plan", "--max-drop", "3%")
    out = folder / "work.safetensors"
    printed = job("compress", "--max-drop", "3%", "--objective", "work", "-o", out)
    for words in (
        "multiply-adds for each example: 1,920 →",
        "scheme",
        "pruned",
        "column · 0.",
        "--objective work --seed",
    ):
        assert words in printed, words
    assert "multiply-adds" in job("compress", "--max-drop", "3%", "--objective", "work", "-o", out, "-f", width=80)
    made = receipt(out)
    assert made["objective"] == {"minimized": "work"} and made["patterns"] == ["block:16x1", "column"]
    assert made["work"]["artifact"] < made["work"]["original"] == 1920
    assert all(point["work"] is not None for point in made["frontier"])
    assert {layer["scheme"] for layer in made["layers"]} == {"pruned", "lossless"}


def test_patterns_stand_in_the_command(job, folder):
    out = folder / "fine.safetensors"
    printed = job("compress", "--max-drop", "3%", "--objective", "both", "--patterns", "fine,2:4", "-o", out)
    assert "--objective both --patterns fine,2:4 --seed 0" in printed


def test_slim(job, run, folder):
    whole, slim, dense = (folder / f"{name}.safetensors" for name in ("whole", "slim", "dense"))
    job("compress", "--max-drop", "3%", "--objective", "work", "-o", whole)
    printed = job("compress", "--max-drop", "3%", "--objective", "work", "--slim", "-o", slim)
    assert "channels removed" in printed and "--objective work --slim --seed 0" in printed
    result = run("restore", whole, "--slim", "-o", dense)
    assert result.exit_code == 0 and "without the channels that nothing uses" in " ".join(result.stdout.split())
    names = runpy.run_path(str(TASK))
    points = names["data"]("held_out")[0]
    found = []
    for state in (safetensors.torch.load_file(dense), regrain.torch.load_file(slim)):
        model = names["network"]()
        fit(model, state)
        found.append(model.eval()(points).detach())
    masked = names["network"]()
    regrain.torch.load_model(masked, whole)
    wanted = masked.eval()(points).detach()
    assert all(float((one - wanted).abs().max()) <= 1e-5 * float(wanted.abs().max()) for one in found)
    assert "channels were removed" in run("inspect", slim).stdout
    assert run("report", slim, "-o", folder / "slim.html").exit_code == 0
    assert "weights are left" in (folder / "slim.html").read_text()
    assert run("restore", slim, "--slim", "-o", folder / "again.safetensors").exit_code == 1


BARE = """

def evaluate(model, split):
    points, labels = data(split)
    return {"accuracy": FACTOR * float((model(points).argmax(1) == labels).float().mean())}
"""


def bare(folder, factor):
    """The task with a metric that is a bare number."""
    path = folder / f"bare{factor}.py"
    path.write_text(TASK.read_text() + BARE.replace("FACTOR", str(factor)))
    return path


def test_no_confidence_is_claimed_of_a_bare_number(run, folder):
    model, out = folder / "model.safetensors", folder / "bare.safetensors"
    result = run("compress", model, "--task", bare(folder, 1), "--max-drop", "5%", "-o", out, width=120)
    assert "✓ within a drop of 5.00 % on held-out data; of a bare number no confidence is known" in result.stdout


def test_a_relative_limit_of_nothing_is_refused_before_the_search(run, folder):
    model, out = folder / "model.safetensors", folder / "zero.safetensors"
    result = run("compress", model, "--task", bare(folder, 0), "--max-drop", "5%", "-o", out, width=120)
    assert result.exit_code == 1 and "metric 'accuracy'" in result.stderr and not out.exists()
