"""What products take on this machine, and so which of them serves how many tokens: measured, not assumed."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from regrain import __version__, kernels
from regrain.kernels.product import Product
from regrain.runtime.layout import NEVER

TOKENS = (1, 16, 128)
"""Numbers of tokens that are measured; each stands for those up to half way to the next, by ratio."""

ROUNDS = 7
"""The least of so many is taken: whatever else the machine does only adds to it."""

LEAST = 2e-4
"""Seconds that a round takes at least."""

MARGIN = 0.95
"""What is to be used instead of the first choice must take at most that part of its time."""


def remembered() -> Path:
    """Where times are remembered, by default: in the user's folder of caches."""
    return Path.home() / ".cache" / "regrain" / "host.json"


class Host:
    """Seconds of products on one thread of this machine, by what they are and the number of tokens: measured when they
    are first asked for, and remembered, with a `path` beyond the process, until machine or versions change. A file that
    can't be read or written is done without.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self._path = None if path is None else Path(path)
        self._times: dict[str, float] | None = None
        self._news = False

    def border(self, few: Product, many: Product) -> int:
        """From how many tokens on `many` is faster; NEVER if it isn't even for the most."""
        return self._border(lambda tokens: self.seconds(few, tokens), lambda tokens: self.seconds(many, tokens))

    def torch_border(self, few: Product) -> int:
        """From how many tokens on PyTorch's own dense product is faster: 0 if it always is."""
        shape = few.rows, few.columns
        return self._border(lambda tokens: self.seconds(few, tokens), lambda tokens: self.torch_seconds(shape, tokens))

    def seconds(self, product: Product, tokens: int) -> float:
        """Of a product with so many tokens."""

        def run() -> Callable[[], object]:
            x = np.ones((tokens, product.columns), np.float32)
            out = np.empty((tokens, product.rows), np.float32)
            return lambda: product.multiply(x, out)

        return self._known(f"{_kind(product)} {product.rows}x{product.columns} {tokens}", run)

    def torch_seconds(self, shape: tuple[int, int], tokens: int) -> float:
        """Of torch.nn.functional.linear on this process' threads."""

        def run() -> Callable[[], object]:
            weight, bias, x = torch.ones(shape), torch.ones(shape[0]), torch.ones(tokens, shape[1])
            return lambda: torch.nn.functional.linear(x, weight, bias)

        return self._known(f"torch {torch.get_num_threads()} {shape[0]}x{shape[1]} {tokens}", run)

    def prefers_original(
        self, product: Product, what: str, ours: Callable[[], object], original: Callable[[], object]
    ) -> bool:
        """Whether the original of a convolution, `what` it is with what inputs, is faster than the product."""
        shape = f"{product.rows}x{product.columns} {what}"
        limit = MARGIN * self._known(f"{_kind(product)} {shape}", lambda: ours)
        return self._known(f"torch {torch.get_num_threads()} {shape}", lambda: original) <= limit

    def save(self) -> None:
        """Write what was measured beside what the file has had."""
        if self._path is None or not self._news or self._times is None:
            return
        self._news = False
        text = json.dumps({"machine": machine(), "seconds": dict(self._times)}, indent=1, sort_keys=True)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            beside = self._path.with_name(f"{self._path.name}.{os.getpid()}")
            beside.write_text(text, encoding="utf-8")
            beside.replace(self._path)
        except OSError:
            return

    def _border(self, first: Callable[[int], float], second: Callable[[int], float]) -> int:
        border = NEVER
        for index in reversed(range(len(TOKENS))):
            if second(TOKENS[index]) > MARGIN * first(TOKENS[index]):
                break
            border = 0 if index == 0 else round((TOKENS[index - 1] * TOKENS[index]) ** 0.5)
        return border

    def _known(self, name: str, run: Callable[[], Callable[[], object]]) -> float:
        """No lock: that two threads measure the same does no harm, and a fork can't leave it locked."""
        if self._times is None:
            self._times = self._read()
        found = self._times.get(name)
        if found is None:
            with torch.inference_mode():
                found = _seconds(run())
            self._times[name] = found
            self._news = True
        return found

    def _read(self) -> dict[str, float]:
        """What the file has, if it is of this machine."""
        if self._path is None:
            return {}
        try:
            value = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        times = value.get("seconds") if isinstance(value, Mapping) and value.get("machine") == machine() else None
        if not isinstance(times, dict):
            return {}
        return {name: float(time) for name, time in times.items() if isinstance(time, float) and time > 0.0}


def machine() -> str:
    """What times depend on, beside the machine's other work."""
    return f"{_processor()}, {kernels.instruction_set()}, regrain {__version__}, torch {torch.__version__}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _kind(product: Product) -> str:
    value, density = getattr(product, "value", ""), getattr(product, "density", 1.0)
    return f"{type(product).__name__} {value} {density:.1f}".replace("  ", " ")


def _seconds(work: Callable[[], object]) -> float:
    work()
    start = time.perf_counter()
    work()
    times = max(1, round(LEAST / max(time.perf_counter() - start, 1e-7)))
    found = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(times):
            work()
        found.append((time.perf_counter() - start) / times)
    return min(found)
