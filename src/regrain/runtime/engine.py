"""One matrix that is served: the layout in force, and what it takes to replace it."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import IO, Self

import numpy as np
from torch import Tensor

from regrain.core.errors import ServingError
from regrain.policies import (
    ALIKE,
    Control,
    Controlled,
    Decision,
    Monitor,
    Observation,
    Policy,
    State,
    Static,
    revert,
    settled,
)
from regrain.policies.trace import Observed, Reverted, Started, write
from regrain.runtime.buffers import Buffers
from regrain.runtime.layers import Floats
from regrain.runtime.layout import Layout
from regrain.runtime.master import Master

EVERY = 16
"""One call in so many is looked at while nothing happens."""

ALERT = 2
"""One in so many while the estimate of the inputs is new, or a change waits to be confirmed."""

TOKENS = 128
"""So many tokens are observed before the policy is asked; an image is worth no more than ALIKE of them."""

PROBE = 64
"""Inputs that are kept to try a new layout with."""

PROBE_EVERY = 8
"""The most of them that one call gives."""

PROBE_LOOKS = 4
"""One call in so many of those that are looked at gives some."""

WORSE = 1.02
"""A new layout that keeps as much as the old one must not have more than so many times its error on the probe."""


class Engine:
    """`name` is that of its weight. `layout` is replaced as a whole; whoever has taken it keeps it. `index` is its
    place among all engines of a model. Without an `adaptation` nothing ever changes.

    `exact`: the original module gives the same, so that it may be asked instead where it is faster.

    Where it is `watching`, each call takes one from `turn`, and calls `watch` when that makes it 0: one in `every`.
    That threads may miscount does no harm.

    `failure` is what went wrong where layouts are made. The matrix is served as before and doesn't change any more. It
    is told once: as a warning in the layer's next call, or by `check`, whichever comes first.
    """

    def __init__(self, name: str, layout: Layout) -> None:
        self.index = 0
        self.name = name
        self.layout = layout
        self.exact = False
        self.watching = False
        self.every = EVERY
        self.adaptation: Adaptation | None = None
        self.failure: BaseException | None = None
        self.turn = 1

    @classmethod
    def adapting(cls, master: Master, policy: Policy, ask: Callable[[Engine], None], trace: IO[str] | None) -> Self:
        """An engine whose layout a policy decides; `ask` is called when it has something to decide."""
        state, decision = policy.start(master.matrix)
        buffers = Buffers()
        engine = cls(master.matrix.name, master.lay_out(decision, buffers))
        engine.adaptation = Adaptation(engine, master, buffers, policy, state, ask, trace)
        engine.watching = master.matrix.dynamic and not isinstance(policy, Static)
        return engine

    def watch(self, x: Tensor, images: int) -> None:
        """Look at the contiguous inputs of a call, 0 or so many images."""
        self.turn = self.every
        error = self.check()
        if error is not None:
            warnings.warn(str(error), RuntimeWarning, stacklevel=6)
        elif self.adaptation is not None:
            self.adaptation.watch(x, images)

    def check(self) -> ServingError | None:
        """What went wrong, if it hasn't been told."""
        failure, self.failure = self.failure, None
        if failure is None:
            return None
        self.watching = False
        error = ServingError(
            f"{self.name} could not be laid out anew, and is served as before from now on: "
            f"{type(failure).__name__}: {failure}"
        )
        error.__cause__ = failure
        return error


class Probe:
    """A few inputs (PROBE, C), the last that were taken."""

    def __init__(self, columns: int) -> None:
        self._rows = np.zeros((PROBE, columns), np.float32)
        self._taken = 0

    def add(self, rows: Floats) -> None:
        """Take some rows, evenly spread."""
        for row in rows[:: -(-len(rows) // PROBE_EVERY)]:
            self._rows[self._taken % PROBE] = row
            self._taken += 1

    def rows(self) -> Floats:
        """A copy of all."""
        return self._rows[: min(self._taken, PROBE)].copy()


class Adaptation:
    """How a matrix changes. Serving threads call `watch`, and one thread at a time `step`. `state` is the policy's, the
    counts are of what was done so far.
    """

    def __init__(
        self,
        engine: Engine,
        master: Master,
        buffers: Buffers,
        policy: Policy,
        state: State,
        ask: Callable[[Engine], None],
        trace: IO[str] | None,
    ) -> None:
        self.master = master
        self.switches = self.refreshes = self.reverts = 0
        self._engine = engine
        self._buffers = buffers
        self._policy = policy
        self._ask = ask
        self._trace = trace
        self._control = policy.control if isinstance(policy, Controlled) else None
        self._enough = TOKENS * max(1, master.matrix.positions // ALIKE)
        self._monitor = Monitor(master.matrix, 1)
        self._probe = Probe(master.matrix.columns)
        self._lock = threading.Lock()
        self._asked = False
        self._looks = 0
        self.state = state
        if trace is not None:
            write(Started(engine.name, policy.name, state.current), trace)

    def watch(self, x: Tensor, images: int) -> None:
        """Take in the inputs of a call, if no other thread is doing so."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            rows = rows_of(x.detach(), self.master.matrix.channels, images)
            if len(rows) and self._monitor.add(rows) and not images:
                self._looks += 1
                if self._looks % PROBE_LOOKS == 0 or self._looks == 1:
                    self._probe.add(rows)
            ready = self._monitor.count >= self._enough and not self._asked
            self._asked |= ready
        finally:
            self._lock.release()
        if ready:
            self._ask(self._engine)

    def acquaint(self, before: Observation, after: Observation) -> None:
        """Calibration data that had the moments `before` in the original network have those of `after`, as a monitor
        counts them, in the network as it is served: other layers have lost weights, and only what they don't explain is
        a drift. For all calibration data what they do to a few of them is taken.
        """
        matrix = self.master.matrix
        least = 1e-3 * float(before.variance.mean()) or 1.0
        ratio = np.maximum(after.variance, least) / np.maximum(before.variance, least)
        served = Observation(after.count, matrix.mean + after.mean - before.mean, ratio * matrix.variance)
        self.master = replace(self.master, matrix=replace(matrix, served=served))

    def after_fork(self) -> None:
        """In the child: whoever held the lock isn't there, and the trace is the parent's."""
        self._lock = threading.Lock()
        self._asked = False
        self._trace = None

    def step(self, swap: Callable[[Engine, Layout], None]) -> None:
        """Let the policy decide, build what it wants, try it, and have it swapped in."""
        with self._lock:
            observation, probe = self._monitor.take(), self._probe.rows()
            self._asked = False
        if observation is None:
            return
        before = self.state
        state, decision = self._policy.decide(before, self.master.matrix, observation)
        if self._control is not None:
            self._engine.every = EVERY if settled(state, self._control) else ALERT
        self._note(observation, state, decision is not None)
        if decision is None:
            self.state = state
            return
        old, only_bias = self._engine.layout, decision.same_weights(before.current)
        try:
            new = self._laid_out(decision, old, only_bias)
        except BaseException:
            self._give_up(state, before)
            raise
        if not only_bias and decision.density >= before.current.density and self._worse(old, new, probe):
            self._give_up(state, before)
            self.reverts += 1
            return
        swap(self._engine, new)
        self.state = state
        self.refreshes += only_bias
        self.switches += not only_bias

    def _laid_out(self, decision: Decision, old: Layout, only_bias: bool) -> Layout:
        new = self.master.fold(old, decision) if only_bias else self.master.lay_out(decision, self._buffers)
        return replace(new, number=old.number + 1)

    def _give_up(self, state: State, before: State) -> None:
        dwell = (self._control or Control()).dwell
        self.state = revert(state, before.current, dwell)
        if self._trace is not None:
            write(Reverted(self._engine.name, before.current, dwell), self._trace)

    def _note(self, observation: Observation, state: State, decided: bool) -> None:
        if self._trace is not None:
            write(Observed(self._engine.name, observation, state.current if decided else None), self._trace)

    def _worse(self, old: Layout, new: Layout, probe: Floats) -> bool:
        """Whether the new layout is farther from the original than the old one on inputs that were seen."""
        if len(probe) == 0:
            return False
        wanted = self.master.outputs(probe)
        errors = []
        for layout in (old, new):
            found = np.empty_like(wanted)
            layout.few.multiply(probe, found)
            errors.append(float(np.square(found - wanted).sum(dtype=np.float64)))
        return errors[1] > WORSE * errors[0]


def rows_of(x: Tensor, channels: int, images: int) -> Floats:
    """Inputs as rows (N, channels). So many images, if any, have their channels first."""
    if images:
        x = x.reshape(images, channels, -1).transpose(1, 2)
    found: Floats = x.reshape(-1, channels).numpy()
    return found
