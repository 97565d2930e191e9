"""All claims, by name: small machines, which take seconds, and the real one where a solver can."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from regrain.hw.formal.banks import Banks
from regrain.hw.formal.bounds import Bounds
from regrain.hw.formal.claim import Claim
from regrain.hw.formal.granularity import Granularity
from regrain.hw.formal.halves import Halves
from regrain.hw.formal.in_flight import InFlight
from regrain.hw.formal.queue import Queue
from regrain.hw.formal.samples import Samples
from regrain.hw.formal.width import Width
from regrain.hw.machine import Machine
from regrain.hw.rtl.bank import Bank
from regrain.hw.rtl.compactor import Compactor
from regrain.hw.rtl.control import Control
from regrain.hw.rtl.fifo import Fifo
from regrain.hw.rtl.monitor import Monitor
from regrain.hw.rtl.pe import PE
from regrain.hw.rtl.reorganizer import Reorganizer
from regrain.hw.rtl.sequencer import Sequencer

SMALL = Machine(rows=2, pes=1, lanes=2, block=2, bank_words=4, list_entries=3)
REAL = Machine()

CLAIMS: Mapping[str, Callable[[], Claim]] = MappingProxyType(
    {
        "queue": lambda: Queue(Fifo(3, 3)),
        "granularity": lambda: Granularity(Control()),
        "halves": lambda: Halves(Compactor(SMALL)),
        "in_flight": lambda: InFlight(Reorganizer(SMALL, in_flight=2)),
        "samples": lambda: Samples(Monitor(2)),
        "banks": lambda: Banks(Bank(SMALL)),
        "bounds": lambda: Bounds(Sequencer(SMALL)),
        "width": lambda: Width(PE(Machine(rows=2, pes=1, lanes=1, block=2, accumulator=18))),
    }
)
"""Control is proved as it is; of the others, sizes are reduced."""

FULL: Mapping[str, Callable[[], Claim]] = MappingProxyType(
    {
        "queue": lambda: Queue(Fifo(144, 8)),
        "halves": lambda: Halves(Compactor(REAL)),
        "in_flight": lambda: InFlight(Reorganizer(REAL)),
        "samples": lambda: Samples(Monitor(16)),
        "banks": lambda: Banks(Bank(Machine(pes=1, lanes=1))),
        "bounds": lambda: Bounds(Sequencer(REAL)),
        "width": lambda: Width(PE(REAL)),
    }
)
"""The sizes of the accelerator; of a bank with one lane, as lanes are alike."""
