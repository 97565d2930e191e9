"""Other ways to prune a network, each at its documented settings: the table of what is measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import depgraph
import oneshot
from depgraph import Setting
from oneshot import Keep
from subject import ENCODER, FASHION, Subject
from torch import nn


@dataclass(frozen=True, slots=True)
class Peer:
    """A tool with its settings on a subject. tool: the name of its distribution, or that of a published method.
    amount: how much it is to remove or keep, in its own terms.
    """

    subject: Subject
    tool: str
    config: str
    amount: str
    run: Callable[[], nn.Module]


def _rankings(setting: Setting) -> tuple[Setting, ...]:
    return setting, replace(setting, everywhere=True)


L1 = Setting("L1", "GroupMagnitudeImportance", {"p": 1})
L2 = Setting("L2", "GroupMagnitudeImportance", {"p": 2})
SCALE = Setting("BN scale", "BNScaleImportance")
TAYLOR = Setting("Taylor", "GroupTaylorImportance", gradient=1)
HESSIAN = Setting("Hessian", "GroupHessianImportance", gradient=2)
PLAIN = Setting("Hessian, not normalized", "GroupHessianImportance", {"normalizer": None}, gradient=2, everywhere=True)

CHANNELS = {
    FASHION: (
        *(ranked for setting in (L2, TAYLOR, HESSIAN) for ranked in _rankings(setting)),
        replace(L1, everywhere=True),
        replace(SCALE, everywhere=True),
        PLAIN,
        replace(HESSIAN, everywhere=True, isomorphic=True),
    ),
    ENCODER: (
        *(ranked for setting in (L2, HESSIAN) for ranked in _rankings(setting)),
        replace(TAYLOR, everywhere=True),
        PLAIN,
        replace(HESSIAN, heads=True),
        replace(PLAIN, heads=True),
    ),
}
REMOVED = {FASHION: (0.1, 0.2, 0.3, 0.5), ENCODER: (0.1, 0.2)}

KEPT = {
    FASHION: (Keep(0.7), Keep(0.5), Keep(0.3), Keep(0.2), Keep(0.5, (2, 4))),
    ENCODER: (Keep(0.8), Keep(0.7), Keep(0.5), Keep(0.5, (2, 4))),
}


def _torch_pruning() -> list[Peer]:
    return [
        Peer(
            subject,
            "torch-pruning",
            str(setting),
            f"removed {removed:g}",
            partial(depgraph.prune, subject, setting, removed),
        )
        for subject, settings in CHANNELS.items()
        for setting in settings
        for removed in REMOVED[subject]
    ]


def _methods() -> list[Peer]:
    return [
        Peer(subject, method.name, "", str(keep), partial(oneshot.prune, subject, method, keep))
        for subject, amounts in KEPT.items()
        for method in (oneshot.SPARSEGPT, oneshot.WANDA, oneshot.MAGNITUDE)
        for keep in amounts
    ]


PEERS = (*_torch_pruning(), *_methods())
