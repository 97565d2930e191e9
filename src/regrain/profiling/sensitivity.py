"""How much a change of each weight changes what the network puts out: the empirical Fisher, by random projections.

For an output e(w) with metric M (what the loss makes of a small change: loss ~ 1/2 de^T M de), draw r with covariance
M for every example and differentiate r . e by the weights. Then E[g g^T] = J^T M J, the Hessian of the loss in w, and

    loss(w + d) ~ 1/2 d^T E[g g^T] d                                  (a Gauss-Newton approximation)

Embeddings: e normalized, loss D = 1 - cosine = 1/2 |de|^2, r ~ N(0, I). Logits: loss KL = 1/2 dz^T (diag p - p p^T) dz,
r = sqrt(p) x - p (sqrt(p) . x), x ~ N(0, I). Only sums over examples are kept, never the matrix itself: of a weight
matrix's gradients g (R, C) the traces, and the two Gram matrices

    columns = sum g^T g (C, C)        rows = sum g g^T (R, R)

whose Kronecker product, scaled to the same trace, stands for E[g g^T] (Gupta et al., Shampoo, 2018). A layer's bias can
make up for what a changed weight does to the mean of its inputs, so g is that of the centered inputs: with the gradient
b of the bias and the mean m of the inputs, g - b m^T.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from regrain.core.errors import TaskError
from regrain.profiling.gram import add_gram, mirror

if TYPE_CHECKING:
    import torch

    from regrain.models.network import Network
    from regrain.models.task import Task

LARGEST = 4096
"""The largest side of a weight matrix that gets a Gram matrix; longer sides get its diagonal."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, eq=False)
class Sensitivity:
    """The damage of changing one tensor, seen as a matrix (R, C): first axis, all others; a vector is one row.

    A change of independent errors of variance v adds trace * v / 2 to the loss (D or KL, per example). `columns` is
    (C, C), or (C,) its diagonal; `rows` likewise, (R,) for an embedding too; both None for a vector.
    """

    trace: float
    columns: NDArray[np.float32] | None
    rows: NDArray[np.float32] | None


class _Gathering:
    """Sums over probes for one tensor."""

    def __init__(self, shape: tuple[int, ...], embedding: bool) -> None:
        self.shape = (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, math.prod(shape))
        self.matrix = len(shape) > 1
        self.embedding = embedding
        self.trace = 0.0
        self.columns: torch.Tensor | None = None
        self.rows: torch.Tensor | None = None

    def add(self, gradient: torch.Tensor) -> None:
        g = gradient.reshape(self.shape)
        if not self.matrix:
            self.trace += float(g.double().square().sum())
            return
        squares = g.square()
        diagonal = squares.sum(1)
        self.trace += float(diagonal.double().sum())
        if self.rows is None or self.columns is None:
            self.rows, self.columns = self._zeros()
        if self.rows.dim() == 2:
            add_gram(self.rows, g)
        else:
            self.rows += diagonal
        if self.columns.dim() == 2:
            add_gram(self.columns, g.T)
        else:
            self.columns += squares.sum(0)

    def _zeros(self) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        rows, columns = self.shape
        of_rows = (rows, rows) if rows <= LARGEST and not self.embedding else (rows,)
        return torch.zeros(of_rows), torch.zeros((columns, columns) if columns <= LARGEST else (columns,))

    def result(self, examples: int) -> Sensitivity:
        """Means over examples. The sums are used up."""
        if not math.isfinite(self.trace):
            raise TaskError("gradients must be finite, and have NaN or infinity in them")
        means = []
        for total in (self.columns, self.rows):
            if total is not None:
                if total.dim() == 2:
                    mirror(total)
                total /= examples
            means.append(None if total is None else total.numpy())
        return Sensitivity(self.trace / examples, *means)

    @staticmethod
    def size(shape: tuple[int, ...], embedding: bool) -> int:
        """Bytes that the sums take."""
        if len(shape) < 2:
            return 0
        rows, columns = shape[0], math.prod(shape[1:])
        of_rows = rows**2 if rows <= LARGEST and not embedding else rows
        return 4 * (of_rows + (columns**2 if columns <= LARGEST else columns))


def measure(
    network: Network,
    task: Task,
    batches: list[Any],
    means: Mapping[str, NDArray[np.float32]],
    names: Iterable[str],
    *,
    seed: int,
    probes: int,
    progress: Progress = lambda *_: None,
) -> dict[str, Sensitivity]:
    """Sensitivities of those weights over the batches, `probes` random projections for each.

    `means` are the mean inputs (C,) of weights whose layer has a bias. A weight that no gradient reaches is unused:
    its trace is 0. Of buffers only running statistics are measured, the others' trace is 0: functions may refuse to be
    differentiated by them. Raises TaskError for gradients that aren't finite.
    """
    import torch

    places = network.places
    wanted = list(names)
    centers = {name: torch.from_numpy(means[name]) for name in wanted if name in means}
    found = {name: _Gathering(places[name].shape, places[name].kind == "embedding") for name in wanted}
    statistics = running_statistics(network, wanted)
    beside = {places[name].bias or name for name in centers} | {s.parameter for s in statistics}
    generator = torch.Generator().manual_seed(seed)
    examples = 0
    trainable = {name for name in wanted if places[name].trainable}
    alone = {name for name in found if len(places[name].shape) > 1} - beside - centers.keys()
    with network.gathering(trainable | beside | _anchors(network)) as tensors, _taken(tensors, alone, found):
        for number, batch in enumerate(batches):
            rows = task.outputs(network.model, batch, grad=True, where=f"batch {number} of 'calibration'")
            kind = task.kind_of(rows)
            for probe in range(probes):
                loss = _projected(rows, kind, generator)
                loss.backward(retain_graph=probe + 1 < probes)  # type: ignore[no-untyped-call]
                examples += len(rows)
                gradients = {name: t.grad.to_dense() for name, t in tensors.items() if t.grad is not None}
                for each in statistics:
                    if each.parameter in gradients:
                        gradients[each.name] = gradients[each.parameter] * each.factor
                for name in found.keys() & gradients.keys():
                    gradient, bias = gradients[name].float(), gradients.get(places[name].bias or "")
                    if name in centers and bias is not None:
                        gradient = gradient.reshape(found[name].shape) - bias.float()[:, None] * centers[name]
                    found[name].add(gradient)
                for tensor in tensors.values():
                    tensor.grad = None
            progress(number + 1, len(batches))
    return {name: gathering.result(examples) for name, gathering in found.items()}


@contextmanager
def _taken(
    tensors: Mapping[str, torch.Tensor], alone: Container[str], found: Mapping[str, _Gathering]
) -> Iterator[None]:
    """Inside, gradients of the tensors that are `alone` are summed up as soon as they are known, and make room for
    others. Autograd adds up all that a tensor contributes to before that.
    """

    def take(tensor: torch.Tensor, name: str) -> None:
        assert tensor.grad is not None
        found[name].add(tensor.grad.to_dense().float())
        tensor.grad = None

    handles = [
        tensor.register_post_accumulate_grad_hook(partial(take, name=name))  # type: ignore[no-untyped-call]
        for name, tensor in tensors.items()
        if name in alone
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _anchors(network: Network) -> set[str]:
    """Weights that gather gradients whatever is measured, so that the output always depends on one that does."""
    trainable = {name: place.kind for name, place in network.places.items() if place.trainable}
    vectors = {name for name, kind in trainable.items() if kind == "vector"}
    return vectors or set(trainable)


@dataclass(frozen=True, slots=True)
class _Statistic:
    """A running mean or variance: its gradient is that of a parameter beside it, times a factor for each channel."""

    name: str
    parameter: str
    factor: torch.Tensor


def running_statistics(network: Network, names: Iterable[str]) -> list[_Statistic]:
    """Those among `names`. Of y = w (x - m) / sqrt(v + eps) + b, for any loss:

    dL/dm = - dL/db w / sqrt(v + eps)        dL/dv = - dL/dw w / (2 (v + eps))
    """
    from torch.nn.modules.batchnorm import _NormBase

    modules = dict(network.model.named_modules())
    found = []
    for name in names:
        path, _, leaf = name.rpartition(".")
        module = modules.get(path)
        if not isinstance(module, _NormBase) or not module.affine or module.running_var is None:
            continue
        spread = module.running_var.detach() + module.eps
        weight = module.weight.detach()
        prefix = f"{path}." if path else ""
        if leaf == "running_mean":
            found.append(_Statistic(name, f"{prefix}bias", -weight / spread.sqrt()))
        elif leaf == "running_var":
            found.append(_Statistic(name, f"{prefix}weight", -weight / (2 * spread)))
    return found


def gram_bytes(shape: tuple[int, ...], kind: str) -> int:
    """Bytes that measuring a weight keeps."""
    return _Gathering.size(shape, kind == "embedding")


def _projected(rows: torch.Tensor, kind: str, generator: torch.Generator) -> torch.Tensor:
    import torch

    noise = torch.randn(rows.shape, generator=generator)
    if kind == "embeddings":
        return (torch.nn.functional.normalize(rows, dim=1) * noise).sum()
    p = rows.detach().softmax(dim=1)
    root = p.sqrt() * noise
    return (rows * (root - p * root.sum(dim=1, keepdim=True))).sum()
