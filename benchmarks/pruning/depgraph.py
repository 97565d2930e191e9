"""torch-pruning: whole channels, and what depends on them, by DepGraph (Fang et al., 2023)."""

from __future__ import annotations

import copy
import gc
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from subject import ENCODER, Subject, gradients
from torch import nn
from work import work

TRIALS = 9
"""Halvings of the interval of pruning ratios: the tool takes a fraction of channels, not of work."""


@dataclass(frozen=True, slots=True)
class Setting:
    """importance: the name of one of the tool's, with its options. gradient: power of the gradients that it wants, 0
    for none. everywhere: units of all layers are ranked together, else each layer loses the same fraction. isomorphic:
    together only where the dependencies are alike. heads: attention heads go, too, at the same fraction.
    """

    name: str
    importance: str
    options: Mapping[str, Any] = field(default_factory=dict)
    gradient: int = 0
    everywhere: bool = False
    isomorphic: bool = False
    heads: bool = False

    def __str__(self) -> str:
        ranking = "isomorphic" if self.isomorphic else "global" if self.everywhere else "by layer"
        return f"{self.name}, {ranking}" + (", with heads" if self.heads else "")


def prune(subject: Subject, setting: Setting, removed: float) -> nn.Module:
    """A network without that fraction of its multiply-adds, as near as the tool's ratio can come to it."""
    low, high = 0.0, 1.0
    best = subject.load()
    for _ in range(TRIALS):
        ratio = (low + high) / 2
        model = _pruned(subject, setting, ratio)
        found = work(subject, model).skipped
        low, high = (ratio, high) if found < removed else (low, ratio)
        if abs(found - removed) < abs(work(subject, best).skipped - removed):
            best = model
    del model
    gc.collect()  # the tool's graphs hold each other, and a network each
    return best


def _pruned(subject: Subject, setting: Setting, ratio: float) -> nn.Module:
    import torch_pruning as tool

    model = copy.deepcopy(subject.load())
    if setting.gradient:
        found = gradients(subject, setting.gradient)
        for name, parameter in model.named_parameters():
            parameter.grad = found[name].clone() if name in found else None
    heads = _heads(model) if subject is ENCODER else {}
    pruner = tool.pruner.BasePruner(
        model,
        next(iter(subject.inputs("calibration"))),
        importance=getattr(tool.importance, setting.importance)(**setting.options),
        global_pruning=setting.everywhere,
        isomorphic=setting.isomorphic,
        pruning_ratio=ratio,
        ignored_layers=subject.fixed(model) + ([] if setting.heads else list(heads)),
        num_heads=heads,
        prune_num_heads=setting.heads,
        prune_head_dims=False,
        head_pruning_ratio=ratio if setting.heads else 0.0,
        in_channel_groups={},  # the tool's defaults are dictionaries that all pruners would share
        out_channel_groups={},
        forward_fn=subject.output,
    )
    pruner.step()
    if setting.heads:
        _narrow(model, pruner.num_heads)
    model.zero_grad()
    return model


def _attention(model: nn.Module) -> list[Any]:
    return [layer.attention.self for layer in model.encoder.layer]


def _heads(model: nn.Module) -> dict[nn.Module, int]:
    return {
        projection: attention.num_attention_heads
        for attention in _attention(model)
        for projection in (attention.query, attention.key, attention.value)
    }


def _narrow(model: nn.Module, heads: dict[nn.Module, int]) -> None:
    """What the tool leaves to its user: attention's own notes of its shape."""
    for attention in _attention(model):
        attention.num_attention_heads = heads[attention.query]
        attention.all_head_size = attention.query.out_features
