"""The reorganizer: a matrix' tiles out of its master copy, at whatever granularity is wanted of the next one."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import Component, In, Out, connect, flipped

from regrain.hw.machine import Machine
from regrain.hw.model.pace import GROUPS, IN_FLIGHT
from regrain.hw.rtl.compactor import Compactor
from regrain.hw.rtl.fifo import Fifo
from regrain.hw.rtl.layouts import word_layout
from regrain.hw.rtl.master import (
    ADDRESS_BITS,
    COMMAND,
    TAG_BITS,
    Reading,
    Refusal,
    entry_layout,
    group_layout,
    master_layout,
    pending_layout,
)
from regrain.hw.rtl.scout import Scout

COUNTER_BITS = 32


class Reader(Component):
    """Groups to reads of the master copy: the slots of a group from the lowest on, one a cycle.

    It reads in cycles in which `pending` has room, and tells it of each word. The end of a tile takes a cycle without
    a read.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        super().__init__(
            {
                "group": In(stream.Signature(group_layout(machine))),
                "read": Out(1),
                "ready": In(1),
                "address": Out(ADDRESS_BITS),
                "pending": Out(stream.Signature(pending_layout(machine))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """The lowest slot of the group that wasn't read yet."""
        m = Module()
        group, pending = self.group.payload, self.pending.payload
        done = Signal(self.machine.block)
        left = Signal(self.machine.block)
        slot = Signal(self.machine.index_bits)
        going = Signal()
        complete = Signal()
        for bit in reversed(range(self.machine.block)):
            with m.If(left[bit]):
                m.d.comb += slot.eq(bit)
        m.d.comb += [
            left.eq(group.present & ~done),
            complete.eq((left & (left - 1)) == 0),
            self.read.eq(self.group.valid & ~group.end & self.pending.ready),
            self.address.eq(group.base + Cat(slot, Array(group.rows)[slot])),
            self.pending.valid.eq(self.group.valid & (group.end | self.ready)),
            going.eq(self.pending.valid & self.pending.ready),
            self.group.ready.eq(going & (group.end | complete)),
            pending.slot.eq(slot),
            pending.block.eq(group.block),
            pending.complete.eq(complete),
            pending.whole.eq(group.whole),
            pending.gather.eq(group.gather),
            pending.end.eq(group.end),
        ]
        with m.If(self.group.ready):
            m.d.sync += done.eq(0)
        with m.Elif(going):
            m.d.sync += done.eq(done | (1 << slot))
        return m


class Reorganizer(Component):
    """Reads a tile's words out of the master copy and sends them as the array wants them.

    | port | direction | width | |
    |---|---|---|---|
    | `command` | in | stream of `COMMAND` | a tile, and its granularity: what is taken holds for the whole tile |
    | `master` | out | `Reading`, 144 bits | the master copy |
    | `tags` | out | `Reading`, 32 bits | medium: which blocks of the tile are kept |
    | `table` | out | `Reading`, 88 bits | coarse: which input channels, put together into blocks |
    | `output` | out | stream of `word_layout` | the tile, for a bank: always listed, coarse always gathered |
    | `fault` | out | 3 | `Refusal`: sticky; no other group begins, and what was begun comes out |
    | `master_reads`, `tag_reads`, `table_reads` | out | 32 | words read so far |

    | granularity | groups (steps) | of a group, words are |
    |---|---|---|
    | fine | all blocks | weights with a tag that aren't 0, compacted lane by lane; none: no step |
    | medium | blocks with a tag | all 8, or with `inside` compacted as in fine |
    | coarse | entries of the table | the channels that are present, lowest slot first |

    A command for another granularity may come after any other. A tile that keeps nothing is one word of zeros.

    **Time.** scout -> queue of 2 groups -> reader -> queue of 8 words -> compactor. While the output is taken, answers
    come within 6 cycles and the scout is ahead, a word of the master copy is read in each cycle, but for one cycle
    between tiles: a tile of fine or whole medium takes 8 * groups + 1 cycles. From a rest, with a memory that answers
    after L cycles, a full first step is sent from 12 + L cycles after its command on: 3 for command, check and queue, 8
    words, and 1 each for queue and buffer, less the 1 counted twice. Medium and coarse take 1 more and the latency of
    their tags or table. The exact cycles of all words, whatever stalls, are those of `regrain.hw.model.pace`.
    """

    def __init__(self, machine: Machine | None = None, *, in_flight: int = IN_FLIGHT) -> None:
        self.machine = machine = machine or Machine()
        self.scout, self.reader, self.compactor = Scout(machine), Reader(machine), Compactor(machine)
        self.groups = Fifo(group_layout(machine), GROUPS)
        self.pending = Fifo(pending_layout(machine), in_flight)
        self.words = Fifo(master_layout(machine), in_flight)
        super().__init__(
            {
                "command": In(stream.Signature(COMMAND)),
                "master": Out(Reading(master_layout(machine).size)),
                "tags": Out(Reading(TAG_BITS)),
                "table": Out(Reading(entry_layout(machine).size)),
                "output": Out(stream.Signature(word_layout(machine))),
                "fault": Out(3),
                "master_reads": Out(COUNTER_BITS),
                "tag_reads": Out(COUNTER_BITS),
                "table_reads": Out(COUNTER_BITS),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Connections, counters, and the check that no word comes uncalled."""
        m = Module()
        for name in ("scout", "reader", "compactor", "groups", "pending", "words"):
            m.submodules[name] = getattr(self, name)
        connect(m, flipped(self.command), self.scout.command)
        connect(m, flipped(self.tags), self.scout.tags)
        connect(m, flipped(self.table), self.scout.table)
        connect(m, self.scout.group, self.groups.input)
        connect(m, self.groups.output, self.reader.group)
        connect(m, self.reader.pending, self.pending.input)
        connect(m, self.pending.output, self.compactor.pending)
        connect(m, self.words.output, self.compactor.word)
        connect(m, self.compactor.output, flipped(self.output))

        asked = Signal(range(self.words.depth + 1))
        called = Signal()
        read = self.master.read & self.master.ready
        m.d.comb += [
            self.master.read.eq(self.reader.read),
            self.master.address.eq(self.reader.address),
            self.reader.ready.eq(self.master.ready),
            called.eq(self.master.valid & (asked != 0)),
            self.words.input.valid.eq(called),
            self.words.input.payload.eq(self.master.data),
        ]
        m.d.sync += asked.eq(asked + read - called)
        with m.If(self.fault == Refusal.NONE):
            m.d.sync += self.fault.eq(Mux(self.master.valid & ~called, Refusal.WORD, self.scout.fault))
        for port, counter in (
            (self.master, self.master_reads),
            (self.tags, self.tag_reads),
            (self.table, self.table_reads),
        ):
            m.d.sync += counter.eq(counter + (port.read & port.ready))
        return m
