"""The descriptor decoder: 256 bits in, checked fields out."""

from __future__ import annotations

from functools import reduce
from operator import xor
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import Component, In, Out

from regrain.hw.machine import MOST_BLOCKS, Machine
from regrain.hw.model.codes import Code
from regrain.hw.model.descriptor import CHANNELS_A_ROW, LAYOUT, LEAST_LOG2, MAGIC, MOST_LOG2, VERSION, checksum

FIELDS = StructLayout(dict(LAYOUT))
_BITS = 240


class DescriptorDecoder(Component):
    """Decodes one descriptor at a time; whatever `Descriptor.parse` and `check_machine` refuse, it refuses.

    | port | direction | width | |
    |---|---|---|---|
    | `load` | in | 1 | a descriptor is offered; may be 1 in every cycle |
    | `words` | in | 256 | |
    | `valid` | out | 1 | two cycles after `load`: `fields` and `error` are those of what was loaded |
    | `fields` | out | 256 | as `LAYOUT` has them |
    | `error` | out | 1 | it is not a sound descriptor: `fields` must not be used |

    Two cycles: in the first one the words are held and their checksum, 240 bits in one go, is found; in the second one
    it is compared, and the fields with each other.
    """

    def __init__(self, machine: Machine, rows: int = 4096) -> None:
        """`rows`: of the metadata memory."""
        self.machine, self.rows = machine, rows
        super().__init__({"load": In(1), "words": In(256), "valid": Out(1), "fields": Out(FIELDS), "error": Out(1)})

    def elaborate(self, platform: Any) -> Module:
        """The circuit."""
        m = Module()
        loaded, held, sum_ = Signal(), Signal(256), Signal(16)
        m.d.sync += [loaded.eq(self.load), self.valid.eq(loaded)]
        with m.If(self.load):
            m.d.sync += held.eq(self.words)
        with m.If(loaded):
            m.d.sync += [self.fields.eq(held), sum_.eq(_checksum(held))]
        m.d.comb += self.error.eq(~self._sound(self.fields, sum_))
        return m

    def _sound(self, f: Any, sum_: Signal) -> Any:
        """Whether a descriptor can be used: the rules of `Descriptor`, in its order."""
        frame = (f.magic == MAGIC) & (f.checksum == sum_) & (f.version == VERSION) & (f.granularity <= Code.COARSE)
        sizes = (f.outputs != 0) & (f.blocks != 0) & (f.tokens != 0) & (f.blocks <= MOST_BLOCKS)
        unlisted = (f.count >= 1) & (f.count <= 8) & ~f.dynamic & (f.granularity == Code.FINE)
        tiles = Mux(f.listed, f.count == 0, unlisted) & ~(f.gather & (f.granularity != Code.COARSE))
        gathers = f.gather | f.dynamic
        tiles &= gathers | (f.table == 0)
        return frame & sizes & tiles & _watched(f) & Mux(f.dynamic, _dynamic(f), _still(f)) & self._fits(f, gathers)

    def _fits(self, f: Any, gathers: Any) -> Any:
        """Whether the tiles fit a bank, and the tables the metadata memory."""
        outputs = self.machine.outputs
        tiles = (f.outputs + (outputs - 1)) // outputs
        channels = (tiles * outputs + (CHANNELS_A_ROW - 1)) // CHANNELS_A_ROW
        bank = f.count * f.blocks <= self.machine.bank_words
        return bank & (f.channels + channels <= self.rows) & (~gathers | (f.table + f.blocks <= self.rows))


def _watched(f: Any) -> Any:
    """What must hold of what the monitor does."""
    samples = (f.log2_samples >= LEAST_LOG2) & (f.log2_samples <= MOST_LOG2) & ((f.tokens >> f.log2_samples) != 0)
    above, below = (f.outputs - 1) >> f.log2_channels, ((f.outputs - 1) << 1) >> f.log2_channels  # of a power of two
    channels = (above == 0) & ((below != 0) | (f.log2_channels == 0))
    return Mux(f.log2_samples == 0, f.log2_channels == 0, samples & channels)


def _dynamic(f: Any) -> Any:
    """What must hold of a dynamic matrix."""
    thresholds = (f.down0 <= f.up0) & (f.up0 <= f.up1) & (f.down0 <= f.down1) & (f.down1 <= f.up1)
    costs = (f.cost_fine != 0) & (f.cost_medium != 0) & (f.cost_coarse != 0)
    return thresholds & costs


def _still(f: Any) -> Any:
    """What must hold of one that is not: all that belongs to control is 0."""
    names = "up0 down0 up1 down1 dwell cost_fine cost_medium cost_coarse".split()
    return ~f.reverse & (Cat(*(getattr(f, name) for name in names)) == 0)


def _checksum(bits: Any) -> Any:
    """The checksum of the lowest 240 bits: it is affine, so each bit of it is a parity of some of them."""
    zero = checksum(0)
    columns = [checksum(1 << place) ^ zero for place in range(_BITS)]
    parities = [
        reduce(xor, [bits[place] for place in range(_BITS) if columns[place] >> bit & 1], Const(zero >> bit & 1))
        for bit in range(16)
    ]
    return Cat(*parities)
