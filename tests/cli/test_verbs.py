"""Each verb: what it does, prints, and gives as JSON."""

import json
import re

import pytest

from regrain import __version__

VERBS = ["profile", "plan", "compress", "report", "inspect", "verify", "restore", "eval", "demo"]


@pytest.fixture
def artifact(model, run):
    assert run("compress", model).exit_code == 0
    return model.with_name("model.regrain.safetensors")


def text(result):
    """What was printed, in one line."""
    assert result.exit_code == 0, result.output
    return " ".join(result.stdout.split())


def one_json(result):
    assert result.exit_code == 0, result.output
    assert result.stdout.count("\n") == 1
    value = json.loads(result.stdout)
    assert result.stdout == json.dumps(value, sort_keys=True, separators=(",", ":")) + "\n"
    return value


def test_help_names_every_verb_and_the_exit_codes(run):
    printed = text(run("--help"))
    assert all(verb in printed for verb in VERBS)
    assert "0 done, 1 error, 2 usage, 3 the constraint cannot be met" in printed


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_each_verb_has_an_example(run, verb):
    assert f"Example: regrain {verb}" in text(run(verb, "--help"))


def test_version(run):
    assert run("--version").stdout == f"regrain {__version__}\n"


def test_there_and_back(model, run, artifact):
    original = model.read_bytes()
    restored = model.with_name("again.safetensors")
    assert "every bit is that of" in text(run("verify", artifact, "--against", model))
    assert "byte-identical to the original" in text(run("restore", artifact, "-o", restored))
    assert restored.read_bytes() == original


def test_compress_says_what_was_saved(model, run):
    printed = text(run("compress", model, "--threads", "1"))
    assert re.search(r"0\.\d{3} MB of 0\.0\d+ MB \(\d+\.\d %\), \d+\.\d\d bits per weight of \d+\.\d\d", printed)
    assert re.search(r"5 tensors: \d coded, \d kept as they are, 1 tied", printed)
    assert "MB in" in printed


def test_compress_json(model, run):
    found = one_json(run("compress", model, "-o", model.with_name("x.safetensors"), "--json"))
    assert set(found) >= {"path", "bytes", "original_bytes", "weights", "bits_per_weight", "files", "tensors", "notes"}
    assert found["original_bytes"] == model.stat().st_size
    assert found["bytes"] == model.with_name("x.safetensors").stat().st_size


def test_inspect(run, artifact):
    printed = text(run("inspect", artifact))
    assert "5 tensors" in printed
    assert "sha256 of the original" in printed
    assert "tied" in printed
    found = one_json(run("inspect", artifact, "--json"))
    assert {tensor["name"] for tensor in found["tensors"]} >= {"ids", "tied"}


def test_verify_and_restore_json(model, run, artifact):
    found = one_json(run("verify", artifact, "--against", model, "--json"))
    assert (found["tensors"], found["against"]) == (5, str(model))
    again = one_json(run("restore", artifact, "-o", model.with_name("again.safetensors"), "--json"))
    assert again["bytes"] == model.stat().st_size
    assert list(again["sha256"].values()) == list(found["sha256"].values())


def test_profile_json(model, run):
    found = one_json(run("profile", model, "--json", "--block", "4x2", "--max-sparsity", "50%", "--low-entropy", "1"))
    assert found["block"] == [4, 2]
    assert found["rule"] == {"high_entropy": 6.0, "low_entropy": 1.0, "max_sparsity": 0.5}
    assert found["totals"]["tensors"] == 5
    choices = {tensor["name"]: tensor["choice"] for tensor in found["tensors"]}
    assert choices["ids"] is None
    assert choices["tied"].keys() == {"granularity", "scheme", "why"}


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("verb", ["profile", "inspect"])
def test_tables_fit_the_terminal(model, run, artifact, width, verb):
    printed = run(verb, model if verb == "profile" else artifact, width=width).stdout
    table = printed.split("\n\n")[0].splitlines()
    assert len(table) == 6
    assert max(map(len, table)) <= width
    assert len({len(line) for line in table}) == 1  # nothing wraps
    assert "…" not in table[0]
    assert ("shape" in table[0]) == (width == 120)


def test_tables_are_sorted_by_bytes_and_have_totals(model, run):
    printed = run("profile", model, width=140).stdout
    lines = printed.splitlines()
    assert lines[1].startswith("encoder.layer.0.attention.self.query.weight")
    assert lines[2].startswith("tied")
    assert lines[3].startswith("[red]names are no markup[/red] :smile:")
    assert "5 tensors, 13,408 weights" in printed
    assert "lossless, predicted:" in printed


def test_long_tables_are_cut_unless_all_is_asked_for(tmp_path, run):
    import numpy as np
    from safetensors.numpy import save_file

    save_file({f"layer.{i}": np.full(100 + i, i, np.float32) for i in range(40)}, tmp_path / "many.safetensors")
    printed = run("profile", tmp_path / "many.safetensors").stdout
    assert "and 16 smaller, 0.007 MB (--all shows them)" in printed
    assert "layer.39" in printed
    assert "layer.0 " not in printed
    assert "layer.0 " in run("profile", tmp_path / "many.safetensors", "--all").stdout


def test_what_is_not_finite_is_pointed_out(tmp_path, run):
    import numpy as np
    from safetensors.numpy import save_file

    save_file({"w": np.array([[1.0, np.nan], [np.inf, 2.0]], np.float32)}, tmp_path / "odd.safetensors")
    assert "w: 1 NaN, 1 infinite" in text(run("profile", tmp_path / "odd.safetensors"))


def test_dynamic_sparsity_enable(run, model, tmp_path):
    """compress --dynamic sets the flag of every matrix and of nothing else; without it there is none."""
    out = tmp_path / "out.safetensors"
    for option, wanted in (((), False), (("--dynamic",), True)):
        assert run("compress", model, "--out", out, "--force", *option).exit_code == 0
        found = {tensor["name"]: tensor for tensor in json.loads(run("inspect", out, "--json").stdout)["tensors"]}
        for name, tensor in found.items():
            assert tensor["dynamic"] is (wanted and len(tensor["shape"]) == 2), name
        assert run("verify", out, "--against", model).exit_code == 0
