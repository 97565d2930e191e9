"""A file is whole or not there: full disks, refusals, interrupts and kills."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import safetensors.numpy

import regrain
from regrain.artifact import output
from regrain.artifact.output import output_directory, output_file
from regrain.core.errors import OutputError


@pytest.fixture(params=["nameless", "named"], autouse=True)
def way(request, monkeypatch):
    """Both ways of writing a file: as Linux can, and as every system can."""
    if request.param == "named":
        monkeypatch.delattr(output.os, "O_TMPFILE")
    return request.param


@pytest.fixture
def model(tmp_path, small_model):
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file(small_model, path)
    return path


def test_a_whole_file_appears_with_usual_rights(tmp_path, way):
    path = tmp_path / "x"
    with output_file(path, force=False) as sink:
        sink.write(b"....")
        sink.write(memoryview(b"data"))
        assert len(os.listdir(tmp_path)) == (way == "named")
        sink.rewrite(b"head")
        sink.write(b"")
        sink.write(b"!")
        assert sink.offset == 9
    assert path.read_bytes() == b"headdata!"
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask
    assert os.listdir(tmp_path) == ["x"]


def test_an_existing_file_needs_force(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    text = "output must not exist yet, but .* does: overwrite it with --force"
    with pytest.raises(regrain.OutputExistsError, match=text), output_file(path, force=False):
        pass
    with output_file(path, force=True) as sink:
        sink.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


def test_a_file_that_appears_meanwhile_is_not_overwritten(tmp_path):
    path = tmp_path / "x"
    with pytest.raises(regrain.OutputExistsError), output_file(path, force=False):
        path.write_bytes(b"someone else's")
    assert os.listdir(tmp_path) == ["x"]
    assert path.read_bytes() == b"someone else's"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ZeroDivisionError])
def test_nothing_is_left_by_an_exception(tmp_path, error):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    with pytest.raises(error), output_file(path, force=True) as sink:
        sink.write(b"new")
        raise error
    with pytest.raises(error), output_directory(tmp_path / "d", force=False) as folder:
        (folder / "x").write_bytes(b"new")
        raise error
    assert os.listdir(tmp_path) == ["x"]
    assert path.read_bytes() == b"old"


def test_a_directory_appears_whole_and_replaces_another(tmp_path):
    path = tmp_path / "d"
    for text in ("one", "two"):
        with output_directory(path, force=text == "two") as folder:
            (folder / f"{text}.safetensors").write_text(text)
        assert os.listdir(path) == [f"{text}.safetensors"]
    assert os.listdir(tmp_path) == ["d"]
    with pytest.raises(regrain.OutputExistsError), output_directory(path, force=False):
        pass


def test_an_error_of_reading_stays_what_it_is(tmp_path):
    with pytest.raises(FileNotFoundError) as caught, output_file(tmp_path / "x", force=False):
        (tmp_path / "missing").read_bytes()
    assert not isinstance(caught.value, OutputError)


def test_a_disk_that_fills_up_at_any_write_leaves_nothing(model, monkeypatch):
    real, calls = os.write, []
    target = model.with_name("out")
    target.write_bytes(b"old")

    def write(fd, data):
        calls.append(len(data))
        if len(calls) == fail:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, data[: max(1, len(data) * 2 // 3)])  # partial writes are normal, too

    monkeypatch.setattr(output.os, "write", write)
    fail = 0  # the number of the call that fails, read by `write`
    regrain.compress(model, model.with_name("whole"))
    count = len(calls)
    whole = model.with_name("whole").read_bytes()
    assert count > 20
    for fail in range(1, count + 1):  # noqa: B007
        calls.clear()
        with pytest.raises(
            OutputError, match="cannot write, free some space or choose another disk: No space left"
        ) as caught:
            regrain.compress(model, target, force=True)
        assert caught.value.errno == errno.ENOSPC
        assert sorted(os.listdir(model.parent)) == ["model.safetensors", "out", "whole"]
        assert target.read_bytes() == b"old"
    fail = 0
    regrain.compress(model, target, force=True)
    assert target.read_bytes() == whole


@pytest.mark.parametrize("call", ["fsync", "replace", "open", "link"])
@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.EIO, "check the disk"),
        (errno.EACCES, "choose a directory that you may write to"),
        (errno.EROFS, "choose a directory on a disk that is not read-only"),
        (errno.EDQUOT, "free some of the quota"),
        (errno.EXDEV, "choose another place"),
    ],
)
def test_every_refusal_says_what_to_do(tmp_path, monkeypatch, way, call, code, remedy):
    def refuse(*_, **__):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        if call == "link" and way == "named":
            return
        patch.setattr(output.os, call, refuse)
        with pytest.raises(OutputError, match=remedy) as caught, output_file(tmp_path / "x", force=False) as sink:
            sink.write(b"data")
    assert isinstance(caught.value, regrain.RegrainError)
    assert caught.value.errno == code
    assert os.listdir(tmp_path) == []


def test_a_missing_directory_is_named(tmp_path):
    with (
        pytest.raises(OutputError, match="create the directory first"),
        output_file(tmp_path / "no" / "x", force=False),
    ):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="parent is a directory"), output_file(tmp_path / "file" / "x", force=False):
        pass


def run(script, *arguments):
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)])


def test_a_real_limit_of_the_file_size_leaves_nothing(model):
    process = run(
        """
        import resource, signal, sys
        import regrain
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
        try:
            regrain.compress(sys.argv[1])
        except regrain.RegrainError as error:
            sys.exit(7 if "takes files of this size" in str(error) else 8)
        """,
        model,
    )
    assert process.wait() == 7
    assert os.listdir(model.parent) == ["model.safetensors"]


@pytest.mark.parametrize("name", ["SIGKILL", "SIGINT"])
def test_a_killed_process_leaves_the_old_file(tmp_path, way, name):
    model, out = tmp_path / "model.safetensors", tmp_path / "out.safetensors"
    rng = np.random.default_rng(0)
    safetensors.numpy.save_file({str(i): rng.normal(size=1000).astype(np.float32) for i in range(20)}, model)
    out.write_bytes(b"old")
    process = run(
        """
        import os, pathlib, sys, time
        import regrain
        if sys.argv[3] == "named":
            del os.O_TMPFILE
        def progress(done, total):
            if done > total / 2:
                pathlib.Path(sys.argv[2] + ".ready").touch()
                time.sleep(60)
        regrain.compress(sys.argv[1], sys.argv[2], force=True, progress=progress)
        """,
        model,
        out,
        way,
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "out.safetensors.ready").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(getattr(signal, name))
    assert process.wait() != 0
    assert out.read_bytes() == b"old"
    left = sorted(os.listdir(tmp_path))
    temporary = [file for file in left if file.endswith(".tmp")]
    assert left == sorted([*temporary, "model.safetensors", "out.safetensors", "out.safetensors.ready"])
    # a kill that can't be caught leaves it, under a name no one opens; where there is no name, it leaves nothing
    assert len(temporary) == (name == "SIGKILL" and way == "named")
