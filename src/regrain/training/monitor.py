"""The accuracy monitor: evaluates while a model trains, and makes its recipe looser or tighter by what it finds."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from regrain.core.activity import Activity
from regrain.core.errors import BudgetError, TrainingError
from regrain.core.recipe import LayerPlan, Recipe
from regrain.models.statedict import tensor_dtype
from regrain.training.choices import Option, loosen, tighten
from regrain.training.evaluation import undisturbed
from regrain.training.forms import Form, form_of, size_of
from regrain.training.judging import Found, Judgment, Limit, Reading, judge, read
from regrain.training.layers import Layers, scheme
from regrain.training.levels import unquantized
from regrain.training.log import Change, Record, State, append_log, write_log
from regrain.training.saved import restore, save
from regrain.training.schedule import Ramp, Schedule
from regrain.training.written import write

NOTCHES = 6
"""Times that `finish` loosens layers by a notch before it quantizes none of them."""

ROOM = 2
"""Evaluations in a row that must leave room before a layer is made tighter."""


class AccuracyMonitor:
    """Keeps a model compressible by a recipe, and accurate enough, while it trains.

    From the first forward pass on, the recipe's weights are seen rounded and pruned. Call `step` after every step of
    the optimizer. As `schedule` says, `evaluate(model)` gives the metric (or several) of what would be stored; where it
    is beyond `limit`, the layers that damage most are made looser, and where there is room twice in a row, those that
    save most for their damage are made tighter, also beyond the recipe. `finish` makes the model what it seemed to be.

    `baseline` is the metric that drops are measured from: None evaluates the model as it is given, "now" evaluates it
    without the recipe each time, for training that starts from nothing. Without `evaluate`, tell `observe` the metrics.
    `ramp` brings densities down step by step; `masks` (True: kept) replace those chosen by w^2 E[g^2], until a layer's
    plan changes; with `structured`, what is dropped stays in blocks or channels, which dense arithmetic can skip.
    Records are in `log`, and as JSON lines in the file `path`.

    Raises TrainingError for a model that passes through a recipe already, or a recipe that it can't pass through;
    RecipeError for one that isn't this model's.
    """

    def __init__(
        self,
        model: nn.Module,
        evaluate: Callable[[Any], Found] | None,
        recipe: Recipe,
        limit: Limit,
        *,
        schedule: Schedule | None = None,
        ramp: Ramp | None = None,
        baseline: Found | Literal["now"] | None = None,
        masks: Mapping[str, Tensor] | None = None,
        structured: bool = False,
        path: str | os.PathLike[str] | None = None,
    ) -> None:
        self.model, self.recipe, self.limit = model, recipe, limit
        self.schedule = schedule or Schedule()
        self.log: list[Record] = []
        self.steps = 0
        self.held = False  # the ramp waits until the metric has recovered
        self.changed: dict[str, int] = {}  # the number of the evaluation at which a layer's plan was replaced
        self.clock = 0  # steps of the ramp
        self._evaluate, self._ramp, self._path = evaluate, ramp, path
        self._stored: dict[str, Form] | None = None
        self.layers = Layers(model, recipe, ramp, masks, structured)
        try:
            self._now = isinstance(baseline, str)
            self.baseline = self._first(baseline)
        except BaseException:
            self.layers.remove()
            raise
        if path is not None:
            write_log(path, ())

    def step(self) -> None:
        """One step of the optimizer is done. Raises TrainingError where training has diverged."""
        self._check_attached()
        self.steps += 1
        if self.steps == 1:
            self._check_read()
        self._look()
        if self._ramp is not None and not self.held:
            self.clock += 1
            if self._ramp.moves(self.clock):
                self.layers.ramp(self.clock)
        if self._evaluate is not None and self.steps % self.schedule.every == 0:
            self.check()

    def check(self) -> Record:
        """Evaluate now, and act on what is found."""
        if self._evaluate is None:
            raise TrainingError("a monitor without evaluate must be told metrics: call observe")
        if self._now:
            self.baseline = self._measure(self.layers.passing.bypassed())
        return self._act(self._measure(self.layers.passing.folded()))

    def observe(self, found: Found) -> Record:
        """Act on metrics that somebody else has evaluated, of the model as it is seen now."""
        return self._act(read(found, self.limit))

    def finish(self) -> Recipe:
        """Write what is seen into the weights, and give the recipe that they follow now.

        The last evaluation is of just these weights: steps are made finer until it keeps the limit; what was dropped
        stays so, as only training can bring it back. Raises BudgetError where not even weights without steps keep it;
        the model still passes through then.
        """
        self._check_attached()
        self.layers.check_finite()
        tries = 0
        while self._evaluate is not None and self.check_only().slack < 0.0:
            if not any(plan.step is not None for plan in self.layers.passing.plans.values()):
                raise BudgetError(
                    f"metrics must keep their thresholds {dict(self.log[-1].thresholds)}, and without any quantization "
                    f"are {dict(self.log[-1].metrics)}: train longer, or prune less",
                    nearest=self.current(),
                )
            tries += 1
            if tries <= NOTCHES:
                self._change(self._loosened(steps_only=True), "finish")
            else:
                for plan in self.layers.passing.plans.values():
                    self.layers.aim(replace(unquantized(plan), why="finish"), self.clock)
        recipe = self.current()
        passing = self.layers.passing
        passed = {name: (passing.quantized(name), passing.mask(name)) for name in self.layers.aims}
        passing.fold()
        forms = {
            name: form_of(passing.plans[name], self.layers.weight(name).tensor.detach(), *found)
            for name, found in passed.items()
        }
        self._stored = {name: form for name, form in forms.items() if form is not None}
        self.layers.remove()
        return recipe

    def compress(
        self,
        path: str | os.PathLike[str],
        *,
        original: str | os.PathLike[str] | None = None,
        force: bool = False,
        threads: int | None = None,
    ) -> None:
        """Write the finished model as an artifact: what it restores is what the weights are, to the last bit.

        `original` is a file of weights whose names, metadata and further tensors the artifact takes over. Raises
        TrainingError before `finish`, or where weights have changed since; OutputExistsError unless `force` is set.
        """
        if self._stored is None:
            raise TrainingError("a model must be finished before it is compressed: call finish")
        note = {"recipe": self.current(self._stored).to_json(), "training": self._note()}
        write(self.model, self._stored, self.layers.passing.weights.same, Path(path), note, original, force, threads)

    def current(self, stored: Mapping[str, Form] | None = None) -> Recipe:
        """The recipe that weights pass through now, with the bytes of those that are quantized or pruned."""
        passing, plans = self.layers.passing, []
        for name, plan in passing.plans.items():
            tensor = self.layers.weight(name).tensor
            if stored is None:
                seen = passing.values(name).detach()
                form = form_of(plan, seen, passing.quantized(name), passing.mask(name))
            else:
                form = stored.get(name)
            size = 0 if form is None else size_of(form, tensor_dtype(tensor))
            plans.append(replace(plan, bytes=float(size), loss=0.0))
        return Recipe(tuple(plans), note={"training": self._note()})

    def activity(self) -> dict[str, Activity]:
        """What flows into the recipe's linear layers and convolutions now, by weight and input channel: running means
        over the steps that were looked at. `sensitivity` is the sum of E[g^2], up to a factor that all layers share.
        """
        return self.layers.activity()

    def state_dict(self) -> dict[str, Any]:
        """Everything to go on with, as tensors and plain values: `torch.load(weights_only=True)` reads it."""
        return save(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()`. Raises TrainingError for a state of another model or another recipe."""
        self._check_attached()
        restore(self, state)
        self._look()
        if self._path is not None:
            write_log(self._path, self.log)

    def detach(self) -> None:
        """Stop: the model is an ordinary one again, its weights as the optimizer has them."""
        self.layers.remove()

    def check_only(self) -> Judgment:
        """Evaluate and note it; nothing is changed."""
        now = self._measure(self.layers.passing.folded())
        judgment = self._judge(now)
        self._note_down(now, judgment, "between" if judgment.slack >= 0.0 else "below", ())
        return judgment

    def _look(self) -> None:
        """Whether gradients and inputs of the next step are looked at: of the first, and then of every so many."""
        self.layers.look(self.steps % self.schedule.sample == 0)

    def _act(self, now: Reading) -> Record:
        self._check_attached()
        self.layers.check_finite()
        judgment = self._judge(now)
        ramping = self._ramp is not None and self.clock < self._ramp.end
        state: State = "between"
        options: list[Option] = []
        if judgment.slack < 0.0:
            state = "below"
            if self._in_a_row("below") + 1 >= self.schedule.patience:
                options = [] if ramping and not self.held else self._loosened()
                self.held = ramping
        else:
            self.held = False
            if judgment.slack >= self.limit.room:
                state = "room"
                if not ramping and self._in_a_row("room") >= ROOM - 1:
                    options = self._tightened()
        record = self._note_down(now, judgment, state, tuple(self._describe(option, state) for option in options))
        self._change(options, state)
        return record

    def _judge(self, now: Reading) -> Judgment:
        if self.baseline is None:  # only a threshold was given: the first reading sets the scale
            self.baseline = now
        return judge(now, self.baseline, self.limit)

    def _in_a_row(self, state: State) -> int:
        """How many evaluations before this one found the same."""
        others = (number for number, record in enumerate(reversed(self.log)) if record.state != state)
        return next(others, len(self.log))

    def _loosened(self, steps_only: bool = False) -> list[Option]:
        effects = self.layers.effects()

        def options(name: str) -> list[Option]:
            found = self.layers.looser(name, effects[name])
            return [one for one in found if not steps_only or one.after.pruning == one.before.pruning]

        return loosen(effects, options)

    def _tightened(self) -> list[Option]:
        effects = self.layers.effects()
        waiting = {name for name, at in self.changed.items() if len(self.log) - at < self.schedule.dwell}

        def options(name: str) -> list[Option]:
            return [] if name in waiting else list(self.layers.tighter(name, effects[name]))

        return tighten(effects, options)

    def _change(self, options: list[Option], why: str) -> None:
        for option in options:
            plan: LayerPlan = replace(option.after, why=f"training, step {self.steps}: {why}")
            self.layers.aim(plan, self._ramp.end if self._ramp is not None else 0)
            self.changed[plan.name] = len(self.log)

    def _describe(self, option: Option, state: State) -> Change:
        before, after = (
            scheme(plan, 1.0 if plan.pruning is None else plan.pruning.density or 1.0)
            for plan in (option.before, option.after)
        )
        damage = f"damage {option.now.damage:.3g} to {option.then.damage:.3g}"
        why = f"{damage}, {(option.then.bits - option.now.bits) / 8:+,.0f} bytes"
        return Change(option.before.name, "looser" if state == "below" else "tighter", before, after, why)

    def _note_down(self, now: Reading, judgment: Judgment, state: State, changes: tuple[Change, ...]) -> Record:
        assert self.baseline is not None
        layers = self.layers.states(self.layers.effects())
        count = max(sum(layer.count for layer in layers), 1)
        record = Record(
            self.steps,
            dict(now.values),
            dict(self.baseline.values),
            dict(judgment.thresholds),
            judgment.slack,
            state,
            sum(layer.bits * layer.count for layer in layers) / count,
            sum(layer.density * layer.count for layer in layers) / count,
            layers,
            changes,
        )
        self.log.append(record)
        if self._path is not None:
            append_log(self._path, record)
        return record

    def _first(self, baseline: Found | Literal["now"] | None) -> Reading | None:
        if isinstance(baseline, str):
            if baseline != "now" or self._evaluate is None:
                raise TrainingError("baseline must be metrics, None, or 'now' where there is evaluate")
        elif baseline is not None:
            return read(baseline, self.limit)
        if self._evaluate is not None:
            return self._measure(self.layers.passing.bypassed())
        if self.limit.threshold is None:
            raise TrainingError("a monitor without evaluate must have a baseline, or a threshold as its limit")
        return None

    def _measure(self, how: AbstractContextManager[None]) -> Reading:
        assert self._evaluate is not None
        self.layers.check_finite()
        with undisturbed(self.model), self.layers.activations.paused(), how:
            return read(self._evaluate(self.model), self.limit)

    def _note(self) -> dict[str, object]:
        note: dict[str, object] = {"steps": self.steps}
        if self.log:
            last = self.log[-1]
            note |= {name: dict(getattr(last, name)) for name in ("metrics", "baseline", "thresholds")}
        return note

    def _check_attached(self) -> None:
        if not self.layers.passing.attached:
            raise TrainingError("the monitor must be at work: it was finished or detached, make a new one")

    def _check_read(self) -> None:
        unread = self.layers.passing.unread()
        if unread:
            raise TrainingError(
                f"{unread[0]!r} must be read through its module, which trained without it: leave it out of the recipe"
            )
