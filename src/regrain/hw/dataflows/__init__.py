"""Cycle models of machines that others have simulated, each by letting happen what happens in it.

They are here to check the way cycles are counted: the same products, run by those simulators, take as many cycles.
"""

from regrain.hw.dataflows.events import Events
from regrain.hw.dataflows.matmul import Grid, Matmul, Run
from regrain.hw.dataflows.mesh import output_stationary_mesh
from regrain.hw.dataflows.systolic import DATAFLOWS, input_stationary, output_stationary, weight_stationary

__all__ = [
    "DATAFLOWS",
    "Events",
    "Grid",
    "Matmul",
    "Run",
    "input_stationary",
    "output_stationary",
    "output_stationary_mesh",
    "weight_stationary",
]
