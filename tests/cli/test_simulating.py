"""`regrain simulate` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

TASK = Path(__file__).parent / "tiny.py"


def test_simulate(trained, tmp_path, run):
    page = tmp_path / "page.html"
    arguments = ["simulate", trained, "--task", TASK, "--batches", "2", "--threads", "1", "--bandwidth", "16"]
    done = run(*arguments, "--policy", "fine", "--density", "0.5", "--latency", "20", "--score", "--others", "--html",
               page, width=200)  # fmt: skip
    assert done.exit_code == 0, done.output
    for words in ("0.weight", "N:M", "times fewer than the same array dense", "by table horowitz", "accuracy: ",
                  "outputs beside torch with the same weights: KL", "rank these", f"page: {page}"):  # fmt: skip
        assert words in done.output
    assert page.read_text().startswith("<!DOCTYPE html>")
    done = run(*arguments, "--json", "--table", "accelergy")
    value = json.loads(done.stdout)
    assert done.exit_code == 0 and value["policy"] == "static" and value["table"]["name"] == "accelergy"
    assert value["memory"]["weight_bits"] == value["memory"]["activation_bits"] == 64


def test_a_page_replaces_nothing_but_a_page(trained, tmp_path, run):
    arguments = ["simulate", trained, "--task", TASK, "--batches", "1", "--threads", "1", "--html"]
    before = trained.read_bytes()
    done = run(*arguments, trained)
    assert done.exit_code == 1 and trained.read_bytes() == before
    assert "error: page must be a new file or replace an HTML page" in done.output
    for page, words in (
        (tmp_path, "choose a path that is no directory"),
        (tmp_path / "none" / "page.html", "create the directory first"),
    ):
        done = run(*arguments, page)
        assert done.exit_code == 1 and words in done.output
    page = tmp_path / "page.html"
    for _ in range(2):
        done = run(*arguments, page, width=200)
        assert done.exit_code == 0 and "cycles for 1 batch, " in done.output
    assert list(tmp_path.iterdir()) == [page] and "1 batch of search data" in page.read_text()


def test_matrices_that_may_not_change_are_told(trained, tmp_path, run):
    stored = tmp_path / "tiny.regrain.safetensors"
    assert run("compress", trained, "-o", stored).exit_code == 0
    done = run("simulate", stored, "--task", TASK, "--batches", "1", "--policy", "coarse", "--density", "0.5")
    assert done.exit_code == 0 and "no matrix may change: compress the model with --dynamic" in done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--split", "calibration"], "split must be search or held_out, not 'calibration'"),
        (["--density", "0"], "density must be a fraction above 0 to 1, not 0.0"),
        (
            ["--policy", "magic"],
            "policy must be one of static, fine, medium, coarse, hardware, variance-thresholds, ranked, not 'magic'",
        ),
        (["--thresholds", "1"], "thresholds must be two numbers LOW,HIGH, not '1'"),
        (["--batches", "0"], "Input should be greater than or equal to 1"),
        (["--bandwidth", "1"], "Input should be greater than or equal to 2"),
    ],
)
def test_usage(trained, run, arguments, message):
    done = run("simulate", trained, "--task", TASK, *arguments, width=200)
    assert done.exit_code == 2
    assert message in " ".join(done.output.replace("│", " ").split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--table", "none"], "error: table must be one of accelergy, horowitz"),
        (["--table", "none.json"], "check the path"),
        (["--rows", "1"], "error: an array must have 2 to 64 rows"),
        (["--accumulator", "8"], "error: accumulator must have 18 to 32 bits, not 8"),
        (["--policy", "variance-thresholds", "--thresholds", "2,1"], "error: thresholds must be 0 < low <= high"),
    ],
)
def test_errors_have_a_line_and_code_1(trained, run, arguments, message):
    done = run("simulate", trained, "--task", TASK, *arguments, width=200)
    assert done.exit_code == 1 and message in done.output and "Traceback" not in done.output
