"""Receipts as the planner writes them: MiniLM's 104 tensors, and as many as one likes."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

Shape = list[int]

WIDTH, INNER, BLOCKS = 384, 1536, 6


def minilm() -> Iterator[tuple[str, Shape]]:
    """Names and shapes of all-MiniLM-L6-v2, position ids included."""
    yield "embeddings.position_ids", [1, 512]
    yield "embeddings.word_embeddings.weight", [30522, WIDTH]
    yield "embeddings.position_embeddings.weight", [512, WIDTH]
    yield "embeddings.token_type_embeddings.weight", [2, WIDTH]
    yield from norm("embeddings.LayerNorm")
    for block in range(BLOCKS):
        yield from encoder_block(f"encoder.layer.{block}")
    yield from dense("pooler.dense", WIDTH, WIDTH)


def encoder_block(prefix: str) -> Iterator[tuple[str, Shape]]:
    for part in ("query", "key", "value"):
        yield from dense(f"{prefix}.attention.self.{part}", WIDTH, WIDTH)
    yield from dense(f"{prefix}.attention.output.dense", WIDTH, WIDTH)
    yield from norm(f"{prefix}.attention.output.LayerNorm")
    yield from dense(f"{prefix}.intermediate.dense", INNER, WIDTH)
    yield from dense(f"{prefix}.output.dense", WIDTH, INNER)
    yield from norm(f"{prefix}.output.LayerNorm")


def dense(name: str, rows: int, columns: int) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", [rows, columns]
    yield f"{name}.bias", [rows]


def norm(name: str) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", [WIDTH]
    yield f"{name}.bias", [WIDTH]


def layer(name: str, shape: Shape, rng: random.Random) -> dict[str, object]:
    """A plausible entry: matrices are quantized by their sensitivity, vectors stay lossless."""
    weights = math.prod(shape)
    if len(shape) == 1:
        return {
            "name": name, "shape": shape, "kind": "vector", "weights": weights, "granularity": "tensor",
            "cell": [1, weights], "scheme": "lossless", "step": None, "bits": 26.1, "bytes": weights * 26 // 8,
            "predicted_loss": 0.0, "why": "a vector: too few weights for the bytes to matter",
        }  # fmt: skip
    embedding = "embeddings" in name
    bits = rng.gauss(2.1, 0.1) if embedding else rng.gauss(4.2, 0.45)
    sensitivity = rng.lognormvariate(-3.0 if embedding else 1.6, 0.7)
    spread = rng.uniform(0.03, 0.09)
    edges = [round(-4 * spread + 8 * spread * index / 64, 6) for index in range(65)]
    return {
        "name": name, "shape": shape, "kind": "embedding" if embedding else "linear", "weights": weights,
        "granularity": "row" if embedding else "group", "cell": [1, shape[1] if embedding else 64],
        "scheme": "quantized", "step": round(2.5 * spread / 2**bits, 6), "bits": round(bits, 3),
        "bytes": int(weights * bits / 8), "predicted_loss": 4e-5 * rng.lognormvariate(0.0, 0.9),
        "why": f"sensitivity {sensitivity:.3g}: a step of {2.5 * spread / 2**bits:.4g} balances damage against bytes",
        "sensitivity": sensitivity,
        "statistics": {
            "std": spread, "absmax": 9.3 * spread, "kurtosis": rng.uniform(3, 9), "exponent_entropy": 2.6,
            "int8_entropy": 7.3, "sparsity": 0.012, "input_mean": rng.gauss(0, 0.02), "input_variance": 0.41,
        },
        "histogram": {
            "edges": edges,
            "counts": [int(weights / 10 * math.exp(-((index - 31.5) ** 2) / 128)) for index in range(64)],
        },
    }  # fmt: skip


def point(number: int | None, bits: float, distance: float, feasible: bool, chosen: bool = False) -> dict[str, object]:
    drop = 0.9 * distance
    return {
        "point": number, "bits_per_weight": bits, "bytes": int(bits * 22_713_216 / 8), "D": distance,
        "predicted_D": distance * (1 + 0.1 * math.sin(number or 0)), "feasible": feasible, "chosen": chosen,
        "metrics": {
            "accuracy": {"after": 0.93 * (1 - drop), "relative": drop, "upper": drop + 0.004 if distance else 0.0},
            "spearman": {"after": 0.82 * (1 - drop / 2), "relative": drop / 2 - 0.002, "upper": drop / 2 + 0.004},
        },
    }  # fmt: skip


def frontier(*, chosen: bool = False) -> list[dict[str, object]]:
    """Eleven points, the one that was judged last among them, and lossless; D falls fourfold with each bit."""
    places = [2.0, 2.3, 2.56, 2.8, 3.12, 3.3, 3.62, 4.02, 4.5, 5.1, 6.2]
    points = [
        point(number, bits, 0.3 * 4.0**-bits, feasible=bits >= 3.12, chosen=chosen and bits == 3.12)
        for number, bits in enumerate(places)
    ]
    return [point(None, 26.76, 0.0, feasible=True), *points]


def predicted() -> list[list[float]]:
    """Bits per weight and D from fine to coarse."""
    return [[0.1 * tenths, 0.33 * 4.0 ** (-0.1 * tenths)] for tenths in range(90, 5, -3)]


def judgment(step: float, *, ok: bool = True, accepted: bool = False) -> dict[str, object]:
    """One recipe of the sequence; drops grow with the step, and the last one's bound is over the limit if it fails."""
    drop = 0.0007 + 0.003 * step + (0.0034 if not ok else 0.0)
    upper = drop + 0.0027
    verdict = "within" if ok else "over"
    return {
        "split": "held_out", "accepted": accepted, "step": step, "point": 4 if step == 1.0 else None, "ok": ok,
        "checks": [f"accuracy: {100 * drop / 0.93:.3g} %, at most {100 * upper / 0.93:.3g} % with 95 % confidence; "
                   f"{verdict} the limit of 1 %",
                   "spearman: -0.0487 %, at most 0.377 % with 95 % confidence; within the limit of 1 %",
                   f"D: {0.0057 * step:.3g}, at most {0.0058 * step:.3g} with 95 % confidence; "
                   "within the limit of 0.005"],
        "metrics": [
            {"name": "accuracy", "before": 0.93, "after": 0.93 - drop, "drop": drop, "relative": drop / 0.93,
             "upper": upper, "lower": drop - 0.0027, "limit": 0.0093, "n": 5000, "higher_is_better": True,
             "method": "Agresti-Min, paired"},
            {"name": "spearman", "before": 0.8213, "after": 0.8217, "drop": -0.0004, "relative": -0.0005,
             "upper": 0.0031, "lower": -0.0039, "limit": 0.0082, "n": 676, "higher_is_better": True,
             "method": "delete-a-group jackknife"},
        ],
        "fidelity": {"kind": "embeddings", "n": 1024, "D": 0.0057 * step, "D_upper": 0.0058 * step, "kl": None,
                     "kl_upper": None, "top1": None, "neighbor_overlap": 0.955 - 0.03 * step},
    }  # fmt: skip


def sequence() -> list[dict[str, object]]:
    """Five steps: the fourth is accepted, for the fifth fails."""
    held = [judgment(step, accepted=step == 0.7) for step in (0.15, 0.3, 0.5, 0.7)]
    return [*held, judgment(0.85, ok=False)]


def recipe_of(layers: list[dict[str, object]]) -> dict[str, object]:
    kept = ("granularity", "cell", "step", "bits")
    return {
        "version": 1, "budget": {"max_drop": 0.01, "confidence": 0.95},
        "layers": {str(each["name"]): {key: each[key] for key in kept} for each in layers},
    }  # fmt: skip


def receipt(tensors: list[tuple[str, Shape]] | None = None) -> dict[str, object]:
    """A lossy receipt with every part, as after `regrain compress minilm.safetensors --task … --max-drop 1%`."""
    rng = random.Random(0)
    layers = [layer(name, shape, rng) for name, shape in tensors or minilm()]
    return {
        "mode": "lossy", "regrain": "0.2.0", "outcome": "met", "machine": "x86-64, 2 cores", "seed": 0,
        "model": {"bytes": 90_888_945, "tensors": len(layers), "sha256": "53aa5117" * 8, "weights": 22_713_216},
        "task": {"name": "minilm", "sha256": "0f1e2d3c" * 8, "kind": "embeddings"},
        "budget": {"max_drop": 0.01, "max_drop_abs": None, "min_fidelity": 0.995, "max_bytes": None, "bits": None,
                   "confidence": 0.95},
        "sizes": {"original": 90_888_945, "artifact": 8_858_000, "lossless": 75_976_000, "bits_per_weight": 3.12,
                  "original_bits_per_weight": 32.01},
        "judgement": sequence(),
        "guard": 0.995,
        "frontier": frontier(),
        "predicted_frontier": predicted(),
        "latency": {"before_ms": 41.2, "after_ms": 40.9, "batch": "32 texts", "load_ms": 21.4, "plain_load_ms": 38.0},
        "cost": {"seconds": 203.4, "peak_memory_bytes": 1_214_000_000,
                 "phases": {"profile": 31.0, "search": 148.2, "judge": 24.2}},
        "recipe": recipe_of(layers),
        "command": "regrain compress minilm.safetensors --task examples/tasks/minilm/task.py --max-drop 1%",
        "layers": layers,
    }  # fmt: skip


def pruned(whole: dict[str, object]) -> dict[str, object]:
    """The same after `--objective work`: matrices of the encoder are pruned, and work is what was minimized."""
    layers = []
    for each in whole["layers"]:
        layer = dict(each)
        if layer["kind"] == "linear":
            columns = layer["name"].endswith("output.dense.weight")
            layer["pruning"] = {"pattern": "column" if columns else "block:16x1", "density": 0.6 if columns else 0.7}
            layer |= {"density": layer["pruning"]["density"], "scheme": "pruned", "granularity": "block", "step": None}
            layer |= {"work": 100 * layer["weights"]}
        layers.append(layer)
    points = [dict(each) for each in whole["frontier"]]
    for each in points:
        each["work"] = round(1e9 * min(1.0, each["bits_per_weight"] / 8))
    return whole | {
        "layers": layers,
        "frontier": points,
        "budget": {**whole["budget"], "max_work": 0.8},
        "predicted_work": [[100 - 8 * step, 1e-4 * 2.0**step] for step in range(8)],
        "work": {"original": 10**9, "artifact": 7 * 10**8},
        "objective": {"minimized": "work"},
        "selector": "search",
        "slim": {"channels": 1000, "weights": 2000},
    }  # fmt: skip


def many(count: int) -> list[tuple[str, Shape]]:
    """So many matrices, named as in a mixture of experts."""
    return [
        (f"model.layers.{index // 50}.block_sparse_moe.experts.{index % 50 // 2}.w{index % 2 + 1}.weight", [512, 384])
        for index in range(count)
    ]
