"""What `import regrain` must not cost. Each test asks a fresh interpreter; times are measured in benchmarks/."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ["torch", "transformers", "typer", "rich", "pydantic", "safetensors", "ml_dtypes"]


def loaded_after(statement: str) -> list[str]:
    """Which of the heavy packages are in sys.modules after `statement`, in a fresh interpreter."""
    code = f"{statement}\nimport sys\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_import_regrain_is_cheap() -> None:
    assert loaded_after("import regrain") == []


def test_errors_need_nothing() -> None:
    assert loaded_after("from regrain import CorruptArtifactError, RegrainError, __version__") == []


@pytest.mark.parametrize("verb", ["compress", "inspect", "open", "profile", "restore", "verify"])
def test_verbs_need_no_framework(verb: str) -> None:
    """A verb's first use imports its pipeline, and still neither torch nor what only the command line needs."""
    loaded = loaded_after(f"import regrain\nassert callable(regrain.{verb})")
    assert not set(loaded) & {"torch", "transformers", "typer", "rich", "pydantic"}


@pytest.mark.parametrize("module", ["regrain.numpy", "regrain.cli"])
def test_torch_is_loaded_for_torch_alone(module: str) -> None:
    assert not set(loaded_after(f"import {module}")) & {"torch", "transformers"}


def test_public_names_all_exist() -> None:
    code = "import regrain\nfor name in regrain.__all__: getattr(regrain, name)\nassert dir(regrain) == regrain.__all__"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_unknown_name_is_an_attribute_error() -> None:
    import regrain

    with pytest.raises(AttributeError, match="module 'regrain' has no attribute 'regain'"):
        regrain.regain  # noqa: B018
