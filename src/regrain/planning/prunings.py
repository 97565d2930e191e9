"""Pruned matrices that may be wanted again soon: neighboring recipes share most of them."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

from regrain.core.pattern import Pruning
from regrain.planning.layer import Layer
from regrain.transforms.prune import Pruned


class Prunings:
    """Finds what pruning makes of a layer, and remembers the last ones, up to `limit` bytes of weights."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = 0
        self._found: OrderedDict[tuple[str, Pruning], Pruned] = OrderedDict()
        self._lock = Lock()

    def get(self, layer: Layer, how: Pruning) -> Pruned:
        """The layer pruned like that; it must be prunable, and `how` have a density."""
        key = layer.name, how
        with self._lock:
            if key in self._found:
                self._found.move_to_end(key)
                return self._found[key]
        assert how.density is not None
        (found,) = layer.prune(how, [how.density])
        with self._lock:
            if key not in self._found:
                self._found[key] = found
                self._bytes += found.weights.nbytes
            while self._bytes > self._limit and len(self._found) > 1:
                self._bytes -= self._found.popitem(last=False)[1].weights.nbytes
        return found
