"""A queue between two blocks that need not be ready at the same time."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import memory, stream
from amaranth.lib.wiring import Component, In, Out


class Fifo(Component):
    """`depth` items of `shape`, first in, first out.

    | port | direction | width | |
    |---|---|---|---|
    | `input` | in | stream of `shape` | taken in a cycle with valid and ready |
    | `output` | out | stream of `shape` | held until it is taken |
    | `level` | out | bits of `depth` | items inside |

    Latency: an item can leave in the cycle after it came. `input.ready` and `output.valid` are functions of the level
    alone, so no path leads from one side to the other in the same cycle; an item a cycle passes from depth 2 on, and a
    full queue takes an item only in the cycle after one left. Built of a memory that is read without a clock.

    Raises ValueError for a depth below 2.
    """

    def __init__(self, shape: Any, depth: int) -> None:
        if depth < 2:
            raise ValueError(f"depth must be 2 or more, or no item a cycle could pass, not {depth}")
        self.depth = depth
        self.head = Signal(range(depth))
        self.tail = Signal(range(depth))
        self.storage = memory.Memory(shape=shape, depth=depth, init=[])
        super().__init__(
            {
                "input": In(stream.Signature(shape)),
                "output": Out(stream.Signature(shape)),
                "level": Out(range(depth + 1)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Two pointers and a level."""
        m = Module()
        m.submodules.storage = self.storage
        write, read = self.storage.write_port(), self.storage.read_port(domain="comb")
        push = Signal()
        pop = Signal()
        m.d.comb += [
            self.input.ready.eq(self.level != self.depth),
            self.output.valid.eq(self.level != 0),
            self.output.payload.eq(read.data),
            push.eq(self.input.valid & self.input.ready),
            pop.eq(self.output.valid & self.output.ready),
            write.en.eq(push),
            write.addr.eq(self.tail),
            write.data.eq(self.input.payload),
            read.addr.eq(self.head),
        ]
        m.d.sync += self.level.eq(self.level + push - pop)
        with m.If(push):
            m.d.sync += self.tail.eq(self._after(self.tail))
        with m.If(pop):
            m.d.sync += self.head.eq(self._after(self.head))
        return m

    def _after(self, pointer: Any) -> Any:
        return Mux(pointer == self.depth - 1, 0, pointer + 1)
