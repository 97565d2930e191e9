"""docs/tutorial.md works as it stands: its files are written, its programs and commands run, in its order."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import regrain

from .conftest import environment

TUTORIAL = (Path(__file__).parents[2] / "docs" / "tutorial.md").read_text()
BLOCKS = re.findall(r"^```(\w+)(?: title=(\S+))?\n(.*?)^```", TUTORIAL, re.DOTALL | re.MULTILINE)


def test_the_tutorial(tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    verbs = []
    for kind, title, text in BLOCKS:
        if kind == "python":
            Path(title).write_text(text)
            continue
        for program, *arguments in map(shlex.split, text.splitlines()):
            if program == "python":
                done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment())
                assert done.returncode == 0, done.stderr
            else:
                assert program == "regrain"
                result = run(*arguments)
                assert result.exit_code == 0, result.output
                verbs.append(arguments[0])
    assert verbs == ["profile", "plan", "compress", "compress", "compress", "restore", "report", "eval", "restore"]
    plain, compact = Path("model.safetensors"), Path("model.regrain.safetensors")
    assert compact.stat().st_size < 0.4 * plain.stat().st_size
    assert Path("dense.safetensors").stat().st_size == plain.stat().st_size
    assert Path("slim.safetensors").stat().st_size < 0.9 * plain.stat().st_size
    receipt = regrain.inspect(compact).files[0].receipt
    assert receipt["outcome"] == "met"
    assert Path("again.regrain.safetensors").read_bytes() == compact.read_bytes()
