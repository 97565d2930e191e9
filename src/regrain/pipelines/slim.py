"""Models without the channels that nothing uses any more: files that are ordinary, and smaller."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from regrain import kernels
from regrain.artifact.source import Lazy, Source, array_bytes, from_tensors
from regrain.codecs.quantized import Quantized, matrix_shape
from regrain.codecs.sparse import Sparse
from regrain.core.dtypes import Bytes, numpy_dtype
from regrain.core.errors import CorruptArtifactError, RecipeError, UnsupportedArtifactError
from regrain.core.recipe import LayerPlan
from regrain.transforms.saliency import spread

if TYPE_CHECKING:
    import torch

    from regrain.models.channels import Group
    from regrain.pipelines.session import Session
    from regrain.planning.build import Built

Positions = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Channels:
    """Tensors by name: `user` has lost columns, which are all that met the channels that rows of `makers` make. Entries
    of `vectors` belong to these: biases, the factors and statistics of batch norms.
    """

    user: str
    makers: tuple[str, ...]
    vectors: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """A JSON object with every field."""
        return {"user": self.user, "makers": list(self.makers), "vectors": list(self.vectors)}


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """What is left of tensors, by name: ascending positions on the first axis, and on the second."""

    rows: Mapping[str, Positions]
    columns: Mapping[str, Positions]

    def touches(self, name: str) -> bool:
        """Whether a tensor gets smaller."""
        return name in self.touched

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
        for axis, kept in enumerate((self.rows.get(name), self.columns.get(name))):
            if kept is not None:
                array = np.take(array, kept, axis)
        return array

    def form(self, name: str, form: Quantized | Sparse | None) -> Quantized | Sparse | None:
        """How what is left of a tensor is stored; None for weights that are exact, of which all that is left is kept.

        Raises RecipeError for cells or units that would no longer be the same.
        """
        if not self.touches(name) or form is None:
            return form
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


def channels_of(plans: Mapping[str, LayerPlan], users: Mapping[str, Group]) -> list[Channels]:
    """The channels of which a recipe drops some: a user's columns, so that all rows that make these can go. Where rows
    are pruned in units that would not stay whole, they stay.
    """
    found = []
    for name, group in users.items():
        how = plans[name].pruning if name in plans else None
        if how is not None and how.pattern.name == "column" and all(_loses_rows(plans, one) for one in group.makers):
            found.append(Channels(name, group.makers, group.vectors))
    return found


def _loses_rows(plans: Mapping[str, LayerPlan], name: str) -> bool:
    how = plans[name].pruning if name in plans else None
    return how is None or how.pattern.name in ("row", "column", "fine")


def read_channels(receipts: Iterable[Mapping[str, object]]) -> list[Channels]:
    """The channels that an artifact's receipts tell of. Raises CorruptArtifactError for what isn't a list of channels,
    UnsupportedArtifactError where there are none.
    """
    told = next((receipt["channels"] for receipt in receipts if receipt.get("channels")), None)
    if told is None:
        raise UnsupportedArtifactError(
            "artifact must have channels to remove to be restored slim, and has none: leave out --slim, or compress "
            "with --objective work and the pattern column"
        )
    if not isinstance(told, list):
        raise CorruptArtifactError(f"receipt.channels must be a list, not {told!r:.80}")
    return [_channels(one) for one in told]


def _channels(value: object) -> Channels:
    fields = [value.get(key) for key in ("user", "makers", "vectors")] if isinstance(value, Mapping) else []
    match fields:
        case [str() as user, list() as makers, list() as vectors] if _are_names(makers) and _are_names(vectors):
            return Channels(user, tuple(makers), tuple(vectors))
    raise CorruptArtifactError(f"receipt.channels must have a user, makers and vectors, by name, not {value!r:.80}")


def _are_names(values: list[Any]) -> bool:
    return all(isinstance(name, str) for name in values)


def cut_of(channels: Iterable[Channels], get: Callable[[str], NDArray[Any] | None]) -> Cut:
    """What is left if all channels go whose columns are 0. `get` gives a tensor in its shape, None if there is none:
    vectors may be no part of a model's files.

    Raises CorruptArtifactError for tensors that don't fit together.
    """
    rows: dict[str, Positions] = {}
    columns: dict[str, Positions] = {}
    for group in channels:
        weights = get(group.user)
        if weights is None or weights.ndim < 2 or weights.shape[1] == 0:
            raise CorruptArtifactError("must be a matrix whose columns can be removed", tensor=group.user)
        used = (weights != 0).any(axis=tuple(axis for axis in range(weights.ndim) if axis != 1))
        kept = np.flatnonzero(used) if used.any() else np.zeros(1, np.int64)
        _cut(columns, group.user, kept)
        for name in (*group.makers, *group.vectors):
            tensor = get(name)
            if tensor is None and name in group.vectors:
                continue
            if tensor is None or tensor.ndim < 1 or tensor.shape[0] != used.size:
                raise CorruptArtifactError(f"must have {used.size} rows, for {group.user!r}", tensor=name)
            _cut(rows, name, kept)
    return Cut(rows, columns)


def _cut(found: dict[str, Positions], name: str, kept: Positions) -> None:
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
    """What a recipe leaves of a session's tensors."""

    def get(name: str) -> NDArray[Any] | None:
        return built[name].values if name in built else None

    return cut_of(channels_of(plans, session.structure.users), get)


def slim_model(session: Session, built: Mapping[str, Built], cut: Cut) -> torch.nn.Module:
    """The task's model with the shapes and the weights that are left."""
    import torch

    from regrain.models.slim import fit

    model = session.task.model()
    values = {name: torch.from_numpy(np.ascontiguousarray(cut.of(name, one.values))) for name, one in built.items()}
    fit(model, values)
    return model.eval()
