"""Callbacks that keep a model compressible, and accurate enough, while it trains.

`regrain.training.hugging_face` and `regrain.training.lightning` have those for the trainers of transformers and
Lightning, which are imported with them only.
"""

from regrain.models.slim import multiply_adds
from regrain.training.judging import Limit
from regrain.training.log import Change, InputState, LayerState, Record, read_log
from regrain.training.masks import mask_of
from regrain.training.monitor import AccuracyMonitor
from regrain.training.passing import Passing
from regrain.training.schedule import Ramp, Schedule
from regrain.training.start import starting_recipe
from regrain.training.work import prunings_for_work

__all__ = [
    "AccuracyMonitor",
    "Change",
    "InputState",
    "LayerState",
    "Limit",
    "Passing",
    "Ramp",
    "Record",
    "Schedule",
    "mask_of",
    "multiply_adds",
    "prunings_for_work",
    "read_log",
    "starting_recipe",
]
