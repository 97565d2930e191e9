"""Long jobs: Ctrl-C keeps the best point, kill -9 loses nothing, progress is shown on terminals."""

import os
import pty
import signal
import subprocess
import time

import pytest

import regrain
import regrain.numpy
from regrain.pipelines.options import Listener

from .conftest import COMMAND, environment
from .test_jobs import TASK, tiny  # noqa: F401 - a fixture


@pytest.fixture
def start(tiny):  # noqa: F811
    """Start a job whose evaluations take some time, and wait until it has evaluated search data so often."""

    def begin(evaluations, max_drop="1%"):
        log = tiny.with_name("log")
        process = subprocess.Popen(
            [*COMMAND, "compress", str(tiny), "--task", str(TASK), "--max-drop", max_drop, "--threads", "1"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment() | {"TINY_SLOW": "0.5", "TINY_LOG": str(log), "OMP_NUM_THREADS": "1"},
        )
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if log.exists() and log.read_text().count("search") >= evaluations:
                return process
            time.sleep(0.01)
        raise AssertionError(f"the job must still run: {process.communicate()}")

    return begin


def artifact(model):
    return model.with_name("model.regrain.safetensors")


def test_ctrl_c_keeps_the_best_point(tiny, start):  # noqa: F811
    process = start(4, max_drop="5%")  # the check, the original, a point that is good enough, the next one
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (0, ""), stderr
    assert "interrupted: the best point so far was taken" in " ".join(stdout.split())
    found = regrain.inspect(artifact(tiny))
    assert found.files[0].receipt["outcome"] == "met"
    assert regrain.verify(artifact(tiny), tiny).differences


def test_ctrl_c_before_there_is_a_point(tiny, start):  # noqa: F811
    process = start(1)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr == "interrupted: what was measured is kept, and --resume goes on from it\n"
    assert not artifact(tiny).exists()


def test_ctrl_c_takes_nothing_of_the_point_being_built(tiny):  # noqa: F811
    """Interrupted as soon as there is a point, a job ends with what a replay of that point's recipe writes."""
    options = {"task": TASK, "max_drop": "5%", "threads": 1}

    def interrupt(point, best):
        if best is not None:
            signal.raise_signal(signal.SIGINT)

    listener = Listener(point=interrupt)
    result = regrain.compress(tiny, tiny.with_name("a.safetensors"), listener=listener, **options)
    assert "interrupted: the best point so far was taken" in result.notes
    planned = regrain.plan(tiny, listener=listener, **options)
    assert [point.ok for point in planned.points][-1] and planned.best is planned.points[-1]
    replayed = regrain.compress(tiny, tiny.with_name("b.safetensors"), recipe=planned.recipe, **options)
    assert result.receipt["outcome"] == "met"
    assert result.receipt["judgement"][-1]["accepted"]
    for name, weights in regrain.numpy.load_file(result.path).items():
        assert weights.tobytes() == regrain.numpy.load_file(replayed.path)[name].tobytes()


def test_killed_and_resumed_is_as_if_nothing_had_happened(tiny, start, tmp_path):  # noqa: F811
    process = start(4)
    process.kill()
    process.communicate(timeout=60)
    assert not artifact(tiny).exists()
    options = {"task": TASK, "max_drop": "1%", "threads": 1}
    resumed = regrain.compress(tiny, resume=True, **options).path.read_bytes()
    whole = regrain.compress(tiny, tmp_path / "whole.safetensors", work=tmp_path / "work", **options)
    assert resumed == whole.path.read_bytes()


def test_progress_is_shown_on_a_terminal_only(tiny):  # noqa: F811
    main, terminal = pty.openpty()
    arguments = [*COMMAND, "plan", str(tiny), "--task", str(TASK), "--max-drop", "1%", "--threads", "1"]
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=terminal, env=environment() | {"TERM": "xterm", "COLUMNS": "160"}
    ) as run:
        os.close(terminal)
        seen = b""
        while True:
            try:
                part = os.read(main, 4096)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            seen += part
        assert run.stdout is not None
        printed = run.stdout.read()
    os.close(main)
    assert run.returncode == 0, seen
    assert b"MB at" in seen and b"% of the limit" in seen and b"(Ctrl-C: take it; twice: stop)" in seen
    assert b"\x1b" not in printed and b"bits per weight" in printed
