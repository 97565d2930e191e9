"""The callback of Lightning's Trainer: steps, metrics, checkpoints, and going on from them."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import pytest
import torch
from torch import nn

from regrain.core.errors import TrainingError
from regrain.core.recipe import Recipe
from regrain.training import AccuracyMonitor, Limit, Ramp, Schedule
from regrain.training.lightning import MonitorCallback

pytestmark = pytest.mark.filterwarnings("ignore")


class Module(lightning.LightningModule):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def training_step(self, batch: Any, _: int) -> torch.Tensor:
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: Any, _: int) -> None:
        self.log("accuracy", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), 3e-3)


@pytest.fixture
def loader(images, labels) -> torch.utils.data.DataLoader:
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images, labels), 16)


@pytest.fixture
def fit(loader, recipe, tmp_path):
    inner = Recipe(tuple(replace(plan, name=f"net.{plan.name}") for plan in recipe.layers))

    def run(net: nn.Module, epochs: int, checkpoint: Path | None = None, metric: str = "accuracy", **options: Any):
        callback = MonitorCallback(
            lambda module: AccuracyMonitor(
                module, None, inner, Limit(threshold=0.9), schedule=Schedule(sample=3), ramp=Ramp(0, 6, 2)
            ),
            (metric,),
        )
        trainer = lightning.Trainer(
            max_epochs=epochs, accelerator="cpu", callbacks=[callback], logger=False, default_root_dir=tmp_path,
            enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, **options,
        )  # fmt: skip
        trainer.fit(Module(net), loader, loader, ckpt_path=checkpoint)
        return callback, trainer

    return run


def test_resumed_fit_is_the_same_fit(net, fit, tmp_path) -> None:
    first, second = copy.deepcopy(net), copy.deepcopy(net)
    whole, _ = fit(net, 4)
    assert [record.step for record in whole.monitor.log] == [4, 8, 12, 16]
    _, trainer = fit(first, 2)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    again, _ = fit(second, 4, tmp_path / "half.ckpt")
    assert again.monitor.log == whole.monitor.log
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), second.state_dict().values(), strict=True))
    again.monitor.finish()
    again.monitor.compress(tmp_path / "net.regrain.safetensors")


def test_accumulated_batches_are_one_step(net, fit) -> None:
    callback, trainer = fit(net, 2, accumulate_grad_batches=4)
    assert callback.monitor.steps == trainer.global_step == 2


def test_metrics_must_be_logged(net, fit) -> None:
    with pytest.raises(TrainingError, match="metrics must be logged, as accuracy are, not 'f1'"):
        fit(net, 1, metric="f1")


def test_a_callback_is_of_one_fit(net, fit, loader) -> None:
    callback, trainer = fit(net, 1)
    with pytest.raises(TrainingError, match="a callback must be of one fit: make a new one"):
        trainer.fit(Module(net), loader)
    with pytest.raises(TrainingError, match="must be asked for when fitting has started"):
        _ = MonitorCallback(lambda _: callback.monitor).monitor
