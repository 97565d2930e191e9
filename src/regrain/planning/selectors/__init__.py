"""Selectors: what is done to each tensor for a total loss, by the rule, in closed form, or learned.

They take the place of `regrain.planning.solve.Solver`, which chooses among measured candidates of every tensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from regrain.planning.layer import Layer
from regrain.planning.selectors.closed_form import ClosedForm
from regrain.planning.selectors.learned import Learned
from regrain.planning.selectors.protocol import Selector
from regrain.planning.selectors.rule import Rule, RuleOptions


class Selection(StrEnum):
    """How plans come about; the value is its name in options and recipes."""

    SEARCH = "search"  # measured candidates of every tensor, by `Solver`
    CLOSED_FORM = "closed-form"
    LEARNED = "learned"
    RULE = "rule"


def selector(selection: Selection, layers: Mapping[str, Layer], options: RuleOptions | None = None) -> Selector:
    """The selector of that name; `options` are the rule's. Raises ValueError for `search`, which needs candidates."""
    if selection is Selection.SEARCH:
        raise ValueError("selection must be closed-form, learned or rule, not search: make a Solver of candidates")
    if selection is Selection.RULE:
        return Rule(layers, options)
    return ClosedForm(layers) if selection is Selection.CLOSED_FORM else Learned(layers)


__all__ = ["ClosedForm", "Learned", "Rule", "RuleOptions", "Selection", "Selector", "selector"]
