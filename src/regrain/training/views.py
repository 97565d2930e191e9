"""Views: a module sees its parameter rounded and pruned, while the parameter stays where it is and keeps its name.

As in `torch.nn.utils.parametrize`, the module's class is replaced by a subclass with properties; but those read the
parameter of the same name, so that optimizers, state dicts and checkpoints know nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from regrain.codecs.grid import codes_of, scales_of
from regrain.core.errors import TrainingError
from regrain.core.recipe import LayerPlan
from regrain.kernels.feedback import MOST

Watch = Callable[[Tensor], None]

VIEWS = "_regrain_views"
"""Key of a module's dictionary under which its views are, by the names of its parameters."""


class View:
    """How one weight is seen: rounded to whole steps if its plan has one, and zero where `mask` is False; as it is
    unless `active`. `reads` counts how often it was; `watch` is called with its gradients, those of dropped weights
    included.
    """

    def __init__(self, plan: LayerPlan, mask: Tensor | None, watch: Watch | None = None) -> None:
        self.active = True
        self.reads = 0
        self.watch = watch
        self.change(plan, mask)

    def change(self, plan: LayerPlan, mask: Tensor | None) -> None:
        """See it by another plan."""
        self.plan = plan
        self.mask = mask
        self.scale = None if plan.step is None else float(scales_of(codes_of([plan.step]))[0])

    @property
    def changes(self) -> bool:
        """Whether anything but the weight itself may be seen."""
        return self.scale is not None or self.mask is not None

    def indices(self, weight: Tensor) -> Tensor:
        """Whole numbers of steps, float32: those that `regrain.kernels.feedback` gives where no error is fed back."""
        assert self.scale is not None
        found = weight.detach().float() / self.scale
        half = torch.tensor(0.5 - self.plan.dead_zone, device=found.device)
        found.add_(torch.copysign(half, found)).trunc_().clamp_(-MOST, MOST)
        if self.mask is not None:
            found.mul_(self.mask)
        return found.add_(0.0)  # -0 becomes 0, as an index has no sign

    def values(self, weight: Tensor) -> Tensor:
        """What is seen, in the weight's own type, without its gradient."""
        with torch.no_grad():
            if self.scale is not None:
                return self.indices(weight).mul_(self.scale).to(weight.dtype)
            seen = weight.detach()
            return seen.clone() if self.mask is None else torch.where(self.mask, seen, torch.zeros_like(seen))

    def __call__(self, weight: Tensor) -> Tensor:
        """What a module sees of its parameter."""
        self.reads += 1
        if not self.active or not (self.changes or (self.watch is not None and torch.is_grad_enabled())):
            return weight
        if self.mask is not None and self.mask.device != weight.device:
            raise TrainingError(
                f"model must be on {self.mask.device}, where its masks are, not on {weight.device}: "
                "move it before weights pass through a recipe"
            )
        seen: Tensor = _Through.apply(weight, self.values(weight), self.mask, self.watch)  # type: ignore[no-untyped-call]
        return seen


class _Through(torch.autograd.Function):
    """The values, with the gradient of the weights behind them."""

    @staticmethod
    def forward(ctx: Any, _: Tensor, values: Tensor, mask: Tensor | None, watch: Watch | None) -> Tensor:
        ctx.mask, ctx.watch = mask, watch
        return values

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        gradient = gradients[0]
        if ctx.watch is not None:
            ctx.watch(gradient)
        return gradient if ctx.mask is None else gradient * ctx.mask, None, None, None


def attached(module: nn.Module, leaf: str) -> bool:
    """Whether a module's parameter is seen through a view."""
    return leaf in vars(module).get(VIEWS, ())


def attach(module: nn.Module, leaf: str, view: View) -> None:
    """From here on a module's parameter is seen through a view. Raises TrainingError where that can't be."""
    views: dict[str, View] = module.__dict__.setdefault(VIEWS, {})
    plain = _plain(type(module)) if views else type(module)
    views[leaf] = view
    try:
        module.__class__ = _seeing(plain, frozenset(views))  # type: ignore[arg-type]
    except TypeError as error:  # of a class that is no ordinary one, as a ScriptModule's
        del views[leaf]
        raise TrainingError(f"{type(module).__name__} must be an ordinary module: {error}") from None


def detach(module: nn.Module, leaf: str) -> None:
    """The parameter is seen as it is again."""
    views = module.__dict__.get(VIEWS, {})
    if leaf in views:
        plain = _plain(type(module))
        del views[leaf]
        module.__class__ = _seeing(plain, frozenset(views)) if views else plain  # type: ignore[arg-type]
        if not views:
            del module.__dict__[VIEWS]


@cache
def _seeing(plain: type[nn.Module], leaves: frozenset[str]) -> type[nn.Module]:
    """The subclass whose modules see those parameters through their views."""
    properties: dict[str, Any] = {leaf: _property(leaf) for leaf in leaves}
    return type(plain.__name__, (plain,), properties | {"__module__": plain.__module__, "_regrain_plain": plain})


def _plain(seeing: type[nn.Module]) -> type[nn.Module]:
    plain: type[nn.Module] = seeing.__dict__["_regrain_plain"]
    return plain


def _property(leaf: str) -> property:
    def see(module: nn.Module) -> Tensor:
        seen: Tensor = vars(module)[VIEWS][leaf](vars(module)["_parameters"][leaf])
        return seen

    return property(see)
