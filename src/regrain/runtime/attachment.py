"""Serving a model's layers from panels, in place: `attach`, and what it gives back."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import IO, Any, Literal, Self

import torch
from torch import nn

from regrain.artifact.threads import resolve_threads
from regrain.core.errors import AttachError, ServingError
from regrain.kernels.panels import VALUES, Value
from regrain.policies import POLICIES, Policy
from regrain.policies.trace import open_trace
from regrain.runtime.acquaintance import monitored
from regrain.runtime.calibrated import Calibrated, Run, seen_by
from regrain.runtime.convolved import Convolved
from regrain.runtime.engine import Engine
from regrain.runtime.following import Stretch
from regrain.runtime.host import Host
from regrain.runtime.layers import check_free, layers_of, obstacle
from regrain.runtime.making import Maker
from regrain.runtime.reorganizer import Reorganizer
from regrain.runtime.served import Pinned, Pins, Served
from regrain.runtime.weights import Activations, Form
from regrain.runtime.whole import Whole, inside, wholes_of

HOST = Host()
"""Times that this process has found."""

Consistency = Literal["layer", "model"]


class Attachment:
    """A model whose layers are served. In a `with` block it is detached at the end.

    `engines` are the matrices by the names of their weights, `whole` the modules that are served as one by their paths;
    `left` has the layers that go on as they were, each with the reason.
    """

    def __init__(
        self,
        model: nn.Module,
        reorganizer: Reorganizer,
        served: list[Served | Pinned | Whole],
        left: Mapping[str, str],
        trace: IO[str] | None,
    ) -> None:
        self.engines: Mapping[str, Engine] = {engine.name: engine for engine in reorganizer.engines}
        self.whole: Mapping[str, Whole] = {one.path: one for one in served if isinstance(one, Whole)}
        self.left = left
        self._model = model
        self._reorganizer = reorganizer
        self._served = served
        self._trace = trace

    def detach(self) -> None:
        """Give every layer its own forward back, and end what goes on beside. Calls that are under way end as they
        began. Raises ServingError as `check` does, when all is done.
        """
        for one in self._served:
            one.leave()
        self._served = []
        self._reorganizer.stop()
        if self._trace is not None:
            self._trace.close()
            self._trace = None
        self.check()

    def acquaint(self, run: Run) -> None:
        """Show what calibration data look like in the network as it is served, so that what pruning does to the inputs
        of the layers that follow is not taken for a drift.

        run: uses the model for a few batches of them, and is run twice: with the model's own layers, and served. For
        the beginning, when nobody else calls the model. Raises AttachError for inputs that aren't finite.
        """
        adapting = [one for one in self._served if isinstance(one, Served) and one.engine.watching]
        if not adapting:
            return
        for one in reversed(self._served):
            one.leave()
        try:
            before = seen_by(self._model, [one.layer for one in adapting], run)
        finally:
            for one in self._served:
                one.enter()
        after = monitored(self._model, adapting, run)
        for name in before.keys() & after.keys():
            adaptation = self.engines[name].adaptation
            assert adaptation is not None
            adaptation.acquaint(before[name], after[name])

    def settle(self) -> None:
        """Wait until every layout that was decided on is in force."""
        self._reorganizer.settle()

    def check(self) -> None:
        """Raise ServingError for what went wrong beside the serving, if it hasn't been told yet."""
        for engine in self.engines.values():
            error = engine.check()
            if error is not None:
                raise error

    @property
    def nbytes(self) -> int:
        """Bytes of all layouts in force."""
        layouts = sum(engine.layout.nbytes for engine in self.engines.values())
        return layouts + sum(one.nbytes for one in self.whole.values())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.detach()
        except ServingError:
            if kind is None:  # else what ended the block is what counts
                raise

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("an Attachment can't be copied or pickled: attach the copy of the model")


def attach(
    model: nn.Module,
    artifact: str | os.PathLike[str] | None = None,
    policy: str | Policy = "auto",
    *,
    calibration: Mapping[str, Calibrated] | None = None,
    value: Value | None = None,
    activations: Activations = "f32",
    whole: Mapping[str, Stretch] | None = None,
    threads: int | None = None,
    trace: str | os.PathLike[str] | None = None,
    consistent: Consistency = "layer",
    host: Host | None = None,
) -> Attachment:
    """Serve the linear layers and convolutions of a model in eval mode, in place, until `detach`.

    artifact: where the weights come from, an artifact or a plain file; without one, the model's own. Biases come with
    them; whatever else the model has, it has already (`regrain.torch.load_model`). policy: by its name, or one of
    `regrain.policies` with other options. A matrix changes if it has an entry in `calibration`, which `calibrate`
    makes, and if the artifact allows it (`WeightDescriptor.dynamic`); its layouts are made from the model's own
    weights. value: what weights are kept as, by default what suits the artifact. activations: "i8" rounds inputs to
    eight bits where there are many tokens. whole: modules that are served from end to end on eight bits, which
    `stretches` finds; what is in them doesn't change. threads: for calls of more than two tokens, by default
    torch.get_num_threads(). trace: a file for what is observed and decided, as JSON lines, compressed if its name ends
    with .gz. consistent: "model" has every call of the model see all matrices as they were when it began. host: what
    knows how long products take here; one with a path remembers.

    A layer that can't be served is left as it is: `Attachment.left`; a warning says so where that's all of them. Raises
    AttachError for a model in training mode, one that is served already, and an artifact that isn't the model's;
    CorruptArtifactError; ValueError for options.
    """
    chosen = _checked(policy, value, activations, consistent)
    if model.training:
        raise AttachError("model must be in eval mode: call model.eval() first")
    check_free(model, Served, Whole)
    alone = [layer for layer in layers_of(model) if not inside(layer, whole or {})]
    left = {layer.path: reason for layer in alone if (reason := obstacle(layer)) is not None}
    layers = [layer for layer in alone if layer.path not in left]
    if left and not layers:
        path, reason = next(iter(left.items()))
        warnings.warn(
            f"no layer of the model can be served: {path or 'the model'} goes on as it is, since {reason}",
            RuntimeWarning,
            stacklevel=2,
        )
    times = HOST if host is None else host
    count = torch.get_num_threads() if threads is None else resolve_threads(threads)
    opened = None if trace is None else open_trace(trace, "w")
    try:
        reorganizer = Reorganizer()
        maker = Maker(reorganizer, chosen, calibration or {}, Form(value, activations, times), opened)
        engines = list(maker.engines(model, layers, artifact, count))
        wholes = wholes_of(model, whole or {}, artifact, count)
        times.save()
        slower = {layer.path: "PyTorch is faster here" for layer, engine in engines if engine.layout.idle}
        served_by = [(layer, engine) for layer, engine in engines if layer.path not in slower]
        reorganizer.serve(tuple(engine for _, engine in served_by))
    except BaseException:
        if opened is not None:
            opened.close()
        raise
    pins = Pins() if consistent == "model" else None
    served: list[Served | Pinned | Whole] = [
        Served(layer, engine, count, pins) if layer.window is None else Convolved(layer, engine, count, pins, times)
        for layer, engine in served_by
    ]
    served += wholes
    if pins is not None and served_by:
        served.append(Pinned(model, reorganizer, pins))
    for one in served:
        one.enter()
    return Attachment(model, reorganizer, served, left | slower, opened)


def _checked(policy: Any, value: Any, activations: Any, consistent: Any) -> Policy:
    if isinstance(policy, str) and policy not in POLICIES:
        raise ValueError(f"policy must be one of {', '.join(POLICIES)}, or an object, not {policy!r}")
    if value is not None and value not in VALUES:
        raise ValueError(f"value must be None or one of {', '.join(VALUES)}, not {value!r}")
    if activations not in ("f32", "i8"):
        raise ValueError(f"activations must be 'f32' or 'i8', not {activations!r}")
    if consistent not in ("layer", "model"):
        raise ValueError(f"consistent must be 'layer' or 'model', not {consistent!r}")
    found: Policy = POLICIES[policy] if isinstance(policy, str) else policy
    return found
