"""The verb: from an artifact on disk to a page on disk, in Python and on the command line."""

import json

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import typer
from typer.testing import CliRunner

from regrain import OutputExistsError, UnsupportedModelError, compress
from regrain.cli import report as verb
from regrain.pipelines.report import report


@pytest.fixture
def model(tmp_path):
    """Two shards and their index, as a hub serves them."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "hub"
    folder.mkdir()
    weight_map = {}
    for number in (1, 2):
        name = f"model-{number:05}-of-00002.safetensors"
        tensors = {f"h.{number}.w": rng.normal(size=(64, 96)).astype(ml_dtypes.bfloat16)}
        safetensors.numpy.save_file(tensors, folder / name)
        weight_map |= dict.fromkeys(tensors, name)
    index = json.dumps({"metadata": {}, "weight_map": weight_map})
    (folder / "model.safetensors.index.json").write_text(index)
    return folder


@pytest.fixture
def artifact(model, tmp_path):
    compress(model, tmp_path / "small")
    return tmp_path / "small"


def one_file(folder):
    return folder / "model-00001-of-00002.regrain.safetensors"


def test_a_lossless_file(artifact, tmp_path, parse):
    out = tmp_path / "report.html"
    result = report(one_file(artifact), out)
    page = parse(out.read_text(encoding="utf-8"))
    assert result.to_json() == {"path": str(out), "bytes": out.stat().st_size}
    assert "6,144 weights in " in page.text
    assert "every bit is that of the original" in page.text
    assert page.data["layers"]["name"] == ["h.1.w"]
    assert page.data["layers"]["scheme"] == ["lossless, rans"]


def test_a_directory(artifact, tmp_path, parse):
    report(artifact, tmp_path / "report.html")
    page = parse((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "12,288 weights in " in page.text
    assert page.data["layers"]["name"] == ["h.1.w", "h.2.w"]


def test_the_same_artifact_gives_the_same_bytes(artifact, tmp_path):
    for name in ("a.html", "b.html"):
        report(artifact, tmp_path / name)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert str(tmp_path) not in (tmp_path / "a.html").read_text()


def test_nothing_is_overwritten_unasked(artifact, tmp_path):
    out = tmp_path / "report.html"
    out.write_text("mine")
    with pytest.raises(OutputExistsError, match="output must not exist yet"):
        report(artifact, out)
    assert out.read_text() == "mine"
    report(artifact, out, force=True)
    assert out.read_text().startswith("<!doctype html>")


def test_the_artifact_is_never_overwritten(artifact):
    file = one_file(artifact)
    before = file.read_bytes()
    with pytest.raises(OutputExistsError, match="out must be another file"):
        report(file, file, force=True)
    assert file.read_bytes() == before


def test_plain_weights_have_no_report(model, tmp_path):
    with pytest.raises(UnsupportedModelError, match="compress it first"):
        report(model, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


@pytest.fixture
def run():
    app = typer.Typer()
    app.command("report")(verb.command)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_command(run, artifact, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run(artifact)
    assert done.exit_code == 0, done.output
    size = (tmp_path / "report.html").stat().st_size
    assert done.stdout == f"report.html {size / 1e6:.3f} MB\n"


def test_command_json_and_open(run, artifact, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    out = tmp_path / "a b.html"
    done = run(artifact, "-o", out, "--json", "--open")
    assert json.loads(done.stdout) == {"path": str(out), "bytes": out.stat().st_size}
    assert opened == [out.resolve().as_uri()]
    assert isinstance(run(artifact, "-o", out).exception, OutputExistsError)
    assert run(artifact, "-o", out, "--force").exit_code == 0
