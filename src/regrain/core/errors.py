"""Every way regrain fails on purpose; anything else that escapes is a bug.

Bad data and broken I/O are different: a file that cannot be opened or read raises the operating system's own
`OSError`, untouched; one that cannot be written, `OutputError`, which is an `OSError` too. A wrong argument raises
`ValueError` or `TypeError`, as in NumPy.
"""

from __future__ import annotations


class RegrainError(Exception):
    """Base of all errors below, so that one `except` catches what regrain itself found wrong."""


class CorruptArtifactError(RegrainError, ValueError):
    """The bytes of an artifact contradict themselves: a checksum, a length, a table or the manifest is wrong.

    `tensor` is the original name of the tensor that cannot be trusted, `block` the number of the block of its
    payload counted from 0; None where the damage is not that local (the file's header; a payload's head).

    >>> str(CorruptArtifactError("checksum must be 1f2e3d4c, not 00000000", tensor="fc.weight", block=3))
    "tensor 'fc.weight', block 3: checksum must be 1f2e3d4c, not 00000000"
    """

    def __init__(self, reason: str, *, tensor: str | None = None, block: int | None = None) -> None:
        super().__init__(reason, tensor, block)
        self.reason = reason
        self.tensor = tensor
        self.block = block

    def __str__(self) -> str:
        where = [] if self.tensor is None else [f"tensor {self.tensor!r}"]
        if self.block is not None:
            where.append(f"block {self.block}")
        return f"{', '.join(where)}: {self.reason}" if where else self.reason

    def __reduce__(self) -> tuple[object, ...]:
        return _corrupt, (type(self), self.reason, self.tensor, self.block)


class UnsupportedArtifactError(RegrainError, ValueError):
    """A sound artifact that this version of regrain cannot read: a newer one wrote it."""


class UnsupportedModelError(RegrainError, ValueError):
    """The model cannot be read: an unknown file type, a layout or a dtype that regrain has no code for."""


class TaskError(RegrainError, ValueError):
    """A task cannot be used: its file, a function in it or what the function gave back is wrong."""


class BudgetError(RegrainError, ValueError):
    """A budget contradicts itself, or nothing meets it; `nearest` is then what came closest, None if nothing did.

    >>> BudgetError("max_size must be at least 2.1 MB, not 1 MB", nearest=2_100_000).nearest
    2100000
    """

    def __init__(self, reason: str, *, nearest: object = None) -> None:
        super().__init__(reason)
        self.nearest = nearest

    def __reduce__(self) -> tuple[object, ...]:
        return _budget, (type(self), str(self), self.nearest)


class RecipeError(RegrainError, ValueError):
    """A recipe cannot be read, or does not fit the model it is applied to."""


class TrainingError(RegrainError, ValueError):
    """A model cannot pass through a recipe while it trains, or training went wrong: a metric or a weight is NaN."""


class AttachError(RegrainError, ValueError):
    """A model cannot be served as asked: it and the artifact disagree, it is served already, or something is missing.

    `tensor` is the name of the weight that is in the way, None where it is the whole model.

    >>> str(AttachError("shape must be (4, 8) as in the model, not (8, 4)", tensor="fc.weight"))
    "tensor 'fc.weight': shape must be (4, 8) as in the model, not (8, 4)"
    """

    def __init__(self, reason: str, *, tensor: str | None = None) -> None:
        super().__init__(reason, tensor)
        self.reason = reason
        self.tensor = tensor

    def __str__(self) -> str:
        return self.reason if self.tensor is None else f"tensor {self.tensor!r}: {self.reason}"

    def __reduce__(self) -> tuple[object, ...]:
        return _attach, (type(self), self.reason, self.tensor)


class ServingError(RegrainError, RuntimeError):
    """A model that is served was asked for what only the original can do, as training; or what goes on beside the
    serving failed, and serving goes on as it was.
    """


class HardwareError(RegrainError, ValueError):
    """What the accelerator was asked to be or to run can't be built, or doesn't fit it."""


class OutputError(RegrainError, OSError):
    """The output could not be written. Nothing was left behind, and a file that was there before is still there."""


class OutputExistsError(RegrainError, FileExistsError):
    """The output exists already, and overwriting it was not asked for (`force=True`, `--force`) or would destroy the
    input.
    """


def _corrupt(
    kind: type[CorruptArtifactError], reason: str, tensor: str | None, block: int | None
) -> CorruptArtifactError:
    """Rebuild a pickled error: keyword-only arguments are beyond `Exception.__reduce__`."""
    return kind(reason, tensor=tensor, block=block)


def _budget(kind: type[BudgetError], reason: str, nearest: object) -> BudgetError:
    """As `_corrupt`."""
    return kind(reason, nearest=nearest)


def _attach(kind: type[AttachError], reason: str, tensor: str | None) -> AttachError:
    """As `_corrupt`."""
    return kind(reason, tensor=tensor)
