"""What is said of a simulation, on a terminal and on a page."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from regrain.hw.area import GRANULARITY, SELECTION

if TYPE_CHECKING:
    from regrain.pipelines.simulate import Simulation


def energy_text(pj: float) -> str:
    """pJ in the unit that suits them.

    >>> energy_text(48_314), energy_text(9.6321e10)
    ('0.04831 uJ', '96.32 mJ')
    """
    for unit, name in ((1e12, "J"), (1e9, "mJ")):
        if pj >= unit:
            return f"{pj / unit:,.4g} {name}"
    return f"{pj / 1e6:.4g} uJ"


def batches_text(count: int) -> str:
    """How many.

    >>> batches_text(1), batches_text(4)
    ('1 batch', '4 batches')
    """
    return f"{count:,} {'batch' if count == 1 else 'batches'}"


def area_text(found: Simulation) -> str:
    """What the machine takes; follows the total in mm2."""
    area, table = found.area, found.hardware.areas
    without = f", without {', '.join(area.missing)}" if area.missing else ""
    return f"of logic by table {table.name} ({table.technology}{without}), {area.bits / 1024:,.0f} kbit of memories"


def added_text(found: Simulation) -> str:
    """What of that is there for sparsity."""
    area = found.area
    bits = area.bits - area.dense_bits
    return (
        f"sparsity adds {area.added:,.3g} mm2 ({area.parts[SELECTION]:,.3g} to pick activations, "
        f"{area.parts.get(GRANULARITY, 0.0):,.3g} to change granularity) and {bits / 1024:,.0f} kbit to a machine for "
        f"dense matrices, {100 * area.added / area.dense:.0f} and {100 * bits / area.dense_bits:.0f} %; logic x cycles "
        f"of that machine are {found.area_delay:.2f} times as much"
    )


def control_text(found: Simulation) -> str:
    """How the machine's own control was set."""
    watched = [layer.control for layer in found.layers if layer.control is not None]
    if not watched:
        return "no matrix is under the machine's control: none may change, or calls have fewer than 16 tokens"
    counts = Counter(one.samples for one in watched)
    alike = len(counts) == 1
    tokens = ", ".join(f"{one:,}" if alike else f"{one:,} (in {count:,})" for one, count in sorted(counts.items()))
    said = (
        f"{len(watched)} matrices are under the machine's control; the monitor looks at the first {tokens} "
        f"tokens of a call; thresholds {watched[0].origin}; {sum(layer.switches for layer in found.layers):,} switches"
    )
    metrics = [seen for one in watched for seen in one.metrics]
    if None in metrics:
        short = f"{metrics.count(None):,} of {len(metrics):,}"
        said += f"; {short} calls were too short to be looked at, and changed nothing"
    alone = sum(layer.may_change and layer.control is None for layer in found.layers)
    return said + (f"; {alone} run as stored, whose calls have fewer than 16 tokens" if alone else "")
