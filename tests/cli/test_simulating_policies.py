"""`regrain simulate` with policies: the machine's own control, the run time's, and those that it can't run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

TASK = Path(__file__).parent / "tiny.py"


def test_the_machines_own_control(trained, run):
    arguments = ["simulate", trained, "--task", TASK, "--batches", "3", "--threads", "1", "--density", "0.5"]
    done = run(*arguments, "--policy", "hardware", "--dwell", "0", width=200)
    assert done.exit_code == 0, done.output
    assert "nothing was dropped" not in done.output
    for words in ("2 matrices are under the machine's control", "part the calls of calibration data in three",
                  "for each of 192 output rows", "energy x cycles", "mm2 of logic by table osu018",
                  "sparsity adds"):  # fmt: skip
        assert words in done.output
    done = run(*arguments, "--policy", "hardware", "--thresholds", "1e-6,2e-6", "--inverted", "--json")
    value = json.loads(done.stdout)
    assert value["policy"] == "hardware" and value["area"]["table"] == "osu018"
    assert [layer["granularity"] for layer in value["layers"]] == ["coarse"] * 2
    assert all(layer["control"]["origin"] == "stand for variances of 1e-06 and 2e-06" for layer in value["layers"])


def test_a_narrow_terminal_shows_every_number(trained, run):
    for policy, titles in (("static", "matrix encoding"), ("hardware", "matrix grain changes")):
        arguments = ["--policy", policy, "--density", "0.5", "--dwell", "0", "--bandwidth", "16", "--latency", "900"]
        done = run("simulate", trained, "--task", TASK, "--batches", "3", "--threads", "1", *arguments, width=80)
        lines = [line for line in done.output.splitlines() if line.startswith(("matrix", "0.weight", "2.weight"))]
        assert lines[0].split() == f"{titles} kept cycles dense used stalls MB uJ".split()
        for line in lines[1:]:
            assert len(line.split()) == len(lines[0].split()) and "…" not in line and len(line) <= 80
        done = run("simulate", trained, "--task", TASK, "--batches", "3", "--threads", "1", *arguments, width=60)
        lines = [line for line in done.output.splitlines() if line.startswith(("matrix", "0.weight", "2.weight"))]
        assert lines[0].split() == f"{titles} kept cycles dense uJ".split() and "a wider terminal" in done.output
        assert all("…" not in line and len(line) <= 60 for line in lines)


def test_a_policy_without_anything_to_drop(trained, run):
    done = run("simulate", trained, "--task", TASK, "--batches", "1", "--threads", "1", "--policy", "fine")
    assert done.exit_code == 0 and "nothing was dropped: give a --density below 1" in done.output


@pytest.mark.parametrize(
    ("policy", "options", "unheard"),
    [
        ("static", ["--density", "0.5", "--dwell", "3"], "--density, --dwell"),
        ("ranked", ["--density", "0.5", "--thresholds", "1,2", "--inverted"], "--thresholds, --inverted"),
        ("variance-thresholds", ["--density", "0.5", "--thresholds", "1,2", "--dwell", "3"], "--dwell"),
        ("hardware", ["--density", "0.5", "--thresholds", "0.1,inf", "--inverted", "--dwell", "3"], None),
    ],
)
def test_options_that_change_nothing_are_told(trained, run, policy, options, unheard):
    arguments = ["--batches", "1", "--threads", "1", "--policy", policy, *options]
    done = run("simulate", trained, "--task", TASK, *arguments, width=200)
    assert done.exit_code == 0, done.output
    told = [line for line in done.output.splitlines() if "has no use for" in line]
    assert told == ([] if unheard is None else [f"--policy {policy} has no use for {unheard}"])


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("bank", "'bank': it exchanges the weights themselves"),
        ("token-skip", "'token-skip': it leaves out other columns for each token"),
        ("normalized-variance", "'normalized-variance': it compares the channels of a matrix with one another"),
        ("auto", "'auto': it serves by token-skip or from a bank, which the machine can't: use ranked"),
    ],
)
def test_policies_that_the_machine_cannot_run(trained, run, policy, message):
    done = run("simulate", trained, "--task", TASK, "--policy", policy, width=200)
    assert done.exit_code == 1 and f"error: policy must be one that the machine can run, not {message}" in done.output


def test_wrong_options(trained, run):
    for arguments, message in (
        (["--policy", "hardware", "--dwell", "64"], "error: dwell must be 0 to 63 calls, not 64"),
        (["--policy", "hardware", "--lanes", "8"], "error: a monitor must have 2 to 16 lanes"),
        (["--areas", "none"], "error: table must be one of osu018, osu035, or a file NAME.json, not 'none'"),
    ):
        done = run("simulate", trained, "--task", TASK, *arguments, width=200)
        assert done.exit_code == 1 and message in done.output
