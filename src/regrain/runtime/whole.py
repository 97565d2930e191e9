"""What stands in the place of a module's `forward` while its whole call is served as one, on maps of eight bits."""

from __future__ import annotations

import operator
import os
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from regrain.core.errors import AttachError, ServingError
from regrain.kernels.maps import Convolution, Grid, Network
from regrain.kernels.panels import Panels
from regrain.models.trace import is_tensor, ties
from regrain.runtime.following import Link, Stretch
from regrain.runtime.layers import Floats, Layer, layers_of, obstacle
from regrain.runtime.stored import Artifact

_INDIFFERENT = (nn.Conv2d, nn.Linear, nn.ReLU, nn.Identity, nn.Sequential, nn.PixelUnshuffle, nn.Flatten)
"""Modules that do the same in training."""

_version_of = operator.attrgetter("_version")
_in_training = operator.attrgetter("training")
_wants_gradient = operator.attrgetter("requires_grad")


class Whole:
    """The forward of a module that is a stretch of convolutions. `network` computes it, `head` the linear layer after
    it.

    A call that can't be served goes to the original forward: tracing and compiling, images of another shape, numbers
    that are not finite; and, which a warning says the first time, another dtype or device than float32 on the CPU,
    autocast, weights or statistics that were changed after attaching. Copies and pickles of the module have the
    original again.
    """

    def __init__(self, path: str, module: nn.Module, network: Network, head: Panels | None, threads: int) -> None:
        self.path = path
        self.network = network
        self.head = head
        self.threads = threads
        self.original: Any = module.forward
        self._module = module
        self._parts = tuple(part for part in module.modules() if part is module or type(part) not in _INDIFFERENT)
        held: list[tuple[dict[str, Any], str, Tensor]] = [
            (values, name, tensor)
            for part in module.modules()
            for values in (vars(part)["_parameters"], vars(part)["_buffers"])  # what attributes of a module look into
            for name, tensor in values.items()
            if tensor is not None and tensor.is_floating_point()
        ]
        self._places = tuple(values for values, _, _ in held)
        self._names = tuple(name for _, name, _ in held)
        self._tensors = tuple(tensor for _, _, tensor in held)
        self._counted = tuple(tensor for tensor in self._tensors if not tensor.is_inference())
        self._versions = sum(map(_version_of, self._counted))
        self._warned = False

    @property
    def nbytes(self) -> int:
        """Bytes of the weights as they are laid out."""
        return self.network.nbytes + (0 if self.head is None else self.head.nbytes)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Like the module's own forward."""
        if torch.compiler.is_compiling() or torch._C._is_tracing():  # noqa: SLF001
            return self.original(*args, **kwargs)
        if len(args) != 1 or kwargs or type(args[0]) is not Tensor:
            return self.original(*args, **kwargs)
        found = self._served(args[0])
        return self.original(*args) if found is None else found

    def _served(self, x: Tensor) -> Tensor | None:
        """What it gives; None if the original is to see to it."""
        reason = self._obstacle(x)
        if reason is not None:
            self._tell(reason)
            return None
        if any(map(_in_training, self._parts)):
            raise ServingError(
                f"{self._told} must be in eval mode while it is served: call eval(), or detach() to train"
            )
        if torch.is_grad_enabled() and (x.requires_grad or any(map(_wants_gradient, self._tensors))):
            raise ServingError(
                f"{self._told} gives no gradients while it is served: call the model under torch.no_grad() or "
                "torch.inference_mode(), or detach() to train"
            )
        network, head = self.network, self.head
        if x.dim() != 4 or x.shape[1:] != network.inputs:
            return None
        try:
            x = x.contiguous()
            address = x.data_ptr()
        except RuntimeError:  # no memory of its own: sparse, or inside of a transform such as vmap
            return None
        count = x.shape[0]
        found = torch.empty(count, *network.outputs)
        if not network.run_at(address, count, found.data_ptr(), self.threads):
            return None
        if head is None:
            return found
        out = torch.empty(count, head.rows)
        head.multiply_at(found.data_ptr(), count, head.columns, out.data_ptr(), head.rows, self.threads)
        return out

    @property
    def _told(self) -> str:
        return self.path or "the model"

    def _obstacle(self, x: Tensor) -> str | None:
        """Why a call isn't served that looks like one that should be."""
        if x.dtype is not torch.float32:
            return f"its input is {str(x.dtype).removeprefix('torch.')}, not float32"
        if not x.is_cpu:
            return f"its input is on {x.device}"
        if torch.is_autocast_enabled("cpu"):
            return "autocast is on"
        found = map(dict.get, self._places, self._names)
        if not all(map(operator.is_, found, self._tensors)) or sum(map(_version_of, self._counted)) != self._versions:
            return "its weights have changed since it was attached"
        return None

    def _tell(self, reason: str) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(f"{self._told} goes on without regrain where {reason}", RuntimeWarning, stacklevel=5)

    def enter(self) -> None:
        """From here on the module's calls come here."""
        self._module.forward = self

    def leave(self) -> None:
        """The module has its own forward again."""
        if vars(self._module).get("forward") is self:
            del self._module.forward

    def __reduce__(self) -> tuple[object, ...]:
        return _itself, (self.original,)


def _itself(original: object) -> object:
    """What a copy or a pickle of a served module has instead."""
    return original


def wholes_of(
    model: nn.Module, whole: Mapping[str, Stretch], artifact: str | os.PathLike[str] | None, threads: int
) -> list[Whole]:
    """Modules of a model, each to be served as one. The weights are those of the artifact, where there is one, the
    normalizations are the model's. Raises AttachError for stretches of another model.
    """
    modules, maker = dict(model.named_modules()), _Maker(model, artifact)
    found = []
    for path, stretch in whole.items():
        if path not in modules:
            raise AttachError(f"the model must have a module {path!r}, and has none: find the stretches anew")
        network, head = maker.network(stretch)
        found.append(Whole(path, modules[path], network, head, threads))
    return found


class _Maker:
    """Makes networks with a model's or an artifact's weights."""

    def __init__(self, model: nn.Module, artifact: str | os.PathLike[str] | None) -> None:
        self._model = model
        self._layers = {layer.name: layer for layer in layers_of(model)}
        state = {name: value for name, value in model.state_dict(keep_vars=True).items() if is_tensor(value)}
        self._file = None if artifact is None else Artifact(artifact, ties(state))

    def network(self, stretch: Stretch) -> tuple[Network, Panels | None]:
        """What computes a stretch, and the linear layer after it."""
        try:
            network = Network.pack(
                stretch.shape,
                Grid.spanning(*stretch.range),
                [self._convolution(link) for link in stretch.links],
                folded=stretch.folded,
                means=stretch.means,
            )
        except ValueError as error:
            raise AttachError(f"a stretch must be of this model: {error}; find the stretches anew") from error
        if stretch.head is None:
            return network, None
        weights, bias = self._weights(stretch.head)
        return network, Panels.pack(weights, bias=bias)

    def _convolution(self, link: Link) -> Convolution:
        """A link with its normalization in weights and bias."""
        weights, bias = self._weights(link.weight)
        layer = self._layers[link.weight]
        assert layer.window is not None
        own = np.zeros(len(weights), np.float32) if bias is None else bias
        if link.norm is not None:
            weights, own = _folded(self._model.get_submodule(link.norm), weights, own)
        spatial = weights.reshape(len(weights), -1, *layer.window.kernel)
        return Convolution(
            link.source, layer.window, spatial, own, Grid.spanning(*link.range), link.added, link.rectified
        )

    def _weights(self, name: str) -> tuple[Floats, Floats | None]:
        layer = self._layers.get(name)
        fault = "the model has no such layer" if layer is None else obstacle(layer)
        if layer is None or fault is not None:
            raise AttachError(
                f"it must be a layer that can be served, and {fault}: find the stretches anew", tensor=name
            )
        if self._file is None:
            return layer.matrix(), layer.bias()
        self._file.check(layer)
        return self._file.read(layer).weights.dense(), self._file.bias(layer)


def _folded(norm: Any, weights: Floats, bias: Floats) -> tuple[Floats, Floats]:
    """Weights (R, C) and biases whose products are normalized: y = (x - mean) / sqrt(var + eps) * weight + bias."""

    def numbers(tensor: Tensor | None, default: float) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.full(len(weights), default) if tensor is None else tensor.detach().double().numpy()

    if not isinstance(norm, nn.BatchNorm2d) or norm.num_features != len(weights):
        raise ValueError(f"a normalization must be of {len(weights)} channels")
    factors = numbers(norm.weight, 1.0) / np.sqrt(numbers(norm.running_var, 1.0) + norm.eps)
    shifted = (bias - numbers(norm.running_mean, 0.0)) * factors + numbers(norm.bias, 0.0)
    return (weights * factors[:, None]).astype(np.float32), shifted.astype(np.float32)


def inside(layer: Layer, whole: Mapping[str, Stretch]) -> bool:
    """Whether a layer is part of a module that is served as one."""
    return any(not path or layer.path == path or layer.path.startswith(f"{path}.") for path in whole)
