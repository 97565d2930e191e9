"""Digests of a batch's examples, to see whether two batches have some in common."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

_ADDRESS = re.compile(r" at 0x[0-9a-f]+>")
"""In the representation of objects that don't say what they hold."""
_ATOMS = (str, bytes, int, float, bool, type(None))


def examples(batch: Any) -> list[bytes] | None:
    """One digest for each example of a batch; None for objects that say nothing of what they hold.

    A batch is arrays or tensors, or lists of strings and numbers, that have their examples along the first axis, alone
    or in any nest of dicts, tuples and lists; what has length 1 belongs to all of them. Where lengths differ, the batch
    is one example. Zeros at an example's end don't count: padding depends on what else is in the batch.
    """
    leaves = list(_leaves(batch))
    if None in leaves:
        return None
    known = [leaf for leaf in leaves if leaf]
    count = max(map(len, known), default=0)
    if any(len(leaf) not in (1, count) for leaf in known):
        return [_digest([row for leaf in known for row in leaf])]
    return [_digest(list(rows)) for rows in zip(*(leaf * (count // len(leaf)) for leaf in known), strict=True)]


def digest_of_state(model: torch.nn.Module) -> bytes:
    """A digest of all parameters and buffers, those that are not saved among them."""
    import torch

    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        plain = tensor.detach().cpu().contiguous().reshape(-1)
        if plain.numel():
            digest.update(plain.view(torch.uint8).numpy().data)
    return digest.digest()


def _leaves(part: Any) -> Iterator[list[bytes] | None]:
    """Bytes by example of each array below `part`; None for an object that says nothing."""
    array = _array(part)
    if array is not None:
        yield [row.tobytes().rstrip(b"\0") for row in (array if array.ndim else array[None])]
    elif isinstance(part, Mapping):
        for key in part:
            yield from _leaves(part[key])
    elif isinstance(part, _ATOMS):
        yield [repr(part).encode()]
    elif isinstance(part, Sequence) and all(isinstance(item, _ATOMS) for item in part):
        yield [repr(item).encode() for item in part]
    elif isinstance(part, Sequence):
        for item in part:
            yield from _leaves(item)
    else:
        said = repr(part)
        yield None if _ADDRESS.search(said) else [said.encode()]


def _array(part: Any) -> np.ndarray[Any, Any] | None:
    if isinstance(part, np.ndarray):
        return np.ascontiguousarray(part)
    if type(part).__module__.partition(".")[0] != "torch":
        return None
    import torch

    if not isinstance(part, torch.Tensor):
        return None
    plain = part.detach().cpu().contiguous()
    if plain.dtype is torch.bfloat16:  # NumPy has no such type
        plain = plain.view(torch.int16)
    return plain.numpy()


def _digest(rows: list[bytes]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for row in rows:
        digest.update(len(row).to_bytes(8, "little"))
        digest.update(row)
    return digest.digest()
