"""The fuzzers' corpora, replayed with the address and undefined-behavior sanitizers on every instruction set.

The sanitized kernels are built once below build/fuzz, and again only where a source changed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TARGETS = ("decode", "encode", "expand")
MAX_INPUTS = 400
MAX_BYTES = 500_000


def corpus(root: Path, target: str) -> list[Path]:
    return sorted((root / "native" / "fuzz" / "corpus" / target).iterdir())


@pytest.fixture(scope="module")
def replayers(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs, one for each of TARGETS."""
    probe = tmp_path_factory.mktemp("probe") / "probe"
    command = [os.environ.get("CXX", "c++"), "-fsanitize=address,undefined", "-x", "c++", "-", "-o", probe]
    if subprocess.run(command, input="int main() {}", capture_output=True, text=True).returncode != 0:
        pytest.skip("this compiler has no sanitizers; on Fedora: dnf install libasan libubsan")
    build = root / "build" / "fuzz" / "replay"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # of cmake and ninja
    done = subprocess.run(
        [root / "native" / "fuzz" / "build.sh", "replay", build],
        env={**os.environ, "PATH": path}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return build


@pytest.mark.parametrize("target", TARGETS)
def test_replay(replayers: Path, root: Path, target: str) -> None:
    inputs = corpus(root, target)
    done = subprocess.run([replayers / target, *inputs], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-5000:]
    assert done.stdout == f"{len(inputs)} inputs replayed\n"


def test_the_corpora_are_small(root: Path) -> None:
    inputs = [path for target in TARGETS for path in corpus(root, target)]
    assert len(inputs) <= MAX_INPUTS
    assert sum(path.stat().st_size for path in inputs) <= MAX_BYTES
