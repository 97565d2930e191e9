"""Netlists whose memories are cut out: what goes in becomes outputs, and what comes out inputs.

Two circuits that write the same words and read the same addresses read the same data, whatever these are. So one may
forget what memories hold, and let both circuits read anything, but the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_CELL = re.compile(r"^  cell \$mem_v2 (\S+)\n((?:    .*\n)*?)  end\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Cut:
    """A memory that was cut out: its ports of the module are `NAME_` and, lower case, what `$mem_v2` calls its own.

    `clocked` has a bit for each reader: whether data come a cycle later, and stay while it isn't enabled.
    """

    name: str
    width: int
    address: int
    clocked: tuple[bool, ...]
    writers: int

    @property
    def inputs(self) -> dict[str, int]:
        """Widths of the module's new inputs."""
        return {"rd_data": self.width * len(self.clocked)}

    @property
    def outputs(self) -> dict[str, int]:
        """Widths of the module's new outputs."""
        readers = len(self.clocked)
        return {
            "rd_addr": self.address * readers,
            "rd_en": readers,
            "wr_addr": self.address * self.writers,
            "wr_data": self.width * self.writers,
            "wr_en": self.width * self.writers,
        }


def without_memories(circuit: str) -> tuple[str, tuple[Cut, ...]]:
    """The only module of RTLIL text, with all memories cut out; memories in the order of their names."""
    cells = sorted(_CELL.findall(circuit))
    port = len(re.findall(r"^  wire .*(?:input|output) \d+ ", circuit, re.MULTILINE))
    text, cuts = _CELL.sub("", circuit), []
    for number, (_, body) in enumerate(cells):
        given = dict(re.findall(r"^    (?:parameter|connect) \\(\S+) (.*)$", body, re.MULTILINE))
        clocked = tuple(bit == "1" for bit in reversed(given["RD_CLK_ENABLE"].partition("'")[2]))
        cut = Cut(f"m{number}", int(given["WIDTH"]), int(given["ABITS"]), clocked, int(given["WR_PORTS"]))
        cuts.append(cut)
        lines = []
        for side, ports in (("input", cut.inputs), ("output", cut.outputs)):
            for name, width in ports.items():
                if width:
                    port += 1
                    lines.append(f"  wire width {width} {side} {port} \\{cut.name}_{name}")
                    ends = [given[name.upper()], f"\\{cut.name}_{name}"]
                    lines.append("  connect " + " ".join(ends if side == "input" else reversed(ends)))
        text = re.sub(r"^end\n", lambda _, lines=lines: "\n".join([*lines, "end\n"]), text, flags=re.MULTILINE)
    return text, tuple(cuts)
