"""Models without the channels that nothing uses any more: files that are ordinary, and smaller."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from regrain import kernels
from regrain.artifact.checksum import seed_of
from regrain.artifact.source import Lazy, Source, array_bytes, from_tensors
from regrain.codecs import CODECS
from regrain.codecs.quantized import Quantized, encode_quantized, matrix_shape
from regrain.codecs.sparse import Sparse, sparse_size
from regrain.core.dtypes import DTYPES, Bytes, numpy_dtype, word_dtype
from regrain.core.errors import CorruptArtifactError, RecipeError
from regrain.core.recipe import LayerPlan
from regrain.pipelines.channels import Channels, leftover
from regrain.transforms.saliency import spread

if TYPE_CHECKING:
    import torch

    from regrain.pipelines.session import Session
    from regrain.planning.build import Built
    from regrain.planning.layer import Layer

Positions = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """What is left of tensors, by name: ascending positions on the first axis, and on the second; before that, `shifts`
    (R,) are added to vectors. `notes` say what could not be cut.
    """

    rows: Mapping[str, Positions]
    columns: Mapping[str, Positions]
    shifts: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def touches(self, name: str) -> bool:
        """Whether a tensor gets smaller, or changes."""
        return name in self.touched or name in self.shifts

    @property
    def touched(self) -> set[str]:
        """Names of tensors that get smaller."""
        return {*self.rows, *self.columns}

    def shape(self, name: str, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape that a tensor of that shape gets."""
        cut = list(shape)
        for axis, kept in enumerate((self.rows.get(name), self.columns.get(name))):
            if kept is not None:
                cut[axis] = kept.size
        return tuple(cut)

    def of(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        """What is left of a tensor."""
        if name in self.shifts:
            array = (array.astype(np.float64) + self.shifts[name]).astype(array.dtype)
        for axis, kept in enumerate((self.rows.get(name), self.columns.get(name))):
            if kept is not None:
                array = np.take(array, kept, axis)
        return array

    def form(self, name: str, form: Quantized | Sparse | None) -> Quantized | Sparse | None:
        """How what is left of a tensor is stored; None for weights that are exact, of which all that is left is kept,
        and for vectors that were added to.

        Raises RecipeError for cells or units that would no longer be the same.
        """
        if not self.touches(name) or form is None:
            return form
        if name in self.shifts:
            return None
        if isinstance(form, Quantized):
            codes, cell = self._grid(name, form.indices.shape, form.codes, form.cell)
            return Quantized(self.of(name, form.indices), codes, cell)
        dense = np.empty(matrix_shape(form.shape), form.values.dtype)
        kernels.expand(form.mask, form.unit, form.values, dense)
        left = np.ascontiguousarray(self.of(name, dense.reshape(form.shape)))
        mask, unit = self._grid(name, form.shape, form.mask, form.unit)
        if form.codes is None or form.cell is None:
            return None if mask.all() else Sparse(mask, unit, left.shape, _kept(left, mask, unit))
        codes, cell = self._grid(name, form.shape, form.codes, form.cell)
        if mask.all():
            return Quantized(left, codes, cell)
        return Sparse(mask, unit, left.shape, _kept(left, mask, unit), codes, cell)

    def _grid(
        self, name: str, shape: tuple[int, ...], grid: NDArray[Any], cell: tuple[int, int]
    ) -> tuple[NDArray[Any], tuple[int, int]]:
        """What is left of a grid over a tensor, and of its cells."""
        rows, columns = self.rows.get(name), self.columns.get(name)
        if len(shape) == 1:
            rows, columns = None, rows
        elif columns is not None:
            span = math.prod(shape[2:])
            columns = (columns[:, None] * span + np.arange(span)).reshape(-1)
        sides = list(cell)
        for axis, (kept, length) in enumerate(zip((rows, columns), matrix_shape(shape), strict=True)):
            if kept is None:
                continue
            if sides[axis] == length:
                sides[axis] = kept.size
            elif grid.shape[axis] * sides[axis] == length and _whole(kept, sides[axis]):
                grid = np.take(grid, kept[:: sides[axis]] // sides[axis], axis)
            else:
                raise RecipeError(f"{name!r} must have cells and units that slim models can have, not {cell}: --cells")
        return np.ascontiguousarray(grid), (sides[0], sides[1])


def _whole(kept: Positions, side: int) -> bool:
    """Whether positions are those of whole cells with that side."""
    first = kept[::side]
    return bool(kept.size % side == 0 and (kept == (first[:, None] + np.arange(side)).reshape(-1)).all()) and not bool(
        (first % side).any()
    )


def _kept(array: NDArray[Any], mask: NDArray[np.bool_], unit: tuple[int, int]) -> NDArray[Any]:
    """The weights that a mask keeps, in the order of the matrix."""
    matrix = array.reshape(matrix_shape(array.shape))
    kept: NDArray[Any] = matrix[spread(mask, unit, matrix.shape)]
    return kept


def cut_of(channels: Iterable[Channels], get: Callable[[str], NDArray[Any] | None]) -> Cut:
    """What is left if all channels go whose columns are 0, or that hold one number. `get` gives a tensor in its shape,
    None if there is none: vectors may be no part of a model's files.

    Raises CorruptArtifactError for tensors that don't fit together.
    """
    rows: dict[str, Positions] = {}
    columns: dict[str, Positions] = {}
    shifts: dict[str, NDArray[np.float64]] = {}
    for group in channels:
        weights = get(group.user)
        if weights is None or weights.ndim < 2 or weights.shape[1] == 0:
            raise CorruptArtifactError("must be a matrix whose columns can be removed", tensor=group.user)
        used = (weights != 0).any(axis=tuple(axis for axis in range(weights.ndim) if axis != 1))
        if any(number >= used.size for number, _ in group.constants):
            raise CorruptArtifactError(f"must have a column for each channel, not {used.size}", tensor=group.user)
        used[[number for number, _ in group.constants]] = False
        kept = np.flatnonzero(used) if used.any() else np.zeros(1, np.int64)
        _cut(columns, group.user, kept)
        if group.bias is not None:
            _cut(shifts, group.bias, _taken_over(group, weights, get(group.bias), kept))
        for name in (*group.makers, *group.vectors):
            tensor = get(name)
            if tensor is None and name in group.vectors:
                continue
            if tensor is None or tensor.ndim < 1 or tensor.shape[0] != used.size:
                raise CorruptArtifactError(f"must have {used.size} rows, for {group.user!r}", tensor=name)
            _cut(rows, name, kept)
    return Cut(rows, columns, shifts)


def _taken_over(
    group: Channels, weights: NDArray[Any], bias: NDArray[Any] | None, kept: Positions
) -> NDArray[np.float64]:
    """What a bias takes over (R,): what the user's columns make of channels that hold one number."""
    if bias is None or bias.shape != weights.shape[:1]:
        raise CorruptArtifactError(f"must have a number for each of {weights.shape[0]} rows", tensor=str(group.bias))
    gone = [(number, held) for number, held in group.constants if number not in kept]
    columns = weights[:, [number for number, _ in gone]].astype(np.float64).reshape(len(weights), len(gone), -1)
    made: NDArray[np.float64] = group.sign * columns.sum(axis=2) @ np.array([held for _, held in gone])
    return made


def _cut(found: dict[str, NDArray[Any]], name: str, kept: NDArray[Any]) -> None:
    if name in found:
        raise CorruptArtifactError("must lose the channels of one group only", tensor=name)
    found[name] = kept


def slim_source(source: Source, cut: Cut) -> Source:
    """A model's file without what is cut from its tensors."""

    def reader(name: str) -> Callable[[], Bytes]:
        return lambda: array_bytes(cut.of(name, array_of(source, name))) if cut.touches(name) else source.read(name)

    tensors = {
        name: Lazy(entry.dtype, cut.shape(name, entry.shape), reader(name))
        for name, entry in source.header.entries.items()
    }
    made = from_tensors(tensors, source.header.metadata, source.label)
    return replace(made, done=source.done, notes=source.notes)


def array_of(source: Source, name: str) -> NDArray[Any]:
    """A tensor of a file in its type and shape."""
    entry = source.header.entries[name]
    return source.read(name).view(numpy_dtype(entry.dtype)).reshape(entry.shape)


def cut_built(session: Session, plans: Mapping[str, LayerPlan], built: Mapping[str, Built]) -> Cut:
    """What a recipe leaves of a session's tensors, and what of it stays although it does nothing."""
    left = leftover(session, plans, built)

    def get(name: str) -> NDArray[Any] | None:
        return built[name].values if name in built else None

    cut = cut_of(left.channels, get)
    none = () if cut.rows else ("nothing is slim: no channels could be removed altogether",)
    return replace(cut, notes=left.why + none)


def stored_bytes(layer: Layer, built: Built, cut: Cut) -> int:
    """Bytes of what is left of a tensor, as it is stored."""
    if not cut.touches(layer.name):
        return built.size or layer.lossless
    form = cut.form(layer.name, built.form)
    if isinstance(form, Quantized):
        return encode_quantized(form, layer.dtype, seed=seed_of(layer.name)).size
    if form is not None:
        return sparse_size(form, layer.dtype)
    left = np.ascontiguousarray(cut.of(layer.name, built.values.astype(numpy_dtype(layer.dtype))))
    words = array_bytes(left).view(word_dtype(DTYPES[layer.dtype]))
    payload = CODECS[layer.dtype].encode(words, left.shape, seed=seed_of(layer.name), threads=1)
    return left.nbytes if payload is None else payload.size


def slim_model(session: Session, built: Mapping[str, Built], cut: Cut) -> torch.nn.Module:
    """The task's model with the shapes and the weights that are left."""
    import torch

    from regrain.models.slim import fit

    model = session.task.model()
    values = {name: torch.from_numpy(np.ascontiguousarray(cut.of(name, one.values))) for name, one in built.items()}
    fit(model, values)
    return model.eval()
