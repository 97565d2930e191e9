"""Serving a model on a CPU: its layers' products from panels, whose granularity follows the data.

| module | what |
|---|---|
| `attachment` | `attach`: a model's layers are served in place, until `detach` |
| `calibrated` | `calibrate`: what is known of the inputs before, and patterns compensated for them |
| `layers` | which layers can be served |
| `stored`, `weights` | artifact → indices, scales and masks → what is fastest here |
| `host` | how long products take on this machine |
| `served`, `convolved` | what stands in the place of a layer's `forward` |
| `layout`, `master`, `buffers` | a matrix as it is laid out at one time, how a decision becomes that, in what memory |
| `engine`, `making` | one matrix: monitor, policy, layout in force; how it comes about |
| `recording`, `following`, `stretches` | calls of a model, operation by operation; which modules can be served as one |
| `whole` | what stands in the place of such a module's `forward` |
| `reorganizer` | the thread that makes layouts beside those that serve |
"""

from __future__ import annotations

from regrain.runtime.attachment import Attachment, attach
from regrain.runtime.calibrated import Calibrated, calibrate
from regrain.runtime.engine import Engine
from regrain.runtime.following import Stretch
from regrain.runtime.host import Host
from regrain.runtime.layout import Layout
from regrain.runtime.master import Candidate
from regrain.runtime.stretches import stretches

__all__ = [
    "Attachment", "Calibrated", "Candidate", "Engine", "Host", "Layout", "Stretch", "attach", "calibrate", "stretches",
]  # fmt: skip
