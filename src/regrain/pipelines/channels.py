"""Channels that a recipe leaves without use, or always the same: what slim models can do without."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from regrain.core.errors import CorruptArtifactError, UnsupportedArtifactError
from regrain.core.recipe import LayerPlan

if TYPE_CHECKING:
    import torch

    from regrain.models.channels import Group
    from regrain.pipelines.session import Session
    from regrain.planning.build import Built

SAME = 1e-6
"""By how much, relative to its size, what a channel holds may vary where it is the same everywhere: rounding."""


@dataclass(frozen=True, slots=True)
class Channels:
    """Tensors by name: the columns of `user` are all that meets the channels that rows of `makers` make. Entries of
    `vectors` belong to these: biases, the factors and statistics of batch norms.

    Columns of zeros can go. So can `constants`, channels by ascending number whose rows are zeros, so that they hold
    one number, which is given: `bias` takes over what the user's columns make of them, times `sign`, which is -1 for a
    running mean. It is None where all numbers are 0.
    """

    user: str
    makers: tuple[str, ...]
    vectors: tuple[str, ...]
    constants: tuple[tuple[int, float], ...] = ()
    bias: str | None = None
    sign: int = 1

    def to_json(self) -> dict[str, object]:
        """A JSON object; what is at its default is left out."""
        found: dict[str, object] = {"user": self.user, "makers": list(self.makers), "vectors": list(self.vectors)}
        if self.constants:
            found["constants"] = [list(one) for one in self.constants]
        return found if self.bias is None else found | {"bias": self.bias, "sign": self.sign}


@dataclass(frozen=True, slots=True)
class Leftover:
    """Channels that can go, and of rows of zeros that can't, why."""

    channels: tuple[Channels, ...]
    why: tuple[str, ...] = ()


def leftover(session: Session, plans: Mapping[str, LayerPlan], built: Mapping[str, Built]) -> Leftover:
    """What a recipe leaves to be removed: columns that were dropped, with all rows that make their channels, and rows
    that were dropped on their own. Where weights share units that would not stay whole, they stay.

    What rows of zeros make is found by running the built network on the calibration data.
    """
    own = _row_pruned(plans, built)
    why = {name: session.structure.why.get(name, "its channels do not go to one layer alone") for name in own}
    found: dict[str, Channels] = {}
    idle: dict[str, list[int]] = {}
    for user, group in session.structure.users.items():
        fits = all(_fits(plans.get(name), 0, built[name]) for name in group.makers)
        how = plans[user].pruning if user in plans else None
        if fits and how is not None and how.pattern.name == "column":
            found[user] = Channels(user, group.makers, group.vectors)
        if not own.isdisjoint(group.makers):
            fits = fits and _fits(plans.get(user), 1, built[user])
            idle[user] = _zero_rows(session, group, built) if fits else []
            reason = "other layers make its channels, too" if fits else "units would not stay whole"
            why |= dict.fromkeys(own.intersection(group.makers), reason)
    flows = _flows(session, built, idle)
    for user, numbers in idle.items():
        if numbers:
            group = session.structure.users[user]
            one, reason = _constant(session, group, flows[user], numbers)
            for name in own.intersection(group.makers):
                why.pop(name)
                if reason:
                    why[name] = reason
            if one.constants:
                found[user] = one
    told = (f"rows of {name!r} that were dropped stay, as zeros: {reason}" for name, reason in why.items())
    return Leftover(tuple(found.values()), tuple(told))


def _row_pruned(plans: Mapping[str, LayerPlan], built: Mapping[str, Built]) -> set[str]:
    """Tensors that lost rows of their own accord."""
    return {
        name
        for name, plan in plans.items()
        if plan.pruning is not None
        and plan.pruning.pattern.name == "row"
        and plan.pruning.follows is None
        and not built[name].values.reshape(len(built[name].values), -1).any(axis=1).all()
    }


def _fits(plan: LayerPlan | None, axis: int, built: Built) -> bool:
    """Whether a tensor can get shorter on that axis, with units that stay whole."""
    if plan is None or plan.pruning is None or plan.pruning.pattern.name in ("row", "column", "fine"):
        return True
    return axis == 1 and plan.pruning.pattern.unit(built.values.shape)[1] == 1


def _zero_rows(session: Session, group: Group, built: Mapping[str, Built]) -> list[int]:
    """Channels whose rows are zeros. Depth-wise convolutions make of one channel another, and may have what rows they
    like.
    """
    makers = [name for name in group.makers if getattr(_module(session, name), "groups", 1) == 1]
    used = np.zeros(group.channels, np.bool_)
    for name in makers:
        used |= built[name].values.reshape(group.channels, -1).any(axis=1)
    return [int(number) for number in np.flatnonzero(~used)] if makers else []


def _constant(session: Session, group: Group, flows: Mapping[int, float], numbers: list[int]) -> tuple[Channels, str]:
    """The channels that the user can do without, and why it can't do without the others; empty if there are none."""
    user = group.users[0]
    layer = session.evidence.layers[user]
    tied = layer.bias in session.evidence.same.values()
    takes = layer.bias is not None and not tied and not _padded(_module(session, user))
    kept = tuple((number, flows[number]) for number in numbers if number in flows and (takes or flows[number] == 0.0))
    reason = ""
    if any(number not in flows for number in numbers):
        reason = "what they make is not the same for all inputs and places"
    elif len(kept) < len(numbers):
        fault = "has no bias of its own" if layer.bias is None or tied else "pads with zeros"
        reason = f"{user!r} {fault}, so that none can take over what they make"
    bias = layer.bias if any(value != 0.0 for _, value in kept) else None
    return Channels(user, group.makers, group.vectors, kept, bias, layer.bias_sign if bias else 1), reason


def _padded(module: Any) -> bool:
    """Whether a layer's inputs have zeros around them."""
    padding = getattr(module, "padding", 0)
    some = padding != "valid" if isinstance(padding, str) else bool(np.any(np.asarray(padding) != 0))
    return some and getattr(module, "padding_mode", "zeros") == "zeros"


def _flows(
    session: Session, built: Mapping[str, Built], wanted: Mapping[str, list[int]]
) -> dict[str, dict[int, float]]:
    """By user, those of the wanted channels that hold one number on all calibration data, with it."""
    if not any(wanted.values()):
        return {}
    ranges: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {}
    with _watching(session, [user for user, numbers in wanted.items() if numbers], ranges):
        session.candidate.put(built)
        try:
            for batch in session.task.batches("calibration"):
                session.task.outputs(session.network.model, batch)
        finally:
            session.candidate.take_out()
    found: dict[str, dict[int, float]] = {}
    for user, (least, most) in ranges.items():
        middle = (least + most) / 2.0
        same = most - least <= SAME * np.abs(middle)
        found[user] = {number: float(middle[number]) for number in wanted[user] if same[number]}
    return found


@contextmanager
def _watching(
    session: Session, users: Iterable[str], ranges: dict[str, tuple[NDArray[Any], NDArray[Any]]]
) -> Iterator[None]:
    """Within, `ranges` gets the least and the most of each input channel of those layers."""
    handles = []
    for user in users:

        def look(module: Any, inputs: Any, named: Any, user: str = user) -> None:
            rows = _by_channel(module, inputs[0] if inputs else named["input"])
            least, most = (side.double().numpy() for side in (rows.amin(0), rows.amax(0)))
            before = ranges.get(user, (least, most))
            ranges[user] = np.minimum(before[0], least), np.maximum(before[1], most)

        handles.append(_module(session, user).register_forward_pre_hook(look, with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _by_channel(module: Any, x: torch.Tensor) -> torch.Tensor:
    """The input of a linear layer or a convolution, (n, C)."""
    x = x.detach().cpu()
    places = len(getattr(module, "kernel_size", ()))
    return (x.movedim(-1 - places, -1) if places else x).reshape(-1, x.shape[-1 - places])


def _module(session: Session, name: str) -> Any:
    network = session.network
    return network.model.get_submodule(network.places[network.same.get(name, name)].module)


def read_channels(receipts: Iterable[Mapping[str, object]]) -> list[Channels]:
    """The channels that an artifact's receipts tell of. Raises CorruptArtifactError for what isn't a list of channels,
    UnsupportedArtifactError where there are none.
    """
    told = next((receipt["channels"] for receipt in receipts if receipt.get("channels")), None)
    if told is None:
        raise UnsupportedArtifactError(
            "artifact must have channels to remove to be restored slim, and has none: leave out --slim, or compress "
            "with --objective work and the pattern column or row"
        )
    if not isinstance(told, list):
        raise CorruptArtifactError(f"receipt.channels must be a list, not {told!r:.80}")
    return [_channels(one) for one in told]


def _channels(value: object) -> Channels:
    told: Mapping[str, Any] = value if isinstance(value, Mapping) else {}
    match [told.get(key) for key in ("user", "makers", "vectors")]:
        case [str() as user, list() as makers, list() as vectors] if _are_names(makers) and _are_names(vectors):
            constants = tuple(_constants(told.get("constants", [])))
            bias, sign = told.get("bias"), told.get("sign", 1)
            if (bias is None or isinstance(bias, str)) and sign in (1, -1):
                return Channels(user, tuple(makers), tuple(vectors), constants, bias, int(sign))
    raise CorruptArtifactError(f"receipt.channels must have a user, makers and vectors, by name, not {value!r:.80}")


def _constants(value: object) -> Iterator[tuple[int, float]]:
    last = -1
    for one in value if isinstance(value, list) else [value]:
        match one:
            case [int() as number, int() | float() as held] if number > last and math.isfinite(held):
                last = number
                yield number, float(held)
            case _:
                raise CorruptArtifactError(
                    "receipt.channels: constants must be channels in ascending order with what each holds, not "
                    f"{one!r:.80}"
                )


def _are_names(values: list[Any]) -> bool:
    return all(isinstance(name, str) for name in values)
