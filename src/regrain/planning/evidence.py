"""Everything that is measured of a model before any choice: weights, inputs, sensitivities, lossless sizes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from regrain.artifact.source import Source
from regrain.artifact.writer import encode_lossless
from regrain.codecs.quantized import matrix_shape
from regrain.core.dtypes import DTYPES, numpy_dtype
from regrain.core.errors import TaskError
from regrain.models.network import Network
from regrain.planning.layer import Factors, Layer, factors
from regrain.planning.store import Store
from regrain.profiling.activations import Inputs, gather_inputs
from regrain.profiling.sensitivity import gram_bytes, measure
from regrain.transforms.prune import Statistics

if TYPE_CHECKING:
    import torch

    from regrain.models.task import Task

Said = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is, and all of it."""

GRAM_BYTES = 768 << 20
"""Bytes of Gram matrices that are gathered at once, beside as many as the model has; more take another pass."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a measurement depends on besides model and data; `probes` are random projections of each batch."""

    seed: int = 0
    probes: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Layers by name, in the order of the model's files, and what is known of inputs by the weight they meet.

    `same` maps a tensor of the files to the layer whose storage the model shares with it; `unused` are tensors that
    the model has no place for. `fixed` are the bytes of the lossless forms of all tensors that are no layer; `files`
    hold them all, each with a header and the receipt.
    """

    layers: dict[str, Layer]
    inputs: dict[str, Inputs]
    same: dict[str, str]
    unused: tuple[str, ...]
    fixed: int
    examples: int
    files: int = 1

    @property
    def work(self) -> int:
        """Multiply-adds of all layers for each example; 0 where nobody counted them."""
        return sum(layer.work for layer in self.layers.values())


def floats(source: Source, name: str) -> NDArray[np.float32]:
    """A floating-point tensor of a file as float32, in its shape."""
    entry = source.header.entries[name]
    raw = source.read(name).view(numpy_dtype(entry.dtype)).reshape(entry.shape)
    array: NDArray[np.float32] = raw.astype(np.float32)
    source.done(name)
    return array


def load_weights(network: Network, sources: Sequence[Source]) -> tuple[str, ...]:
    """Put a model file's weights into the network; the file's weights that it has no place for."""
    weights = {
        name: floats(source, name)
        for source in sources
        for name, entry in source.header.entries.items()
        if readable(entry.dtype)
    }
    return network.load(weights)


def readable(dtype: str) -> bool:
    """Whether tensors of that dtype can be read as float32."""
    return DTYPES[dtype].floating and bool(DTYPES[dtype].numpy) and dtype != "C64"


def batches_digest(batches: Iterable[Any]) -> str:
    """SHA-256 of all numbers in some batches."""
    found = hashlib.sha256()
    for batch in batches:
        _digest(batch, found)
    return found.hexdigest()


def _digest(value: Any, found: Any) -> None:
    if isinstance(value, Mapping):
        for key in value:
            found.update(repr(key).encode())
            _digest(value[key], found)
    elif isinstance(value, list | tuple):
        found.update(f"{type(value).__name__}{len(value)}".encode())
        for item in value:
            _digest(item, found)
    elif hasattr(value, "detach"):
        array = value.detach().cpu().contiguous()
        found.update(f"{array.dtype}{tuple(array.shape)}".encode())
        found.update(_words(array.reshape(-1)))
    elif isinstance(value, np.ndarray):
        found.update(f"{value.dtype}{value.shape}".encode() + np.ascontiguousarray(value).tobytes())
    else:
        found.update(repr(value).encode())


def _words(flat: torch.Tensor) -> bytes:
    """The bytes of a tensor (n,), of a dtype that NumPy may not have."""
    import torch

    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def gather(
    sources: Sequence[Source],
    network: Network,
    task: Task,
    batches: list[Any],
    store: Store,
    setting: Setting,
    *,
    unused: tuple[str, ...] = (),
    threads: int = 1,
    said: Said = lambda *_: None,
) -> Evidence:
    """Measure everything that `store` doesn't have yet. The network holds the sources' weights."""
    entries = {name: (source, entry) for source in sources for name, entry in source.header.entries.items()}
    same = {
        name: owner
        for name, (_, entry) in entries.items()
        if readable(entry.dtype) and (owner := network.same.get(name, name)) in network.places
    }
    chosen: dict[str, str] = {}  # the first tensor of the files for each weight of the network
    for name, owner in same.items():
        chosen.setdefault(owner, name)
    inputs = _inputs(network, task, batches, list(chosen), store, said)
    means = {name: np.array(found.mean) for name, found in inputs.items() if network.places[name].bias in chosen}
    _measure(network, task, batches, list(chosen), inputs, means, store, setting, said)
    layers: dict[str, Layer] = {}
    fixed = 0
    done, total = 0, sum(entry.nbytes for _, entry in entries.values())
    for name, (source, entry) in entries.items():
        done += entry.nbytes
        said("sizing", done, total)
        place = network.places[same[name]] if name in same else None
        if place is not None and chosen[place.name] != name:
            continue
        lossless = _lossless(source, name, threads)
        if place is None:
            fixed += lossless
            continue
        weights = floats(source, name).reshape(matrix_shape(entry.shape))
        layers[name] = Layer(
            name,
            entry.dtype,
            place.kind,
            entry.shape,
            weights,
            lossless,
            _factors(store, place.name),
            chosen.get(place.bias) if place.bias is not None and place.name in means else None,
            means.get(place.name),
            statistics=_statistics(inputs.get(place.name)),
        )
    tied = {name: chosen[owner] for name, owner in same.items() if chosen[owner] != name}
    found_inputs = {chosen[owner]: found for owner, found in inputs.items()}
    return Evidence(layers, found_inputs, tied, unused, fixed, len(batches), len(sources))


def _statistics(inputs: Inputs | None) -> Statistics:
    if inputs is None:
        return Statistics()
    return Statistics(inputs.variance + np.square(inputs.mean), inputs.variance)


def _inputs(
    network: Network, task: Task, batches: list[Any], names: list[str], store: Store, said: Said
) -> dict[str, Inputs]:
    wanted = [name for name in names if network.places[name].kind in ("linear", "conv")]
    kept = store.get("inputs")
    if kept is None or "shared" not in kept[0]:

        def run() -> Iterable[object]:
            for number, batch in enumerate(batches):
                said("watching inputs", number, len(batches))
                yield task.outputs(network.model, batch, where=f"batch {number} of 'calibration'")

        found = gather_inputs(network, run, wanted)
        first: dict[int, str] = {}
        shared = {name: first.setdefault(id(inputs), name) for name, inputs in found.items()}
        arrays = {
            f"{wanted.index(name):05d}.{field.name}": getattr(found[name], field.name)
            for name in first.values()
            for field in fields(Inputs)
            if isinstance(getattr(found[name], field.name), np.ndarray)
        }
        counts = {name: inputs.count for name, inputs in found.items()}
        store.put("inputs", {"counts": counts, "shared": shared}, arrays)
        kept = store.get("inputs")
        assert kept is not None
    value, arrays = kept
    return {
        name: Inputs(
            count,
            *(
                arrays.get(f"{wanted.index(value['shared'][name]):05d}.{field}")  # type: ignore[arg-type]
                for field in ("mean", "variance", "least", "most", "hessian")
            ),
        )
        for name, count in value["counts"].items()
    }


def _measure(
    network: Network,
    task: Task,
    batches: list[Any],
    names: list[str],
    inputs: Mapping[str, Inputs],
    means: Mapping[str, NDArray[np.float32]],
    store: Store,
    setting: Setting,
    said: Said,
) -> None:
    missing = [name for name in names if not store.has(_key(name))]
    limit = GRAM_BYTES + 4 * sum(int(np.prod(place.shape)) for place in network.places.values())
    passes = _passes(network, missing, limit)
    for number, group in enumerate(passes):
        what = "measuring sensitivity" + (f", pass {number + 1} of {len(passes)}" if len(passes) > 1 else "")

        def progress(done: int, total: int, what: str = what) -> None:
            said(what, done, total)

        found = measure(
            network, task, batches, means, group, seed=setting.seed, probes=setting.probes, progress=progress
        )
        for name in group:
            met = inputs.get(name)
            made = factors(found[name], matrix_shape(network.places[name].shape), None if met is None else met.hessian)
            arrays = {key: getattr(made, key) for key in ("u", "inputs", "v", "outputs")}
            known = {key: array for key, array in arrays.items() if array is not None}
            store.put(_key(name), {"trace": made.trace, "name": name}, known)
            del found[name]


def _passes(network: Network, names: list[str], limit: int) -> list[list[str]]:
    """Weights in groups whose Gram matrices fit the limit together."""
    groups: list[list[str]] = []
    room = 0
    for name in names:
        place = network.places[name]
        size = gram_bytes(place.shape, place.kind)
        if not groups or size > room:
            groups.append([])
            room = limit
        groups[-1].append(name)
        room -= size
    return groups


def _key(name: str) -> str:
    return "factors-" + hashlib.sha256(name.encode("utf-8")).hexdigest()[:24]


def _factors(store: Store, name: str) -> Factors:
    kept = store.get(_key(name))
    if kept is None:
        raise TaskError(f"measurements of {name!r} must be in {str(store.folder)!r}: start again with --fresh")
    value, arrays = kept
    return Factors(value["trace"], arrays.get("u"), arrays["inputs"], arrays.get("v"), arrays["outputs"])


def _lossless(source: Source, name: str, threads: int) -> int:
    entry = source.header.entries[name]
    data = source.read(name)
    payload = encode_lossless(name, entry, data, threads)
    source.done(name)
    return int(data.size if payload is None else payload.size)


def setting_json(setting: Setting) -> dict[str, int]:
    """A JSON object with every field."""
    return asdict(setting)
