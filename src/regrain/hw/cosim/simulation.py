"""A component as a compiled program that runs many cycles at a call, over arrays."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regrain.hw.cosim.build import default_cache, harness_text, library
from regrain.hw.cosim.ports import Layout, Port, Words, signature_of

_ALWAYS = _NEVER = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Source:
    """A valid/ready stream into the component. Items go one by one, each held until it is taken.

    `valid` names an input, `ready` an output; `items` maps inputs to their values, one an item, in the forms of
    `Simulation.run`. In cycle t an item begins to be offered only if `offered[t]`; None: always. Without an item to
    offer, valid and the data are 0.
    """

    valid: str
    ready: str
    items: Mapping[str, ArrayLike]
    offered: NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """A synchronous memory beside the component: what the output `address` asks for in one cycle is on the input `data`
    from the next cycle on, until the next read. `enable`: reads only where this output isn't 0.

    contents: one value of `data` an address, in the forms of `Simulation.run`. Until the first read, data is 0.
    """

    address: str
    data: str
    contents: ArrayLike
    enable: str | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """What happened in a number of cycles.

    Indexing gives a port's values, one a cycle: (cycles,) int64 up to 63 bits or signed 64, uint64 for unsigned 64;
    (cycles, words) uint32, little-endian, above. Inputs can be asked for, too: what was driven. `taken`: how many items
    of each source the component has taken.
    """

    cycles: int
    taken: tuple[int, ...]
    _rows: tuple[Words, Words] = field(repr=False)
    _layouts: tuple[Layout, Layout] = field(repr=False)

    def __getitem__(self, name: str) -> NDArray[Any]:
        for rows, layout in zip(self._rows, self._layouts, strict=True):
            if name in layout.ports:
                return layout[name].unpack(rows)
        names = ", ".join([*self._layouts[0].ports, *self._layouts[1].ports])
        raise KeyError(f"port must be one of {names}, not {name!r}")


class Simulation:
    """An Amaranth component, compiled once for each content and kept in `cache`, a folder (the user's, by default).

    >>> adder = Simulation(Adder())                                # an amaranth.lib.wiring.Component
    >>> run = adder.run({"a": [1, 2, 3], "b": 5})                  # three cycles
    >>> run["sum"].tolist()
    [6, 7, 8]

    Ports have the names of the signature; members of nested interfaces are joined by two underscores (`stream__valid`),
    structures are their bits. `inputs` and `outputs` list them with their widths. One clock, `sync`, whose registers
    begin with their initial values; `rst` stays 0 and `reset` starts afresh.

    In each cycle inputs are applied, logic settles, outputs are recorded, and then comes the clock's edge: a register's
    output shows in cycle t + 1 what it was given in cycle t, as with `await ctx.tick().sample(...)` of Amaranth's
    simulator. State stays from one `run` to the next.

    Raises ToolError if Verilator or a C++ compiler is missing or fails.
    """

    def __init__(self, component: Any, *, cache: Path | None = None, harness: str = "") -> None:
        inputs, outputs, ports = signature_of(component)
        text = harness_text("harness.cpp") + harness
        path = library(component, (inputs, outputs), ports, text, default_cache() if cache is None else cache)
        self.layouts = inputs, outputs
        self.native = ctypes.CDLL(str(path))
        self.native.regrain_create.restype = ctypes.c_void_p
        self.native.regrain_destroy.argtypes = [ctypes.c_void_p]
        self.native.regrain_run.restype = ctypes.c_int64
        self._free: weakref.finalize[..., Simulation] | None = None
        self.reset()

    @property
    def inputs(self) -> dict[str, Port]:
        """Inputs by name."""
        return dict(self.layouts[0].ports)

    @property
    def outputs(self) -> dict[str, Port]:
        """Outputs by name."""
        return dict(self.layouts[1].ports)

    def reset(self) -> None:
        """Begin anew: registers and memories have their initial values."""
        if self._free is not None:
            self._free()
        self.handle = ctypes.c_void_p(self.native.regrain_create())
        self._free = weakref.finalize(self, self.native.regrain_destroy, self.handle)

    def row(self, inputs: Mapping[str, int]) -> Words:
        """Inputs of one cycle as a harness takes them; those that aren't given are 0."""
        row = np.zeros((1, self.layouts[0].words), np.uint32)
        for name, value in inputs.items():
            port = self.layouts[0][name]
            row[:, port.span] = port.pack(value, 1)
        return row

    def run(
        self,
        inputs: Mapping[str, ArrayLike] | None = None,
        cycles: int | None = None,
        *,
        sources: Sequence[Source] = (),
        memories: Sequence[Memory] = (),
        until: str | None = None,
    ) -> Run:
        """Drive inputs for `cycles` cycles, by default as many as the arrays given have; record all outputs.

        An input is an integer, held in all cycles; an array (cycles,) of integers or booleans; or for any width
        (cycles, words) uint32 or (cycles, bytes) uint8, little-endian. Negative integers stand for their two's
        complement. Inputs that aren't given are 0. `until`: an output; the run ends with the first cycle in which it
        isn't 0. What depends on the component's own outputs comes from `sources` and `memories`.

        Raises KeyError for a port there isn't, ValueError for values or lengths that don't fit, IndexError if a memory
        is read beyond its contents.
        """
        given = dict(inputs or {})
        cycles = _length(given) if cycles is None else cycles
        rows_in = np.zeros((cycles, self.layouts[0].words), np.uint32)
        for name, values in given.items():
            port = self.layouts[0][name]
            rows_in[:, port.span] = port.pack(values, cycles)
        rows_out = np.empty((cycles, self.layouts[1].words), np.uint32)
        keep: list[NDArray[Any]] = []
        native_sources = (_Source * len(sources))(*(self._source(each, cycles, keep) for each in sources))
        native_memories = (_Memory * len(memories))(*(self._memory(each, keep) for each in memories))
        taken = (ctypes.c_int64 * len(sources))()
        culprit = ctypes.c_int64()
        ran = self.native.regrain_run(
            self.handle,
            ctypes.c_int64(cycles),
            pointer(rows_in),
            pointer(rows_out),
            ctypes.c_uint32(_NEVER if until is None else self._output(until)),
            native_sources,
            taken,
            ctypes.c_int64(len(sources)),
            native_memories,
            ctypes.c_int64(len(memories)),
            ctypes.byref(culprit),
        )
        if ran < 0:
            memory = memories[culprit.value]
            address = int(self.layouts[1][memory.address].unpack(rows_out[-1 - ran : -ran])[0])
            raise IndexError(
                f"{memory.address} must be an address of the memory's contents, not {address}, in cycle {-1 - ran}"
            )
        return Run(ran, tuple(taken), (rows_in[:ran], rows_out[:ran]), self.layouts)

    def _output(self, name: str) -> int:
        port = self.layouts[1][name]
        if port.words != 1:
            raise ValueError(f"port {name} must have at most 32 bits here, not {port.width}")
        return port.offset

    def _source(self, source: Source, cycles: int, keep: list[NDArray[Any]]) -> _Source:
        ports = [self.layouts[0][name] for name in source.items]
        count = _length(source.items)
        data = np.concatenate([port.pack(source.items[port.name], count) for port in ports], axis=1)
        offered = np.ones(cycles, np.uint8) if source.offered is None else source.offered.astype(np.uint8)
        if offered.shape != (cycles,):
            raise ValueError(f"offered must be ({cycles},), not {offered.shape}")
        places = _places(ports)
        keep += [data, places, offered]
        valid = self.layouts[0][source.valid].offset
        ready = self._output(source.ready)
        return _Source(count, data.shape[1], pointer(data), pointer(places), pointer(offered), valid, ready)

    def _memory(self, memory: Memory, keep: list[NDArray[Any]]) -> _Memory:
        port = self.layouts[0][memory.data]
        data = np.ascontiguousarray(port.pack(memory.contents, len(np.asarray(memory.contents))))
        places = _places([port])
        keep += [data, places]
        enable = _ALWAYS if memory.enable is None else self._output(memory.enable)
        return _Memory(len(data), port.words, pointer(data), pointer(places), self._output(memory.address), enable)


class _Source(ctypes.Structure):
    """`Source` of harness.cpp."""

    _fields_ = [
        ("items", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("data", ctypes.c_void_p),
        ("places", ctypes.c_void_p),
        ("offered", ctypes.c_void_p),
        ("valid", ctypes.c_uint32),
        ("ready", ctypes.c_uint32),
    ]


class _Memory(ctypes.Structure):
    """`Memory` of harness.cpp."""

    _fields_ = [
        ("depth", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("data", ctypes.c_void_p),
        ("places", ctypes.c_void_p),
        ("address", ctypes.c_uint32),
        ("enable", ctypes.c_uint32),
    ]


def _length(values: Mapping[str, ArrayLike]) -> int:
    """How many cycles or items arrays have; they must agree with the first, which `Port.pack` checks."""
    lengths = [len(np.asarray(each)) for each in values.values() if np.ndim(np.asarray(each))]
    if not lengths:
        raise ValueError("cycles must be given where no input is an array")
    return lengths[0]


def _places(ports: Sequence[Port]) -> Words:
    return np.concatenate([np.arange(port.offset, port.offset + port.words, dtype=np.uint32) for port in ports])


def pointer(array: NDArray[Any]) -> ctypes.c_void_p:
    """For native code; the array must outlive the call."""
    assert array.flags.c_contiguous
    return ctypes.c_void_p(array.ctypes.data)
