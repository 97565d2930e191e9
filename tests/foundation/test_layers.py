"""The shape of the package: which part may import which, and who may touch what.

import-linter knows the layers (pyproject.toml). The rest is beyond it: it sees neither compiled modules nor where in a
file an import stands. Those are read off the syntax trees here.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

SOURCE = Path(__file__).parents[2] / "src"
MODULES = sorted(SOURCE.rglob("*.py"))
# What is only for torch, and is itself imported only when it is asked for: these may import torch at their top.
FOR_TORCH = (
    "regrain.torch",
    "regrain.training",
    "regrain.runtime",
    "regrain.pipelines.demo",
    "regrain.pipelines.peers",
    "regrain.pipelines.sentences",
)
# These too, but inside functions.
WITH_TORCH = (*FOR_TORCH, "regrain.models", "regrain.profiling", "regrain.planning", "regrain.hw", "regrain.pipelines")


def name_of(path: Path) -> str:
    """regrain.core.errors for .../src/regrain/core/errors.py."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def within(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


def imported(node: ast.AST) -> Iterator[str]:
    """Every dotted name that an import statement may bind: `from a import b` gives a and a.b."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = "." * node.level + (node.module or "")
        yield base
        yield from (f"{base}.{alias.name}" for alias in node.names)


def executed_at_import(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run when the module is imported: no function bodies, nothing for type checkers only."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            yield from (inner for other in node.orelse for inner in (other, *executed_at_import(other)))
            continue
        yield node
        yield from executed_at_import(node)


def test_imports_only_go_down(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    assert lint_imports(no_cache=True, no_logo=True) == 0, "import-linter must pass; its findings are printed above"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_module(path: Path) -> None:
    module, tree = name_of(path), ast.parse(path.read_text())
    for node in ast.walk(tree):
        names = list(imported(node))
        assert not any(name.startswith(".") for name in names), f"{module}: imports must be absolute"
        if any("_native" in name.split(".") for name in names):
            assert within(module, "regrain.kernels"), f"{module}: only regrain.kernels may import the compiled module"
        reads_environment = (
            isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.environ", "os.environb", "os.getenv")
        ) or {"os.environ", "os.getenv"} & set(names)
        if reads_environment:
            assert within(module, "regrain.cli"), f"{module}: only regrain.cli may read the environment"
        if any(within(name, "torch") for name in names):
            assert within(module, *WITH_TORCH), f"{module}: only {WITH_TORCH} may import torch"

    for name in {name for node in executed_at_import(tree) for name in imported(node)}:
        if within(name, "torch", "safetensors.torch", "transformers"):
            assert within(module, *FOR_TORCH), f"{module}: {name} must be imported inside functions"
        if within(name, "typer", "rich", "pydantic"):
            assert within(module, "regrain.cli"), f"{module}: {name} must be imported inside functions"
        if within(name, *FOR_TORCH):
            assert within(module, *FOR_TORCH), f"{module}: {name} brings torch, and must be imported inside functions"


def test_verbs_are_lazy() -> None:
    tree = ast.parse((SOURCE / "regrain" / "__init__.py").read_text())
    eager = {name for node in executed_at_import(tree) for name in imported(node) if within(name, "regrain")}
    assert all(within(name, "regrain.core.errors") for name in eager), eager
