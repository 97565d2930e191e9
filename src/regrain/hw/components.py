"""The components of the accelerator by name, each for a machine of given sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from regrain.hw.rtl.accelerator import Accelerator
from regrain.hw.rtl.alias_tables import AliasTables
from regrain.hw.rtl.array import Array
from regrain.hw.rtl.bank import Bank
from regrain.hw.rtl.control import Control
from regrain.hw.rtl.dense_pe import DensePE
from regrain.hw.rtl.descriptor import DescriptorDecoder
from regrain.hw.rtl.engine import Engine
from regrain.hw.rtl.master_writer import MasterWriter
from regrain.hw.rtl.metadata import MetadataMemory
from regrain.hw.rtl.monitor import Monitor
from regrain.hw.rtl.pe import PE
from regrain.hw.rtl.profiler import Profiler
from regrain.hw.rtl.rans_decoder import RansDecoder
from regrain.hw.rtl.rans_lanes import RansLanes
from regrain.hw.rtl.reconstruct import Reconstruct
from regrain.hw.rtl.reorganizer import Reorganizer
from regrain.hw.rtl.sequencer import Sequencer
from regrain.hw.rtl.top import Top
from regrain.hw.rtl.writeback import Writeback

if TYPE_CHECKING:
    from regrain.hw.machine import Machine

TILES = 512
"""Tiles of outputs that write-back has factors for, where nothing else is said."""

COMPONENTS: Mapping[str, Callable[[Machine], Any]] = MappingProxyType(
    {
        "pe": PE,
        "dense_pe": DensePE,
        "array": Array,
        "sequencer": Sequencer,
        "bank": Bank,
        "writeback": lambda machine: Writeback(machine, tiles=TILES),
        "engine": Engine,
        "monitor": lambda machine: Monitor(machine.outputs),
        "control": lambda _: Control(),
        "reorganizer": Reorganizer,
        "descriptor": DescriptorDecoder,
        "metadata": lambda _: MetadataMemory(),
        "rans_decoder": lambda _: RansDecoder(),
        "rans_lanes": lambda _: RansLanes(),
        "alias_tables": lambda _: AliasTables(),
        "reconstruct": lambda _: Reconstruct(),
        "master_writer": MasterWriter,
        "profiler": lambda _: Profiler(),
        "top": Top,
        "accelerator": Accelerator,
    }
)
