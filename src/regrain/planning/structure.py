"""How layers hang together: multiply-adds of each, and channels that one layer makes for another alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from regrain.models.channels import Group, channel_groups
from regrain.models.network import Network
from regrain.models.norms import norms_after
from regrain.models.slim import multiply_adds
from regrain.planning.evidence import Evidence


@dataclass(frozen=True, slots=True)
class Structure:
    """`users` are groups of channels by the name of the one layer that uses them; `why` says why others can't be
    removed.
    """

    users: Mapping[str, Group]
    why: Mapping[str, str]


def structure(
    evidence: Evidence, network: Network, call: Callable[[], object], *, groups: bool
) -> tuple[Evidence, Structure]:
    """What `call`, which uses the network for some examples, shows, and the evidence with each layer's work. Groups of
    channels take more calls, and are looked for if they are wanted.
    """
    names = {owner: name for name, owner in _owners(evidence, network).items()}
    work = {names[name]: count for name, count in multiply_adds(network.model, call).items() if name in names}
    norms = norms_after(network.model, call)
    layers = {}
    for owner, name in names.items():
        layer = replace(evidence.layers[name], work=work.get(name, 0))
        mean = norms.get(owner)
        if layer.bias is None and mean in names and name in evidence.inputs:
            layer = replace(layer, bias=names[mean], mean=evidence.inputs[name].mean, bias_sign=-1)
        layers[name] = layer
    if not groups:
        return replace(evidence, layers=layers), Structure({}, {})
    found = channel_groups(network.model, call)
    named = [_named(group, names) for group in found.groups if {*group.makers, *group.users} <= names.keys()]
    why = {names[name]: reason for name, reason in found.why.items() if name in names}
    return replace(evidence, layers=layers), Structure(_by_user(named), why)


def _owners(evidence: Evidence, network: Network) -> dict[str, str]:
    """The network's own name of each layer."""
    return {name: network.same.get(name, name) for name in evidence.layers}


def _named(group: Group, names: Mapping[str, str]) -> Group:
    """With the names that the model's files have."""
    return replace(
        group,
        makers=tuple(names[name] for name in group.makers),
        vectors=tuple(names.get(name, name) for name in group.vectors),
        users=tuple(names[name] for name in group.users),
    )


def _by_user(groups: list[Group]) -> dict[str, Group]:
    """Groups whose channels one layer alone uses, each in a column or a whole kernel of its own."""
    return {
        group.users[0]: group
        for group in groups
        if len(group.users) == 1 and group.spans == (1,) and group.users[0] not in group.makers
    }
