"""all-MiniLM-L6-v2 as peers get it, and how good what they leave of it is, on texts that nobody chose anything by."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "tasks"))

import torch
from minilm import task

NAME = "all-MiniLM-L6-v2"
State = dict[str, torch.Tensor]
"""Name -> float32 tensor; integer buffers are left out."""


def original() -> State:
    """The model's weights, pooler included: everything that model.safetensors has of them."""
    return {name: tensor for name, tensor in _model().state_dict().items() if tensor.is_floating_point()}


def linears(state: State) -> list[str]:
    """The matrices that the model multiplies by."""
    return [name for name, tensor in state.items() if tensor.ndim == 2 and not name.startswith("embeddings.")]


def embeddings(state: State) -> list[str]:
    """The tables it looks words and positions up in; that of token types has two rows and is left alone by all."""
    return [
        name
        for name, tensor in state.items()
        if name.startswith("embeddings.") and tensor.ndim == 2 and len(tensor) > 2
    ]


def audit(state: State, *, metrics: bool = True) -> dict[str, float]:
    """How good the model is with these weights, computing in float32: D = 1 - mean cosine of its embeddings with the
    original's, and the task's metrics, which take four times as long.
    """
    model = task.load_model()
    missing, unexpected = model.load_state_dict(state, strict=False)
    if unexpected or any(name in original() for name in missing):
        raise SystemExit(f"weights are missing or too many: {[*missing, *unexpected]}")
    found = {"D": 1.0 - (_outputs() * _embed(model)).sum(dim=1).mean().item()}
    return found | {name: scores.value for name, scores in task.evaluate(model, "audit").items()} if metrics else found


@cache
def _model() -> torch.nn.Module:
    return task.load_model()


@cache
def _outputs() -> torch.Tensor:
    return _embed(_model())


@torch.inference_mode()
def _embed(model: torch.nn.Module) -> torch.Tensor:
    """Unit rows in double precision: D of the finest peers is below float32's resolution of a sum of squares."""
    found = torch.cat([task.output(model, batch) for batch in task.inputs("audit")]).double()
    return torch.nn.functional.normalize(found, dim=1)
