"""The monitor as a callback of transformers' Trainer."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from regrain.core.errors import TrainingError
from regrain.training.monitor import AccuracyMonitor

STATE = "regrain_monitor.pt"
"""The file beside a checkpoint's weights."""


class MonitorCallback(TrainerCallback):  # type: ignore[misc, unused-ignore] # where transformers has no types
    """Makes a monitor when training begins, tells it every step, saves it in checkpoints, and goes on from them.

    `make` gives a new AccuracyMonitor of the model. If that has no `evaluate`, `metrics` of the Trainer's own
    evaluations, such as "eval_accuracy", are what it observes. Weights in checkpoints are those behind the recipe;
    after training, `monitor.finish()` and `monitor.compress(path)` are the caller's. With `load_best_model_at_end` the
    monitor goes back to the best checkpoint, too. `resume` names the folder that training goes on from, unless it is
    the output directory's.
    """

    def __init__(
        self,
        make: Callable[[nn.Module], AccuracyMonitor],
        metrics: Sequence[str] = (),
        resume: str | os.PathLike[str] | None = None,
    ) -> None:
        self._make, self._metrics, self._resume = make, tuple(metrics), resume
        self._monitor: AccuracyMonitor | None = None

    @property
    def monitor(self) -> AccuracyMonitor:
        """The monitor. Raises TrainingError before training has begun."""
        if self._monitor is None:
            raise TrainingError("the monitor must be asked for when training has begun: call trainer.train first")
        return self._monitor

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        """Weights pass through the recipe from here on."""
        if self._monitor is not None:
            raise TrainingError("a callback must be of one training: make a new one")
        self._monitor = self._make(more["model"])
        if state.global_step:
            folder = _checkpoint(args, state) if self._resume is None else Path(self._resume)
            self._monitor.load_state_dict(_read(folder))

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """One step of the optimizer is done."""
        self.monitor.step()

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any) -> None:
        """Observe the Trainer's metrics, unless the monitor has its own evaluation."""
        if not self._metrics or self._monitor is None:
            return
        found: Mapping[str, float] = more.get("metrics") or {}
        missing = [name for name in self._metrics if name not in found]
        if missing:
            raise TrainingError(f"metrics must be among {', '.join(sorted(found))}, not {missing[0]!r}")
        self._monitor.observe({name: found[name] for name in self._metrics})

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Save the monitor beside the weights."""
        if state.is_world_process_zero:
            torch.save(self.monitor.state_dict(), _checkpoint(args, state) / STATE)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Go back to what belongs to the weights that the Trainer has gone back to."""
        if args.load_best_model_at_end and state.best_model_checkpoint is not None:
            self.monitor.load_state_dict(_read(Path(state.best_model_checkpoint)))


def _checkpoint(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(args.output_dir or "") / f"checkpoint-{state.global_step}"


def _read(folder: Path) -> Mapping[str, Any]:
    path = folder / STATE
    if not path.is_file():
        raise TrainingError(f"{str(path)!r} must be there to go on from: train with this callback from the start")
    state: Mapping[str, Any] = torch.load(path, weights_only=True)
    return state
