"""What stands in the place of a layer's `forward` while it is served."""

from __future__ import annotations

import threading
import warnings
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor, nn

from regrain.core.errors import ServingError
from regrain.runtime.engine import Engine
from regrain.runtime.layers import Layer
from regrain.runtime.layout import Biased, Layout
from regrain.runtime.reorganizer import Reorganizer

_FLOAT = torch.float32
_empty = torch.empty
_gradients = torch.is_grad_enabled
_autocast = torch.is_autocast_enabled
_compiling = torch.compiler.is_compiling
_tracing = torch._C._is_tracing  # noqa: SLF001 - torch.jit.is_tracing, without its wrapper

CALLERS_ONLY = 2
"""Up to so many tokens no other thread is woken."""


class Pins(threading.local):
    """The layouts that this thread's call of the model keeps to; None outside of one, or where that is not wanted."""

    layouts: tuple[Layout, ...] | None = None


class Fit(NamedTuple):
    """Shapes of an input and of what it gives, and how many tokens, or positions of images, are in it. `images` is a
    convolution's input as (images, channels, height, width).
    """

    inputs: tuple[int, ...]
    tokens: int
    outputs: tuple[int, ...]
    images: tuple[int, int, int, int] = (0, 0, 0, 0)


class Served:
    """The forward of one layer. The hot path of everything: each line of `__call__` costs every layer of every token.

    A call that can't be served goes to the original forward, and a warning says so the first time: another dtype or
    device than float32 on the CPU, autocast, or a weight that was changed after attaching. Tracing and compiling get
    the original without a word. Copies and pickles of the module have the original again.
    """

    def __init__(self, layer: Layer, engine: Engine, threads: int, pins: Pins | None) -> None:
        self.layer = layer
        self.engine = engine
        self.threads = threads
        self.original: Any = layer.module.forward
        self._module = layer.module
        self._parameters = layer.module._parameters  # noqa: SLF001 - what `module.weight` looks into, without its search
        self._weight = layer.weight
        self._versioned = not layer.weight.is_inference()
        self._version = layer.weight._version if self._versioned else 0  # noqa: SLF001 - counts changes in place
        self._rows, self._columns = layer.shape
        self._pins = pins
        self._known = Fit((-1,), 0, ())  # of no input
        self._warned = False

    def __call__(self, input: Tensor) -> Tensor:  # noqa: A002 - as torch names it
        """Like the layer's own forward."""
        if _compiling() or _tracing():
            return self.original(input)  # type: ignore[no-any-return]
        weight = self._parameters["weight"]
        if (
            type(input) is not Tensor
            or input.dtype is not _FLOAT
            or not input.is_cpu
            or weight is not self._weight
            or (self._versioned and weight._version != self._version)  # noqa: SLF001
            or _autocast("cpu")
        ):
            return self._other(input)
        if self._module.training or (_gradients() and (input.requires_grad or weight.requires_grad)):
            self._refuse()
        fit = self._known
        if input.shape != fit.inputs:
            found = self._fit(input.shape)
            if found is None:
                return self.original(input)  # type: ignore[no-any-return]
            fit = self._known = found
        engine, pins = self.engine, self._pins
        layout = engine.layout if pins is None or pins.layouts is None else pins.layouts[engine.index]
        product = layout.few if fit.tokens < layout.border else layout.many
        if product is None:
            return self.original(input)  # type: ignore[no-any-return]
        try:
            if not input.is_contiguous():
                input = input.contiguous()  # noqa: A001
            address = input.data_ptr()
        except RuntimeError:  # no memory of its own: sparse, or inside of a transform such as vmap
            return self.original(input)  # type: ignore[no-any-return]
        if engine.watching:
            engine.turn -= 1
            if engine.turn <= 0:
                engine.watch(input, fit.images[0])
        out = _empty(*fit.outputs)
        threads = 1 if fit.tokens <= CALLERS_ONLY else self.threads
        self._compute(product, address, fit, out.data_ptr(), threads)
        return out

    def _fit(self, shape: torch.Size) -> Fit | None:
        """What an input of that shape gives; None if the original is to see to it."""
        if not shape or shape[-1] != self._columns:
            return None
        return Fit(shape, shape[:-1].numel(), (*shape[:-1], self._rows))

    def _compute(self, product: Biased, x: int, fit: Fit, out: int, threads: int) -> None:
        """The product, from one address to another."""
        product.multiply_at(x, fit.tokens, self._columns, out, self._rows, threads)

    def _other(self, x: Any) -> Tensor:
        """The original's answer, and why, said once."""
        if not self._warned and type(x) is Tensor:
            self._warned = True
            if _autocast("cpu"):
                reason = "autocast is on"
            elif x.dtype is not _FLOAT:
                reason = f"its input is {str(x.dtype).removeprefix('torch.')}, not float32"
            elif not x.is_cpu:
                reason = f"its input is on {x.device}"
            else:
                reason = "its weight has changed since it was attached"
            warnings.warn(
                f"{self.layer.path or 'the model'} goes on without regrain where {reason}", RuntimeWarning, stacklevel=4
            )
        return self.original(x)  # type: ignore[no-any-return]

    def _refuse(self) -> NoReturn:
        if self._module.training:
            raise ServingError(
                f"{self.layer.path or 'the model'} must be in eval mode while it is served: call eval(), or detach() "
                "to train"
            )
        raise ServingError(
            f"{self.layer.path or 'the model'} gives no gradients while it is served: call the model under "
            "torch.no_grad() or torch.inference_mode(), or detach() to train"
        )

    def enter(self) -> None:
        """From here on the module's calls come here."""
        self._module.forward = self

    def leave(self) -> None:
        """The module has its own forward again."""
        if vars(self._module).get("forward") is self:
            del self._module.forward

    def __reduce__(self) -> tuple[object, ...]:
        return _itself, (self.original,)


class Pinned:
    """The forward of a whole model: inside of a call, every layer keeps to the layouts that were in force when the
    outermost call in this thread began.
    """

    def __init__(self, model: nn.Module, reorganizer: Reorganizer, pins: Pins) -> None:
        self.original: Any = model.forward
        self._model = model
        self._reorganizer = reorganizer
        self._pins = pins
        self._own = "forward" in vars(model)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The model's forward."""
        pins = self._pins
        if pins.layouts is not None:
            return self.original(*args, **kwargs)
        pins.layouts = self._reorganizer.layouts
        try:
            return self.original(*args, **kwargs)
        finally:
            pins.layouts = None

    def enter(self) -> None:
        """From here on the model's calls come here."""
        self._model.forward = self

    def leave(self) -> None:
        """The model has its own forward again."""
        if vars(self._model).get("forward") is not self:
            return
        if self._own:
            self._model.forward = self.original
        else:
            del self._model.forward

    def __reduce__(self) -> tuple[object, ...]:
        return _itself, (self.original,)


def _itself(original: object) -> object:
    """What a copy or a pickle of a served module has instead."""
    return original
