"""Bits per weight of whole files."""

from __future__ import annotations

from typing import Any

from models import MODELS, artifact_file, model_file
from peers import missing, peers
from setup import Setup
from tables import Goal, Shown, Table

from regrain import inspect

GOALS = {"minilm-bf16": 10.62, "minilm-fp16": 13.62, "minilm-fp32": 26.15}


SLOW_LIMIT = 100e6
"""Bytes from which on a tool of a few MB/s is left out."""


def measure(setup: Setup) -> dict[str, Any]:
    models: dict[str, Any] = {}
    absent: list[str] = []
    for name in ("minilm-bf16",) if setup.quick else MODELS:
        plain, artifact = model_file(name, setup.folder), artifact_file(name, setup.folder)
        if plain is None or artifact is None:
            absent.append(MODELS[name].package)
            continue
        data = plain.read_bytes()
        sizes = {"plain": len(data), "regrain": artifact.stat().st_size}
        for peer in peers(MODELS[name].dtype):
            if peer.fast or (not setup.quick and len(data) < SLOW_LIMIT):
                sizes[peer.name] = len(peer.compress(bytearray(data)))
        models[name] = {"weights": inspect(artifact).weights, "sizes": sizes}
    return {"models": models, "missing": absent + missing()}


def show(result: dict[str, Any]) -> Shown:
    models = result["models"]
    tools = list(dict.fromkeys(tool for found in models.values() for tool in found["sizes"]))
    rows, goals = [], []
    for name, found in models.items():
        bits = {tool: 8 * size / found["weights"] for tool, size in found["sizes"].items()}
        best = min(bits.values())
        cells = [_cell(bits.get(tool), best) for tool in tools]
        rows.append([MODELS[name].title, f"{found['weights'] / 1e6:.2f} M", *cells])
        if name in GOALS:
            goals.append(Goal(f"{MODELS[name].title}: b/w", bits["regrain"], GOALS[name], least=False, form=".3f"))
    return Shown([Table("Bits per weight", ["model", "weights", *tools], rows)], goals)


def _cell(bits: float | None, best: float) -> str:
    if bits is None:
        return ""
    return f"**{bits:.3f}**" if bits == best else f"{bits:.3f}"
