"""When to change the granularity of a weight matrix while the network runs, and to what.

| module | what |
|---|---|
| `decision` | observations, matrices and decisions, as frozen values |
| `masks` | decision → which blocks and weights are kept, what goes into the bias |
| `damage` | decision → what it is expected to lose |
| `divergence` | how different two sets of inputs look |
| `policy` | the protocol: (state, matrix, observation) → (state, decision) |
| `controller` | rules with hysteresis, dwell and costs: what makes a policy of a rule |
| `static` | the predefined pattern |
| `variance_thresholds`, `normalized_variance` | granularity by a channel's variance, as it is and free of scale |
| `ranked` | variance by energy of the weights, ranked within the matrix |
| `bank` | a choice among patterns that were compensated beforehand |
| `token_skip` | columns chosen for each token |
| `auto` | what measured best: the default |
| `monitor` | moments of the inputs while a matrix serves |
| `trace` | observations and decisions as JSON lines, and replaying them |
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from regrain.policies.auto import Auto
from regrain.policies.bank import Bank
from regrain.policies.controller import Control, Controlled, Costs, Rule, revert, settled
from regrain.policies.damage import damage
from regrain.policies.decision import ALIKE, PANEL, Class, Decision, Matrix, Observation, panel_energy
from regrain.policies.hysteresis import Thresholds
from regrain.policies.masks import folded, kept_blocks, kept_weights
from regrain.policies.monitor import Monitor
from regrain.policies.normalized_variance import NormalizedVariance
from regrain.policies.policy import Policy, State
from regrain.policies.ranked import Ranked
from regrain.policies.static import Static
from regrain.policies.token_skip import TokenSkip
from regrain.policies.variance_thresholds import VarianceThresholds

DEFAULT = "auto"

_RULES: tuple[Rule, ...] = (VarianceThresholds(), NormalizedVariance(), Ranked(), Bank(), TokenSkip(), Auto())

POLICIES: Mapping[str, Policy] = MappingProxyType(
    {"static": Static(), **{rule.name: Controlled(rule) for rule in _RULES}}
)
"""Every policy with its defaults, by name."""

__all__ = [
    "ALIKE",
    "DEFAULT",
    "PANEL",
    "POLICIES",
    "Auto",
    "Bank",
    "Class",
    "Control",
    "Controlled",
    "Costs",
    "Decision",
    "Matrix",
    "Monitor",
    "NormalizedVariance",
    "Observation",
    "Policy",
    "Ranked",
    "Rule",
    "State",
    "Static",
    "Thresholds",
    "TokenSkip",
    "VarianceThresholds",
    "damage",
    "folded",
    "kept_blocks",
    "kept_weights",
    "panel_energy",
    "revert",
    "settled",
]
