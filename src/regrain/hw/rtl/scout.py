"""Which words of the master copy make which step of a tile."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import Component, In, Out

from regrain.hw.machine import MOST_BLOCKS, Machine
from regrain.hw.model.codes import Code
from regrain.hw.rtl.layouts import BLOCK_BITS
from regrain.hw.rtl.master import (
    ADDRESS_BITS,
    COMMAND,
    TAG_BITS,
    Reading,
    Refusal,
    entry_layout,
    group_layout,
)


class Scout(Component):
    """Commands to groups: which words of the master copy make which step.

    Fine: a group a block, one a cycle. Medium: a group for each tagged block: a word of tags takes a cycle to ask for,
    the memory's latency, a cycle for each of its tags and one to see that there are none left. Coarse: a group for each
    entry of the table: a cycle to ask for it, the memory's latency, and a cycle. A tile ends with a group `end`, in a
    cycle of its own; a command takes one cycle. All this runs ahead of the words, as far as the queue allows.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.now = Signal(COMMAND)
        self.index = Signal(BLOCK_BITS + 1)  # of the block, the word of tags or the entry that is next
        self.left = Signal(TAG_BITS)  # tags of a word whose groups weren't sent yet
        self.entry = Signal(entry_layout(machine))
        super().__init__(
            {
                "command": In(stream.Signature(COMMAND)),
                "tags": Out(Reading(TAG_BITS)),
                "table": Out(Reading(entry_layout(machine).size)),
                "group": Out(stream.Signature(group_layout(machine))),
                "fault": Out(3),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """One state machine."""
        m = Module()
        machine, group, now, index = self.machine, self.group.payload, self.now, self.index
        base = Signal(ADDRESS_BITS)
        tag_words = Signal(range(MOST_BLOCKS // TAG_BITS + 1))
        sent = self.group.valid & self.group.ready
        m.d.comb += tag_words.eq((now.blocks + TAG_BITS - 1) >> (TAG_BITS.bit_length() - 1))
        m.d.comb += [group.base.eq(base), group.whole.eq(1), group.present.eq(~0)]

        with m.FSM():
            with m.State("Rest"):
                m.d.comb += self.command.ready.eq(1)
                with m.If(self.command.valid):
                    given = self.command.payload
                    m.d.sync += [now.eq(given), index.eq(0)]
                    m.d.sync += base.eq(given.master + given.tile * given.blocks * machine.block)
                    m.next = "Check"
            with m.State("Check"):
                self._check(m)
            with m.State("Fine"):
                m.d.comb += [self.group.valid.eq(1), self._rows(index), group.block.eq(index), group.whole.eq(0)]
                with m.If(sent):
                    m.d.sync += index.eq(index + 1)
                    with m.If(index + 1 == now.blocks):
                        m.next = "End"
            with m.State("Ask for tags"):
                m.d.comb += [self.tags.read.eq(1), self.tags.address.eq(now.tags + now.tile * tag_words + index)]
                with m.If(self.tags.ready):
                    m.next = "Take tags"
            with m.State("Take tags"), m.If(self.tags.valid):
                m.d.sync += self.left.eq(self.tags.data)
                m.next = "Tags"
            with m.State("Tags"):
                self._tags(m, sent, tag_words)
            with m.State("Ask for entry"):
                m.d.comb += [self.table.read.eq(1), self.table.address.eq(now.table + index)]
                with m.If(self.table.ready):
                    m.next = "Take entry"
            with m.State("Take entry"), m.If(self.table.valid):
                m.d.sync += self.entry.eq(self.table.data)
                m.next = "Entry"
            with m.State("Entry"):
                self._entry(m, sent)
            with m.State("End"):
                m.d.comb += [self.group.valid.eq(1), group.end.eq(1)]
                with m.If(sent):
                    m.next = "Rest"
            with m.State("Stop"):
                pass
        return m

    def _stop(self, m: Module, fault: Refusal) -> None:
        m.d.sync += self.fault.eq(fault)
        m.next = "Stop"

    def _check(self, m: Module) -> None:
        """Refuse what can't be."""
        now = self.now
        with m.If((now.blocks == 0) | (now.blocks > MOST_BLOCKS)):
            self._stop(m, Refusal.BLOCKS)
        with m.Elif(now.granularity == Code.FINE):
            m.next = "Fine"
        with m.Elif(now.granularity == Code.MEDIUM):
            m.next = "Ask for tags"
        with m.Elif(now.granularity != Code.COARSE):
            self._stop(m, Refusal.GRANULARITY)
        with m.Elif(now.entries > now.blocks):
            self._stop(m, Refusal.ENTRIES)
        with m.Elif(now.entries == 0):
            m.next = "End"
        with m.Else():
            m.next = "Ask for entry"

    def _rows(self, block: Any) -> Any:
        return Cat(self.group.payload.rows[slot] for slot in range(self.machine.block)).eq(
            Cat(block[:BLOCK_BITS] for _ in range(self.machine.block))
        )

    def _tags(self, m: Module, sent: Any, tag_words: Any) -> None:
        """The lowest tag of a word, and then the next word."""
        lowest = Signal(range(TAG_BITS))
        block = Signal(BLOCK_BITS)  # index < MOST_BLOCKS / TAG_BITS
        for bit in reversed(range(TAG_BITS)):
            with m.If(self.left[bit]):
                m.d.comb += lowest.eq(bit)
        m.d.comb += block.eq(Cat(lowest, self.index))
        with m.If(self.left == 0):
            m.d.sync += self.index.eq(self.index + 1)
            m.next = "Ask for tags"
            with m.If(self.index + 1 == tag_words):
                m.next = "End"
        with m.Elif(block >= self.now.blocks):
            self._stop(m, Refusal.TAG)
        with m.Else():
            m.d.comb += [self.group.valid.eq(1), self._rows(block), self.group.payload.block.eq(block)]
            m.d.comb += self.group.payload.whole.eq(~self.now.inside)
            with m.If(sent):
                m.d.sync += self.left.eq(self.left & (self.left - 1))

    def _entry(self, m: Module, sent: Any) -> None:
        """An entry of the table, if all its channels are there."""
        group, entry = self.group.payload, self.entry
        beyond = [entry.present[slot] & (entry.rows[slot] >= self.now.blocks) for slot in range(self.machine.block)]
        with m.If((entry.present == 0) | Cat(beyond).any()):
            self._stop(m, Refusal.TABLE)
        with m.Else():
            m.d.comb += [self.group.valid.eq(1), group.rows.eq(entry.rows), group.present.eq(entry.present)]
            m.d.comb += [group.block.eq(self.index), group.gather.eq(1)]
            with m.If(sent):
                m.d.sync += self.index.eq(self.index + 1)
                m.next = "Ask for entry"
                with m.If(self.index + 1 == self.now.entries):
                    m.next = "End"
