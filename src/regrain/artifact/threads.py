"""How many threads a call may use."""

from __future__ import annotations

import os


def resolve_threads(threads: int | None) -> int:
    """The number asked for; None means every processor that this process may run on."""
    if threads is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise ValueError(f"threads must be a whole number of at least 1 or None, not {threads!r}")
    return threads
