"""The layers of a model in training: what each aims at, passes through now, costs now, and could have instead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from regrain.core.activity import Activity
from regrain.core.errors import TrainingError
from regrain.core.granularity import Granularity
from regrain.core.pattern import Pruning, Score
from regrain.core.recipe import LayerPlan, Method, Recipe
from regrain.models.statedict import tensor_dtype
from regrain.profiling.tensor import profile_tensor
from regrain.training.activations import Activations
from regrain.training.choices import Effect, Option, effect
from regrain.training.energy import Energy
from regrain.training.levels import looser, tighter
from regrain.training.log import LayerState
from regrain.training.masks import density_of, follow, mask_of
from regrain.training.passing import Passing
from regrain.training.schedule import Ramp
from regrain.training.start import spread_of
from regrain.training.weights import Weight, finite

_PROFILED = 1 << 16
"""Weights of a layer that are profiled at most: whole rows, evenly spread."""

_WORDS = {"F32": torch.int32, "F16": torch.int16, "BF16": torch.int16, "F64": torch.int64}


class Layers:
    """Weights that pass through plans which may change. `aims` are those in the end: a ramp may not be there yet."""

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        ramp: Ramp | None = None,
        masks: Mapping[str, Tensor] | None = None,
        structured: bool = False,
    ) -> None:
        self.origins = recipe.by_name()
        for plan in recipe.layers:
            if plan.name not in (masks or {}) and _needs_inputs(plan.pruning, ramp):
                assert plan.pruning is not None
                raise TrainingError(
                    f"score of {plan.name!r} must be obs or magnitude, not {plan.pruning.score}, where masks are "
                    "chosen before any input is seen: give a ramp, or masks"
                )
        self.aims = dict(self.origins)
        self._ramp = ramp
        self._structured = structured
        lossless = (LayerPlan(name, Method.LOSSLESS) for name in self.origins)
        self.energy = Energy()
        self.passing = Passing(model, Recipe(tuple(lossless)), watch=self.energy.add)
        self.activations = Activations(map(self.weight, self.origins))
        try:
            self._apply(0, dict(masks or {}))
        except BaseException:
            self.remove()
            raise

    def weight(self, name: str) -> Weight:
        """The weight of that name."""
        return self.passing.weights.by_name[name]

    def aim(self, plan: LayerPlan, step: int) -> None:
        """Replace a layer's plan. Weights that come back start from 0, so that the network goes on as it was (Evci et
        al., RigL, 2020): what they were before, the others have learned to do without.
        """
        before = {name: self.passing.mask(name) for name in self.aims}
        unpruned = plan.pruning == self.passing.plans[plan.name].pruning
        self.aims[plan.name] = plan
        if unpruned:
            self.passing.change(plan, before[plan.name])
            return
        self._pass(plan.name, step, None)
        self._follow(step)
        for name, mask in before.items():
            if mask is not None:
                now = self.passing.mask(name)
                with torch.no_grad():
                    self.weight(name).tensor.masked_fill_(~mask if now is None else now & ~mask, 0.0)

    def ramp(self, step: int) -> None:
        """Bring every density to where the ramp has it at that step."""
        for name, plan in self.aims.items():
            if plan.pruning is not None and plan.pruning.density is not None:
                self._pass(name, step, None)
        self._follow(step)

    def effects(self) -> dict[str, Effect]:
        """What every trained weight costs now. What gets no gradient does no damage that is known of."""
        found = {}
        for name, plan in self.passing.plans.items():
            if self.weight(name).trained:
                found[name] = self._effect(plan, self.passing.mask(name))
        return found

    def looser(self, name: str, now: Effect) -> Iterator[Option]:
        """Options one notch looser."""
        plan = self.passing.plans[name]
        options = looser(plan, spread_of(self.weight(name).tensor))
        if self._structured:
            options = tuple(one for one in options if one.pruning is None or one.pruning.pattern.structured)
        yield from self._options(plan, options, now)

    def tighter(self, name: str, now: Effect) -> Iterator[Option]:
        """Options one notch tighter; none for a weight that gets no gradient."""
        plan = self.passing.plans[name]
        if self.energy.of(name) is None:
            return
        options = tighter(plan, self.origins[name], spread_of(self.weight(name).tensor))
        yield from self._options(plan, options, now)

    def states(self, effects: Mapping[str, Effect]) -> tuple[LayerState, ...]:
        """Every weight as it is now."""
        return tuple(self._state(name, found) for name, found in effects.items())

    def activity(self) -> dict[str, Activity]:
        """What flows into each weight now, where inputs have been seen; the sensitivity is up to a factor."""
        found = {}
        for name in self.origins:
            energy = self.energy.of(name)
            activity = self.activations.activity(name, 0.0 if energy is None else float(energy.sum()))
            if activity is not None:
                found[name] = activity
        return found

    def look(self, on: bool) -> None:
        """Whether gradients and inputs of the next step are looked at."""
        self.energy.on = self.activations.on = on

    def check_finite(self) -> None:
        """Raise TrainingError for a weight with NaN or infinity."""
        for name in self.origins:
            if not finite(self.weight(name).tensor):
                raise TrainingError(f"{name!r} must be finite, and has NaN or infinity: training has diverged")

    def load(self, plans: Mapping[str, LayerPlan], aims: Mapping[str, LayerPlan], masks: Mapping[str, Tensor]) -> None:
        """Go on with these."""
        self.aims = dict(aims)
        for name, plan in plans.items():
            self.passing.change(plan, masks.get(name))

    def remove(self) -> None:
        """The model is an ordinary one again."""
        self.activations.remove()
        self.passing.detach()

    def _apply(self, step: int, masks: dict[str, Tensor]) -> None:
        unknown = [name for name in masks if self.aims.get(name) is None or self.aims[name].pruning is None]
        if unknown:
            raise TrainingError(f"masks must be of weights that the recipe prunes, not of {unknown[0]!r}")
        for name in self.aims:
            self._pass(name, step, masks.get(name))
        self._follow(step)

    def _pass(self, name: str, step: int, mask: Tensor | None) -> None:
        plan = self.aims[name]
        if plan.pruning is None:
            self.passing.change(plan, None)
        elif plan.pruning.density is not None:
            pruning = plan.pruning
            if self._ramp is not None and mask is None and pruning.pattern.among is None:
                assert pruning.density is not None
                pruning = replace(pruning, density=self._ramp.density(pruning.density, step))
            kept = self._mask(name, pruning) if mask is None else mask
            self.passing.change(replace(plan, pruning=pruning), kept)

    def _follow(self, step: int) -> None:
        for name, plan in self.aims.items():
            if plan.pruning is not None and plan.pruning.follows is not None:
                leader = plan.pruning.follows
                if leader not in self.aims:
                    raise TrainingError(f"{name!r} must follow a weight of the recipe, not {leader!r}")
                followed, tensor = self.passing.mask(leader), self.weight(name).tensor
                mask = torch.ones_like(tensor, dtype=torch.bool) if followed is None else follow(followed, tensor, name)
                self.passing.change(plan, mask)

    def _options(self, plan: LayerPlan, others: tuple[LayerPlan, ...], now: Effect) -> Iterator[Option]:
        for other in others:
            mask = None
            if other.pruning is not None:
                same = plan.pruning == other.pruning
                mask = self.passing.mask(plan.name) if same else self._mask(plan.name, other.pruning)
            yield Option(plan, other, now, self._effect(other, mask))

    def _mask(self, name: str, pruning: Pruning) -> Tensor:
        """What a pruning keeps, by what gradients and inputs are now."""
        weight = self.weight(name)
        by_inputs = pruning.score in (Score.WANDA, Score.VARIANCE)
        factor = self.activations.factor(weight, pruning.score) if by_inputs else self.energy.of(name)
        return mask_of(weight.tensor, pruning, factor)

    def _effect(self, plan: LayerPlan, mask: Tensor | None) -> Effect:
        energy = self.energy.of(plan.name)
        found = effect(self.weight(plan.name).tensor, plan, mask, energy)
        return found if energy is not None else Effect(found.bits, 0.0)

    def _state(self, name: str, found: Effect) -> LayerState:
        plan, mask, tensor = self.passing.plans[name], self.passing.mask(name), self.weight(name).tensor.detach()
        stride = max(1, -(-tensor.numel() // _PROFILED))
        rows = (tensor[::stride] if tensor.dim() > 1 else tensor).cpu().contiguous()
        dtype = tensor_dtype(rows)
        words = rows.view(_WORDS[dtype]).numpy().reshape(-1)
        profile = profile_tensor(name, dtype, tuple(rows.shape), words.view(f"u{words.itemsize}"))
        return LayerState(
            name,
            scheme(plan, density_of(mask)),
            str(granularity(plan)),
            tensor.numel(),
            found.bits / max(tensor.numel(), 1),
            density_of(mask),
            found.damage,
            profile.int8_entropy,
            profile.sparsity,
            profile.dynamic_range,
            self.activations.state_of(name),
        )


def _needs_inputs(pruning: Pruning | None, ramp: Ramp | None) -> bool:
    """Whether a first mask is chosen by inputs that nobody has seen; a ramp's first one keeps everything."""
    if pruning is None or pruning.score not in (Score.WANDA, Score.VARIANCE):
        return False
    return ramp is None or pruning.pattern.among is not None


def granularity(plan: LayerPlan) -> Granularity:
    """The unit that is kept or dropped, or shares a step; single weights where nothing is lost."""
    if plan.pruning is not None:
        return plan.pruning.pattern.granularity
    return Granularity.FINE if plan.cell is None else plan.cell.granularity


def scheme(plan: LayerPlan, density: float = 1.0) -> str:
    """A plan in a few words: `step 0.0123, block:16x1 at 25%`."""
    words = [] if plan.step is None else [f"step {plan.step:.3g}"]
    if plan.pruning is not None:
        words.append(f"{plan.pruning.pattern.name} at {density:.0%}")
    return ", ".join(words) or "lossless"
