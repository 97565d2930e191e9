"""Exit codes, error texts, and interrupted runs."""

import os
import pty
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from regrain.cli.failures import explain
from regrain.cli.output import percent, shorten
from regrain.core.errors import CorruptArtifactError, RegrainError

from .conftest import COMMAND, environment


def check(result, code, *texts):
    """Exit code, one line on stderr with these texts, nothing on stdout."""
    assert result.returncode == code, result.stderr
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1, result.stderr
    for text in texts:
        assert text in result.stderr


def test_a_missing_model(shell, tmp_path):
    check(
        shell("compress", tmp_path / "absent.safetensors"),
        1,
        f"error: '{tmp_path}/absent.safetensors': No such file or directory: check the path",
    )


def test_an_output_that_exists(shell, model):
    output = model.with_name("model.regrain.safetensors")
    output.write_text("precious")
    check(shell("compress", model), 1, "error: output must not exist yet", "--force")
    assert output.read_text() == "precious"
    assert shell("compress", model, "--force").returncode == 0


def test_a_damaged_artifact(shell, model):
    assert shell("compress", model).returncode == 0
    artifact = model.with_name("model.regrain.safetensors")
    data = bytearray(artifact.read_bytes())
    data[len(data) // 2] ^= 1
    artifact.write_bytes(data)
    check(shell("verify", artifact), 1, "error: tensor '", "block ")
    restored = model.with_name("again.safetensors")
    check(shell("restore", artifact, "-o", restored), 1, "error: tensor '")
    assert not restored.exists()


def test_a_model_is_no_artifact(shell, model):
    check(shell("inspect", model), 1, "error: artifact must be a file that regrain wrote", "compress it first")


def test_no_model_at_all(shell, tmp_path):
    (tmp_path / "notes.txt").write_text("these are no weights")
    check(shell("profile", tmp_path / "notes.txt"), 1, "error: ")
    check(shell("profile", tmp_path), 1, "error: directory must hold a .safetensors file")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["compress"], "Missing argument"),
        (["squeeze"], "No such command"),
        (["compress", "x", "--threads", "0"], "--threads"),
        (["profile", "x", "--max-sparsity", "half"], "max_sparsity must be a fraction such as 0.3 or 30%, not 'half'"),
        (["profile", "x", "--max-sparsity", "40"], "max_sparsity must be a fraction from 0 to 1, not 40.0"),
        (["profile", "x", "--block", "16"], "block must be rows x columns such as 16x1, not '16'"),
        (["profile", "x", "--block", "0x1"], "block must be rows x columns such as 16x1, not '0x1'"),
        (["profile", "x", "--low-entropy", "7"], "low_entropy must be 0 to high_entropy (6 bits), not 7.0"),
        (["restore", "x"], "Missing option"),
    ],
)
def test_wrong_usage_exits_with_2(run, arguments, text):
    result = run(*arguments)
    assert result.exit_code == 2
    assert text in " ".join(result.stderr.replace("│", " ").split())


def test_the_model_is_no_output_for_itself(run, model):
    before = model.read_bytes()
    result = run("compress", model, "-o", model, "--force")
    assert result.exit_code == 2
    assert model.read_bytes() == before


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Path:
    """200 MB of weights in ten tensors."""
    path = tmp_path_factory.mktemp("large") / "model.safetensors"
    weights = np.random.default_rng(0).normal(size=5_000_000).astype(np.float32)
    save_file({f"w{i}": weights + np.float32(i) for i in range(10)}, path)
    return path


def writing(pid, folder):
    """Whether a process has a file open in a folder, one without a name included."""
    links = (os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir())
    try:
        return any(link.startswith(f"{folder}/") for link in links)
    except FileNotFoundError:  # closed meanwhile
        return False


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "terminated"),
        (signal.SIGHUP, 129, "terminated"),
    ],
)
def test_an_interrupted_run_leaves_nothing_behind(large, tmp_path, number, code, word):
    output = tmp_path / "out.regrain.safetensors"
    process = subprocess.Popen(
        [*COMMAND, "compress", str(large), "-o", str(output)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # nohup would have it ignored
    )
    deadline = time.monotonic() + 60
    while not writing(process.pid, tmp_path) and time.monotonic() < deadline:
        time.sleep(0.002)
    assert process.poll() is None, "the run ended before it could be interrupted"
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout, stderr) == (code, "", f"{word}: nothing was left behind\n")
    assert list(tmp_path.iterdir()) == []


def test_a_closed_pipe_is_no_traceback(model):
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run(
        [*COMMAND, "profile", str(model)], stdout=writer, stderr=subprocess.PIPE, env=environment(), timeout=60
    )
    os.close(writer)
    assert result.returncode == 1
    assert result.stderr == b""


@pytest.mark.parametrize("verb", ["profile", "compress"])
def test_progress_is_shown_on_a_terminal_only(shell, model, verb):
    piped = shell(verb, model)
    assert (piped.returncode, piped.stderr) == (0, "")
    assert "\x1b" not in piped.stdout
    main, terminal = pty.openpty()
    arguments = [*COMMAND, verb, str(model), *(["--force"] if verb == "compress" else [])]
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=terminal, env=environment() | {"TERM": "xterm"}
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
    assert run.returncode == 0
    assert {"profile": b"profiling", "compress": b"compressing"}[verb] in seen
    assert b"\x1b" not in printed


def test_errors_in_words():
    error = CorruptArtifactError("checksum must be 1, not 2", tensor="w", block=3)
    error.add_note("in model.regrain.safetensors")
    assert explain(error) == "tensor 'w', block 3: checksum must be 1, not 2 (in model.regrain.safetensors)"
    assert explain(RegrainError("first\n  second")) == "first second"
    assert explain(FileNotFoundError(2, "No such file", "x")) == "'x': No such file: check the path"
    assert explain(OSError("odd")) == "odd"
    assert explain(OSError()) == "OSError"


def test_names_are_shortened_where_they_matter_least():
    name = "encoder.layer.0.attention.self.query.weight"
    assert shorten(name, 80) == name
    assert shorten(name, 29) == "enc.lay.0.att.sel.que.weight"
    assert shorten(name, 24) == "e.l.0.att.sel.que.weight"
    assert shorten("x" * 30, 9) == "xxxx…xxxx"
    for width in range(1, 50):
        assert len(shorten(name, width)) <= width


def test_small_fractions_are_not_shown_as_nothing():
    assert [percent(x) for x in (None, 0.0, 0.0001, 0.001, 0.5)] == ["-", "0.0", "<0.1", "0.1", "50.0"]
