"""Words from symbols, escapes and raw bits (docs/format.md 2.3 and 2.6); and words from packed bits (6.2)."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

_ESCAPE = 15


class Joiner(Component):
    """Makes integer words: base + (field << raw bits | raw), modulo 2^16, of a coded block.

    | port | direction | width | |
    |---|---|---|---|
    | `value_write` | in | 1 | a symbol's field value is set |
    | `value_symbol` | in | 4 | |
    | `value` | in | 8 | |
    | `raw_bits` | in | 5 | 0 to 16; this and the next three hold while a block is joined |
    | `field_bits` | in | 4 | escape bytes must be below 2^field_bits |
    | `escape` | in | 1 | symbol 15 is the escape |
    | `base` | in | 16 | |
    | `start` | in | 1 | a block begins, while `idle` |
    | `words` | in | 17 | how many it has, 1 to 65536; the last step's other symbols are dropped |
    | `symbol`, `carried`, `final` | in | 4, 8, 1 | as `RansDecoder` gives them |
    | `symbol_valid` | in | 1 | |
    | `symbol_ready` | out | 1 | |
    | `raw` | in | 16 | as `PlaneReader` gives it |
    | `raw_valid` | in | 1 | |
    | `raw_ready` | out | 1 | |
    | `byte` | in | 8 | escapes, in order |
    | `byte_valid` | in | 1 | |
    | `byte_ready` | out | 1 | |
    | `byte_none` | in | 1 | there are no more |
    | `word` | out | 16 | |
    | `word_valid` | out | 1 | |
    | `word_ready` | in | 1 | |
    | `idle` | out | 1 | all words have been taken |
    | `bad` | out | 1 | an escape is missing, or is not below 2^field_bits; it is not taken |

    A word a cycle, two cycles from symbol and raw bits to the word.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "value_write": In(1),
                "value_symbol": In(4),
                "value": In(8),
                "raw_bits": In(5),
                "field_bits": In(4),
                "escape": In(1),
                "base": In(16),
                "start": In(1),
                "words": In(17),
                "symbol": In(4),
                "carried": In(8),
                "final": In(1),
                "symbol_valid": In(1),
                "symbol_ready": Out(1),
                "raw": In(16),
                "raw_valid": In(1),
                "raw_ready": Out(1),
                "byte": In(8),
                "byte_valid": In(1),
                "byte_ready": Out(1),
                "byte_none": In(1),
                "word": Out(16),
                "word_valid": Out(1),
                "word_ready": In(1),
                "idle": Out(1),
                "bad": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """The circuit."""
        m = Module()
        m.submodules.values = values = Memory(shape=8, depth=16, init=[])
        write, read = values.write_port(), values.read_port(domain="comb")
        left, symbols = Signal(17), Signal(17)  # words, and symbols with those that are dropped
        advance, both, escaped, take = Signal(), Signal(), Signal(), Signal()
        field, raw, held = Signal(8), Signal(16), Signal()
        m.d.comb += [
            write.en.eq(self.value_write),
            write.addr.eq(self.value_symbol),
            write.data.eq(self.value),
            read.addr.eq(self.symbol),
            advance.eq(~self.word_valid | self.word_ready),
            both.eq(self.symbol_valid & self.raw_valid & (symbols != 0)),
            escaped.eq(self.escape & (self.symbol == _ESCAPE) & (left != 0)),
            self.bad.eq(both & escaped & Mux(self.byte_valid, self.byte >> self.field_bits != 0, self.byte_none)),
            take.eq(both & advance & ~self.bad & (~escaped | self.byte_valid)),
            self.symbol_ready.eq(take),
            self.raw_ready.eq(take),
            self.byte_ready.eq(take & escaped),
            self.idle.eq((symbols == 0) & ~held & ~self.word_valid),
        ]
        with m.If(advance):
            low = Mux(self.final & (self.raw_bits >= 8), self.carried, self.raw[:8])
            m.d.sync += [
                field.eq(Mux(escaped, self.byte, read.data)),
                raw.eq(Cat(low, self.raw[8:])),
                held.eq(take & (left != 0)),
                self.word.eq(self.base + ((field << self.raw_bits) | raw)),
                self.word_valid.eq(held),
            ]
        with m.If(self.start):
            m.d.sync += [left.eq(self.words), symbols.eq((self.words + 63) & ~0x3F)]
        with m.Elif(take):
            m.d.sync += [left.eq(left - (left != 0)), symbols.eq(symbols - 1)]
        return m


class Unpacker(Component):
    """Makes words of packed bits, the lowest first: base + the next `width` bits, modulo 2^16.

    | port | direction | width | |
    |---|---|---|---|
    | `start` | in | 1 | a list begins, while `idle` |
    | `width` | in | 5 | 0 to 16; with 0, all words are `base` |
    | `base` | in | 16 | both hold while a list is read |
    | `words` | in | 17 | how many it has |
    | `byte` | in | 8 | |
    | `byte_valid` | in | 1 | |
    | `byte_ready` | out | 1 | |
    | `word` | out | 16 | |
    | `word_valid` | out | 1 | |
    | `word_ready` | in | 1 | |
    | `idle` | out | 1 | all words have been taken |
    | `bad` | out | 1 | all words have been taken, and bits that are left over are not 0 |

    A cycle for each byte and one for each word.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "start": In(1),
                "width": In(5),
                "base": In(16),
                "words": In(17),
                "byte": In(8),
                "byte_valid": In(1),
                "byte_ready": Out(1),
                "word": Out(16),
                "word_valid": Out(1),
                "word_ready": In(1),
                "idle": Out(1),
                "bad": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """The circuit."""
        m = Module()
        left, bits, have = Signal(17), Signal(24), Signal(5)
        taken, mask = self.word_valid & self.word_ready, Signal(16)
        m.d.comb += [
            mask.eq((1 << self.width) - 1),
            self.word.eq(self.base + (bits[:16] & mask)),
            self.word_valid.eq((left != 0) & (have >= self.width)),
            self.byte_ready.eq((left != 0) & (have < self.width)),
            self.idle.eq(left == 0),
            self.bad.eq((left == 0) & (bits != 0)),
        ]
        with m.If(self.start):
            m.d.sync += [left.eq(self.words), bits.eq(0), have.eq(0)]
        with m.Elif(taken):
            m.d.sync += [left.eq(left - 1), bits.eq(bits >> self.width), have.eq(have - self.width)]
        with m.Elif(self.byte_ready & self.byte_valid):
            m.d.sync += [bits.eq(bits | (self.byte << have)), have.eq(have + 8)]
        return m
