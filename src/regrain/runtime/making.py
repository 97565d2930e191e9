"""How the engines of a model's layers come about: from the model's weights or an artifact's, fixed or adapting."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import IO

import numpy as np
from torch import nn

from regrain.core.errors import AttachError
from regrain.models.trace import is_tensor, ties
from regrain.policies import Matrix, Policy, Static
from regrain.runtime.calibrated import Calibrated
from regrain.runtime.engine import Engine
from regrain.runtime.layers import Floats, Layer
from regrain.runtime.master import Candidate, Master
from regrain.runtime.reorganizer import Reorganizer
from regrain.runtime.stored import Artifact, Stored
from regrain.runtime.weights import Form, Weights


class Maker:
    """Makes the engines of an attachment."""

    def __init__(
        self,
        reorganizer: Reorganizer,
        policy: Policy,
        calibration: Mapping[str, Calibrated],
        form: Form,
        trace: IO[str] | None,
    ) -> None:
        self._reorganizer = reorganizer
        self._policy = policy
        self._calibration = calibration
        self._form = form
        self._trace = trace

    def engines(
        self, model: nn.Module, layers: list[Layer], artifact: str | os.PathLike[str] | None, threads: int
    ) -> Iterator[tuple[Layer, Engine]]:
        """One for each layer."""
        if artifact is None:
            yield from ((layer, self._of_model(layer)) for layer in layers)
            return
        state = {name: value for name, value in model.state_dict(keep_vars=True).items() if is_tensor(value)}
        file = Artifact(artifact, ties(state))
        for layer in layers:
            file.check(layer)
        biases = [file.bias(layer) for layer in layers]
        for layer, stored, bias in zip(layers, file.read_all(layers, threads), biases, strict=True):
            yield layer, self._of_artifact(layer, stored, bias)

    def _of_model(self, layer: Layer) -> Engine:
        """With the weights that the model has. Where PyTorch is faster with them, the layer's own forward goes on."""
        known, form = self._calibration.get(layer.name), self._form
        if known is not None:
            return self._adapting(layer, known, layer.matrix(), layer.bias(), form)
        layout = form.lay_out(Weights(None, layer.matrix()), layer.bias(), layer.window is None).trimmed()
        engine = Engine(layer.name, layout)
        engine.exact = form.value in (None, "f32") and (form.activations == "f32" or layer.window is not None)
        if form.value is None and engine.exact and layer.window is None:
            engine.layout = replace(layout, border=form.host.torch_border(layout.few))
        return engine

    def _of_artifact(self, layer: Layer, stored: Stored, bias: Floats | None) -> Engine:
        """With those of the artifact. Of a pruned matrix that may change its pattern is the first candidate, and all
        other layouts are made from the weights that the model has.
        """
        known, weights = self._calibration.get(layer.name), stored.weights
        predefined = isinstance(self._policy, Static) and weights.units is not None
        if known is not None and stored.descriptor.dynamic and not predefined:
            form = self._form
            if form.value is None and weights.indices is not None:
                form = replace(form, value="i8")
            if weights.units is None:
                return self._adapting(layer, known, weights.dense(), bias, form)
            first = Candidate.of(weights.dense(), weights.units, known.inputs)
            known = replace(known, density=first.decision.density, candidates=(first, *known.candidates))
            return self._adapting(layer, known, layer.matrix(), layer.bias(), form)
        return Engine(layer.name, self._form.lay_out(weights, bias, layer.window is None).trimmed())

    def _adapting(self, layer: Layer, known: Calibrated, weights: Floats, bias: Floats | None, form: Form) -> Engine:
        seen = known.inputs
        channels = weights.shape[1] // layer.span
        if seen.mean.shape != (channels,):
            raise AttachError(
                f"its calibration must have {channels} inputs, not {seen.mean.size}: calibrate this model",
                tensor=layer.name,
            )
        matrix = Matrix.of(
            layer.name,
            weights.reshape(len(weights), channels, layer.span),
            seen.mean,
            seen.variance,
            density=known.density,
            calibrated=seen.count,
            positions=known.positions,
            threshold=known.threshold,
            candidates=tuple(candidate.decision for candidate in known.candidates),
        )
        zeros = np.zeros(len(weights), np.float32)
        master = Master(matrix, weights, zeros if bias is None else bias, known.candidates, form, layer.window is None)
        return Engine.adapting(master, self._policy, self._reorganizer.ask, self._trace)
