"""Errors say where, survive a process pool, and are caught by the class a reader would guess."""

from __future__ import annotations

import pickle

import pytest

import regrain


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ({}, "magic must be rgP1"),
        ({"tensor": "a.b"}, "tensor 'a.b': magic must be rgP1"),
        ({"block": 3}, "block 3: magic must be rgP1"),
        ({"tensor": "a.b", "block": 0}, "tensor 'a.b', block 0: magic must be rgP1"),
    ],
)
def test_corrupt_names_tensor_and_block(where: dict[str, object], text: str) -> None:
    error = regrain.CorruptArtifactError("magic must be rgP1", **where)
    assert str(error) == text
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is regrain.CorruptArtifactError
    assert (str(again), again.tensor, again.block) == (text, where.get("tensor"), where.get("block"))


@pytest.mark.parametrize(
    ("kind", "base"),
    [
        (regrain.CorruptArtifactError, ValueError),
        (regrain.UnsupportedArtifactError, ValueError),
        (regrain.UnsupportedModelError, ValueError),
        (regrain.OutputError, OSError),
        (regrain.OutputExistsError, FileExistsError),
    ],
)
def test_every_error_is_a_regrain_error(kind: type[Exception], base: type[Exception]) -> None:
    assert issubclass(kind, regrain.RegrainError)
    assert issubclass(kind, base)
    assert str(kind("said so")) == "said so"
