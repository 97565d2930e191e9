"""The exception that every decoder of the coded payload raises."""

from __future__ import annotations


class PayloadFault(ValueError):  # noqa: N818 (names the fault; callers turn it into their own error)
    """A coded payload that a reader must reject (docs/format.md lists the reasons).

    `job` is the position of the payload in a call that decodes several, else 0. `block` is the
    block at fault, its entry of the block index included, or None for the rest of the head.
    `reason` says what must hold, and what was found.
    """

    def __init__(self, block: int | None, reason: str, job: int = 0) -> None:
        super().__init__(block, reason, job)
        self.block = block
        self.reason = reason
        self.job = job

    def __str__(self) -> str:
        place = "head" if self.block is None else f"block {self.block}"
        return f"{place}: {self.reason}"
