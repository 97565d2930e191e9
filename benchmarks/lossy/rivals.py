"""Tools that keep an accuracy budget: python benchmarks/lossy/rivals.py [--tool NAME ...]

Each calibrates on the calibration split and looks as often as it likes at those for search and for holding out, which
is more than the regrain command gets. What it then loses on the audit split decides.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import results  # first: it makes the folder above this one importable
import torch
from budgets import FASHION, RETRIEVAL, Item, Subject
from stored import as_safetensors
from timing import processors

from regrain.accuracy import compare


@dataclass(frozen=True, slots=True)
class Left:
    """What a rival gives: the bytes of its weights' file, and a model to audit."""

    bytes: int
    model: torch.nn.Module


@dataclass(frozen=True, slots=True)
class Rival:
    """A tool with its settings on a subject."""

    tool: str
    config: str
    subject: Subject
    run: Callable[[Subject], Left]
    note: str


def nncf(subject: Subject) -> Left:
    """Accuracy control on the model as OpenVINO has it: all to int8, then operations back to floating point, worst
    first, until the budget is kept.
    """
    import nncf as tool
    import openvino

    batches = subject.calibrate()
    model = openvino.convert_model(subject.load(), example_input=batches[0], **subject.conversion)

    def validate(compiled: Any, items: Any) -> tuple[float, list[float]]:
        scores = subject.score(subject.runnable(compiled), list(items))
        return sum(scores) / len(scores), scores

    quantized = tool.quantize_with_accuracy_control(
        model,
        tool.Dataset(batches, subject.feed),
        tool.Dataset(subject.validate()),
        validate,
        max_drop=subject.budget,
        drop_type=tool.DropType.RELATIVE if subject.relative else tool.DropType.ABSOLUTE,
        subset_size=len(batches),
        model_type=tool.ModelType.TRANSFORMER if subject.transformer else None,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.xml")
        openvino.save_model(quantized, path)
        return Left(path.with_suffix(".bin").stat().st_size, subject.runnable(openvino.compile_model(path, "CPU")))


def neural_compressor(subject: Subject) -> Left:
    """`autotune` over weight-only settings, smallest first, until one keeps the budget."""
    from neural_compressor.common.base_tuning import TuningConfig
    from neural_compressor.torch.quantization import RTNConfig, autotune

    items = subject.validate()

    def evaluate(model: torch.nn.Module) -> float:
        scores = subject.score(model, items)
        return sum(scores) / len(scores)

    settings = [RTNConfig(bits=bits, group_size=size) for bits in (4, 8) for size in (128, 32)]
    model = autotune(subject.load(), TuningConfig(config_set=settings, tolerable_loss=subject.budget), evaluate)
    if model is None:
        raise SystemExit(f"neural-compressor found no setting within the budget of {subject.name}")
    state = model.state_dict()
    codes = {name: tensor for name, tensor in state.items() if not tensor.is_floating_point()}
    return Left(as_safetensors(codes, state).bytes, model)


RIVALS = (
    Rival(
        "nncf",
        "OpenVINO, int8",
        FASHION,
        nncf,
        "bytes of model.bin; the graph's .xml and compiled code are not counted",
    ),
    Rival(
        "nncf",
        "OpenVINO, int8",
        RETRIEVAL,
        nncf,
        "bytes of model.bin; the graph's .xml and compiled code are not counted",
    ),
    Rival(
        "neural-compressor",
        "autotune, RTN 4 and 8 bits, groups of 128 and 32",
        RETRIEVAL,
        neural_compressor,
        "linear layers only; the rest, embeddings included, is counted as float16",
    ),
)


def main() -> None:
    tools = sorted({rival.tool for rival in RIVALS})
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tool", action="append", choices=tools, help="only this one; may be repeated (default: all)")
    parser.add_argument(
        "--results", type=Path, default=results.FOLDER, help="folder to write to (default: %(default)s)"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    for rival in RIVALS:
        if not args.tool or rival.tool in args.tool:
            with processors(1):
                row = measure(rival)
            results.keep(results.file(args.results), "rivals", row)
            print(row, flush=True)


def measure(rival: Rival) -> results.Row:
    """One row: the rival's bytes, what it lost where it looked and on the audit split, with a bound, and its time."""
    subject = rival.subject
    start = time.process_time()
    left = rival.run(subject)
    seconds = time.process_time() - start
    original, items = subject.load(), subject.validate()
    weights = sum(tensor.numel() for tensor in original.state_dict().values() if tensor.is_floating_point())
    drop = compare(subject.audit(original), subject.audit(left.model))
    lost = drop.relative if subject.relative else drop.drop
    return {
        "tool": rival.tool,
        "version": results.installed(rival.tool),
        "task": subject.name,
        "config": rival.config,
        "budget": subject.budget,
        "relative": subject.relative,
        "metric": subject.metric,
        "bytes": left.bytes,
        "bits_per_weight": 8 * left.bytes / weights,
        "validation_drop": _lost(subject, original, left.model, items),
        "audit": drop.to_json(),
        "audit_drop": lost,
        "within_budget": lost <= subject.budget,
        "seconds": seconds,
        "note": rival.note,
    }


def _lost(subject: Subject, before: torch.nn.Module, after: torch.nn.Module, items: list[Item]) -> float:
    first, second = (torch.tensor(subject.score(model, items)).mean().item() for model in (before, after))
    return (first - second) / (first if subject.relative else 1.0)


if __name__ == "__main__":
    main()
