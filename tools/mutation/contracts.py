"""What components promise under conditions only: which inputs may come, and when an output means something.

Each of `PROMISES` says of one component what its docstring does, for proofs that a mutant keeps to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value

Ports = Mapping[str, Any]


@dataclass(frozen=True)
class Contract:
    """`legal`: inputs, in this cycle, are what they may be. `meant`: when an output is compared, if not always."""

    legal: Any = 1
    meant: Mapping[str, Any] = field(default_factory=dict)


Promise = Callable[[Module, Ports], Contract]


def past(m: Module, value: Any) -> Any:
    """What it was in the cycle before; 0 in the first."""
    before = Signal.like(Value.cast(value))
    m.d.sync += before.eq(value)
    return before


def since(m: Module, value: Any) -> Any:
    """Whether a bit was 1 in any cycle before."""
    before = Signal()
    m.d.sync += before.eq(before | value)
    return before


def bank(m: Module, port: Ports) -> Contract:
    """Tiles are known once they are full; words and entries, where they were read."""
    return Contract(
        ~port["swap"] | port["full"],
        {
            "shadow": port["full"],
            "active": since(m, port["swap"]),
            "weights": past(m, past(m, port["read_word"])),
            "entry": since(m, port["read_step"]),
        },
    )


def sequencer(m: Module, port: Ports) -> Contract:
    """A job is begun when none runs. Addresses are those of reads, and what is for the array goes with a word."""
    begun = since(m, port["start"])
    held = [past(m, port[name]) == port[name] for name in ("tiles", "token_tiles")]
    whole = (port["tiles"] != 0) & (port["token_tiles"] != 0) & Cat(held).all()
    return Contract(
        ~(port["start"] & port["running"]) & (~begun | whole),
        {
            "step": port["read_step"],
            "act_tile": port["act_read"],
            "act_rows": port["act_read"],
            "gather_address": port["gather_read"],
            "rows": port["control"][0],
        },
    )


def writeback(m: Module, port: Ports) -> Contract:
    """The table is written, and a job begun, between jobs; what leaves means something in the cycle of `out_valid`."""
    busy = Signal()
    with m.If(port["finished"]):
        m.d.sync += busy.eq(0)
    with m.If(port["start"]):
        m.d.sync += busy.eq(1)
    legal = Mux(busy, ~(port["start"] | port["table_write"]), ~port["valid"])
    names = ("out_tile", "out_token_tile", "out_row", "out_sums", "out_values")
    return Contract(legal, dict.fromkeys(names, port["out_valid"]))


PROMISES: Mapping[str, Promise] = {"bank": bank, "sequencer": sequencer, "writeback": writeback}
