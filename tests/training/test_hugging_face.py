"""The callback of transformers' Trainer: steps, metrics, checkpoints, and going on from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import Trainer, TrainingArguments

from regrain.core.errors import TrainingError
from regrain.core.recipe import Recipe
from regrain.training import AccuracyMonitor, Limit, Ramp, Schedule
from regrain.training.hugging_face import STATE, MonitorCallback

pytestmark = pytest.mark.filterwarnings("ignore")


class Classifier(nn.Module):
    """As the Trainer wants it: labels in, loss and logits out."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        logits = self.net(images)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def run(folder: Path, model: nn.Module, examples: list, callback: MonitorCallback, **options: object) -> Trainer:
    steps, resume = options.pop("steps", 8), options.pop("resume", None)
    arguments = TrainingArguments(
        str(folder), max_steps=steps, per_device_train_batch_size=16, eval_strategy="steps", eval_steps=4,
        save_strategy="steps", save_steps=4, report_to=[], use_cpu=True, disable_tqdm=True, seed=0, **options,
    )  # fmt: skip

    def accuracy(found) -> dict[str, float]:
        return {"accuracy": float((found.predictions.argmax(1) == found.label_ids).mean())}

    trainer = Trainer(
        model, arguments, train_dataset=examples, eval_dataset=examples, compute_metrics=accuracy, callbacks=[callback]
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer


@pytest.fixture
def examples(images, labels) -> list[dict[str, torch.Tensor]]:
    return [{"images": image, "labels": label} for image, label in zip(images, labels, strict=True)]


@pytest.fixture
def callback(recipe) -> MonitorCallback:
    return fresh(recipe)


def fresh(recipe: Recipe) -> MonitorCallback:
    inner = Recipe(tuple(replace(plan, name=f"net.{plan.name}") for plan in recipe.layers))
    return MonitorCallback(
        lambda model: AccuracyMonitor(
            model, None, inner, Limit(threshold=0.99), schedule=Schedule(sample=3), ramp=Ramp(0, 4, 1)
        ),
        ("eval_accuracy",),
    )


def test_resumed_training_is_the_same_training(net, examples, recipe, callback, tmp_path) -> None:
    start = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    run(tmp_path, Classifier(net), examples, callback)
    whole = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    assert [record.step for record in callback.monitor.log] == [4, 8]
    assert (tmp_path / "checkpoint-4" / STATE).is_file()

    net2 = type(net)(*net)
    callback.monitor.detach()
    net2.load_state_dict(start)
    again = fresh(recipe)
    run(tmp_path, Classifier(net2), examples, again, resume=str(tmp_path / "checkpoint-4"))
    assert all(torch.equal(whole[name], tensor) for name, tensor in net2.state_dict().items())
    assert again.monitor.log == callback.monitor.log
    again.monitor.finish()
    again.monitor.compress(tmp_path / "net.regrain.safetensors")


def test_monitor_goes_back_to_the_best_checkpoint(net, examples, callback, tmp_path) -> None:
    trainer = run(
        tmp_path, Classifier(net), examples, callback,
        load_best_model_at_end=True, metric_for_best_model="accuracy", learning_rate=1e-3,
    )  # fmt: skip
    best = Path(trainer.state.best_model_checkpoint)
    assert callback.monitor.steps == int(best.name.removeprefix("checkpoint-"))


def test_checkpoints_without_a_monitor_and_second_trainings_are_refused(
    net, examples, recipe, callback, tmp_path
) -> None:
    with pytest.raises(TrainingError, match=r"must be asked for when training has begun: call trainer.train first"):
        _ = callback.monitor
    trainer = run(tmp_path, Classifier(net), examples, callback, steps=4)
    with pytest.raises(TrainingError, match="a callback must be of one training: make a new one"):
        trainer.train()
    callback.monitor.detach()
    (tmp_path / "checkpoint-4" / STATE).unlink()
    with pytest.raises(TrainingError, match="must be there to go on from: train with this callback from the start"):
        run(tmp_path, Classifier(net), examples, fresh(recipe), resume=str(tmp_path / "checkpoint-4"))


def test_metrics_must_be_there(net, examples, callback, tmp_path) -> None:
    callback._metrics = ("eval_f1",)
    with pytest.raises(TrainingError, match="metrics must be among .*eval_accuracy.*, not 'eval_f1'"):
        run(tmp_path, Classifier(net), examples, callback)
