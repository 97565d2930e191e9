"""The monitor as a callback of Lightning's Trainer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from regrain.core.errors import TrainingError
from regrain.training.monitor import AccuracyMonitor

try:
    from lightning.pytorch import Callback
except ImportError:  # the same under its older name
    from pytorch_lightning import Callback  # type: ignore[assignment, unused-ignore]


class MonitorCallback(Callback):  # type: ignore[misc, unused-ignore] # where Lightning is not installed
    """Makes a monitor when fitting starts and tells it every step; checkpoints have its state.

    `make` gives a new AccuracyMonitor of the LightningModule. If that has no `evaluate`, logged `metrics` such as
    "val_accuracy" are what it observes when a validation ends. After fitting, `monitor.finish()` and
    `monitor.compress(path)` are the caller's.
    """

    def __init__(self, make: Callable[[nn.Module], AccuracyMonitor], metrics: Sequence[str] = ()) -> None:
        super().__init__()
        self._make, self._metrics = make, tuple(metrics)
        self._monitor: AccuracyMonitor | None = None
        self._restored: Mapping[str, Any] | None = None
        self._steps = 0

    @property
    def monitor(self) -> AccuracyMonitor:
        """The monitor. Raises TrainingError before fitting has started."""
        if self._monitor is None:
            raise TrainingError("the monitor must be asked for when fitting has started: call trainer.fit first")
        return self._monitor

    def on_fit_start(self, trainer: Any, pl_module: nn.Module) -> None:
        """Weights pass through the recipe from here on."""
        if self._monitor is not None:
            raise TrainingError("a callback must be of one fit: make a new one")
        self._monitor = self._make(pl_module)

    def on_train_start(self, trainer: Any, pl_module: nn.Module) -> None:
        """Go on from a checkpoint: by now the weights are its own."""
        if self._restored is not None:
            self.monitor.load_state_dict(self._restored)
        self._steps = trainer.global_step

    def on_train_batch_end(self, trainer: Any, pl_module: nn.Module, *_: Any) -> None:
        """Count steps of the optimizer: with gradients accumulated, not every batch makes one."""
        if trainer.global_step > self._steps:
            self._steps = trainer.global_step
            self.monitor.step()

    def on_validation_end(self, trainer: Any, pl_module: nn.Module) -> None:
        """Observe the metrics, unless the monitor has its own evaluation."""
        if not self._metrics or trainer.sanity_checking or self._monitor is None:
            return
        found = trainer.callback_metrics
        missing = [name for name in self._metrics if name not in found]
        if missing:
            raise TrainingError(f"metrics must be logged, as {', '.join(sorted(found))} are, not {missing[0]!r}")
        self._monitor.observe({name: float(found[name]) for name in self._metrics})

    def state_dict(self) -> dict[str, Any]:
        """The monitor's state."""
        return {} if self._monitor is None else self._monitor.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep a state until there is a monitor that can take it."""
        self._restored = state_dict or None
