"""How much worse a model became, and how sure that is: drops, fidelity, and budgets they must keep.

| module | what |
|---|---|
| `drops` | two sets of scores on the same examples → the drop, with bounds |
| `spread` | how far chance moves an estimate: what the bounds are made of |
| `fidelity` | two models' outputs on the same inputs → D, KL, top-1 agreement, neighbor overlap |
| `verdict` | a budget, drops and fidelity → kept or not, and why |
| `resolution` | what these data can show at all, and how many would be enough |
| `correlation` | Spearman's rank correlation, as an aggregate of scores |
"""

from __future__ import annotations

from regrain.accuracy.correlation import spearman
from regrain.accuracy.drops import Drop, compare
from regrain.accuracy.fidelity import Fidelity, FidelityMeter
from regrain.accuracy.resolution import Resolution, resolve
from regrain.accuracy.spread import Spread
from regrain.accuracy.verdict import Check, Verdict, judge
from regrain.core.budget import Budget
from regrain.core.scores import Scores

__all__ = [
    "Budget",
    "Check",
    "Drop",
    "Fidelity",
    "FidelityMeter",
    "Resolution",
    "Scores",
    "Spread",
    "Verdict",
    "compare",
    "judge",
    "resolve",
    "spearman",
]
