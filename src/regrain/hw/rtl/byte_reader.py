"""A run of bytes out of a memory, as a stream."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import Component, In, Out

from regrain.hw.reconstruction.instructions import ADDRESS_BITS

LENGTH_BITS = 19
_WINDOW = 4


class ByteReader(Component):
    """Reads `length` bytes from `address` on.

    | port | direction | width | |
    |---|---|---|---|
    | `start` | in | 1 | begin, while `idle` |
    | `address` | in | 24 | |
    | `length` | in | 19 | may be 0 |
    | `memory_read` | out | 1 | a byte is asked for |
    | `memory_address` | out | 24 | |
    | `memory_data` | in | 8 | the byte that was asked for in the cycle before |
    | `byte` | out | 8 | |
    | `byte_last` | out | 1 | the last of them |
    | `byte_valid` | out | 1 | |
    | `byte_ready` | in | 1 | |
    | `idle` | out | 1 | all of them have been taken |

    A byte a cycle, the first one three cycles after `start`.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "start": In(1),
                "address": In(ADDRESS_BITS),
                "length": In(LENGTH_BITS),
                "memory_read": Out(1),
                "memory_address": Out(ADDRESS_BITS),
                "memory_data": In(8),
                "byte": Out(8),
                "byte_last": Out(1),
                "byte_valid": Out(1),
                "byte_ready": In(1),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """The circuit: a byte is asked for if there will be room for it."""
        m = Module()
        m.submodules.bytes = fifo = SyncFIFO(width=8, depth=_WINDOW)
        unasked, untaken = Signal(LENGTH_BITS), Signal(LENGTH_BITS)
        room, popped = Signal(range(_WINDOW + 1), init=_WINDOW), self.byte_valid & self.byte_ready
        m.d.comb += [
            self.memory_read.eq((unasked != 0) & (room != 0)),
            fifo.w_data.eq(self.memory_data),
            self.byte.eq(fifo.r_data),
            self.byte_valid.eq(fifo.r_rdy),
            self.byte_last.eq(untaken == 1),
            fifo.r_en.eq(self.byte_ready),
            self.idle.eq(untaken == 0),
        ]
        m.d.sync += [fifo.w_en.eq(self.memory_read), room.eq(room - self.memory_read + popped)]
        m.d.sync += [unasked.eq(unasked - self.memory_read), untaken.eq(untaken - popped)]
        m.d.sync += self.memory_address.eq(self.memory_address + self.memory_read)
        with m.If(self.start):
            m.d.sync += [self.memory_address.eq(self.address), unasked.eq(self.length), untaken.eq(self.length)]
        return m
