"""What a loader writes into the metadata memory: descriptors, tables and tags, row by row."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from regrain.core.errors import HardwareError
from regrain.hw.model.descriptor import CHANNELS_A_ROW, Descriptor, channel_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from regrain.hw.machine import Machine
    from regrain.hw.model.golden import Requantizer
    from regrain.hw.model.program import Gather
    from regrain.hw.model.repack import Master

ROW_BYTES = 16
TAGS_A_ROW = 4
ROW_BITS_OF_A_SLOT = 10


@dataclass
class Image:
    """Rows of a metadata memory of a machine, in the order in which matrices are added."""

    machine: Machine
    most: int = 4096
    rows: list[NDArray[np.uint8]] = field(default_factory=list)

    def add(
        self,
        descriptor: Descriptor,
        channels: Requantizer,
        *,
        gather: Gather | None = None,
        master: Master | None = None,
        program: NDArray[np.uint32] | None = None,
    ) -> int:
        """Tables of a matrix, and its descriptor with their addresses and the channels' `relu`; returns where that is.

        `gather`: of a static matrix whose channels are gathered; `master`: of a dynamic one. `program`: (instructions,
        4), what reconstructs a dynamic one; it follows the descriptor. Raises HardwareError if the descriptor and these
        disagree, or the memory is full.
        """
        if descriptor.dynamic != (master is not None) or (descriptor.gather and not descriptor.dynamic) != (
            gather is not None
        ):
            raise HardwareError(
                "a dynamic matrix must have a master copy, one that gathers a table, and others neither"
            )
        if program is not None and not descriptor.dynamic:
            raise HardwareError("only a dynamic matrix can be reconstructed: what a static one runs is packed before")
        table = 0
        if master is not None or gather is not None:
            table = self._table(descriptor.blocks, master.gather if master is not None else gather)
            if master is not None:
                self._tags(master)
        place = self._channels(descriptor.outputs, channels)
        whole = replace(descriptor, table=table, channels=place, relu=channels.relu)
        at = len(self.rows)
        self.rows.extend(
            np.frombuffer(whole.to_int().to_bytes(2 * ROW_BYTES, "little"), np.uint8).reshape(2, ROW_BYTES)
        )
        if program is not None:
            self.rows.extend(program.astype("<u4").view(np.uint8).reshape(-1, ROW_BYTES))
        if len(self.rows) > self.most:
            raise HardwareError(
                f"metadata must have at most {self.most} rows, not {len(self.rows)}: load fewer matrices"
            )
        whole.check_machine(self.machine, self.most)
        return at

    def array(self) -> NDArray[np.uint8]:
        """All rows, (rows, 16) bytes."""
        return np.array(self.rows, np.uint8).reshape(-1, ROW_BYTES)

    def _append(self, numbers: list[int]) -> int:
        at = len(self.rows)
        self.rows.extend(np.frombuffer(number.to_bytes(ROW_BYTES, "little"), np.uint8) for number in numbers)
        return at

    def _table(self, blocks: int, gather: Gather | None) -> int:
        """A row for each block: an entry each, then empty ones."""
        assert gather is not None
        slots = self.machine.block
        entries = []
        for rows, present in zip(gather.rows.tolist(), gather.present.tolist(), strict=True):
            entry = sum(row << ROW_BITS_OF_A_SLOT * slot for slot, row in enumerate(rows))
            entries.append(
                entry | sum(there << ROW_BITS_OF_A_SLOT * slots + slot for slot, there in enumerate(present))
            )
        return self._append(entries + [0] * (blocks - len(entries)))

    def _tags(self, master: Master) -> None:
        words = master.tag_words().tolist()
        words += [0] * (-len(words) % TAGS_A_ROW)
        self._append(
            [sum(words[at + i] << 32 * i for i in range(TAGS_A_ROW)) for at in range(0, len(words), TAGS_A_ROW)]
        )

    def _channels(self, outputs: int, channels: Requantizer) -> int:
        """Entries of whole tiles; what is beyond the outputs repeats the last."""
        if len(channels.bias) != outputs:
            raise HardwareError(f"channels must be {outputs}, one an output, not {len(channels.bias)}")
        entries = [
            (int(bias) & 0xFFFFFF) | int(factor) << 24 | int(shift) << 40
            for bias, factor, shift in zip(channels.bias, channels.factor, channels.shift, strict=True)
        ]
        entries += entries[-1:] * (channel_rows(outputs, self.machine) * CHANNELS_A_ROW - outputs)
        return self._append([low | high << 64 for low, high in zip(entries[::2], entries[1::2], strict=True)])
