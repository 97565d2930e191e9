"""What every benchmark is given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Setup:
    """folder: for model files and artifacts. rounds: of every race. quick: only show that the code runs."""

    folder: Path
    rounds: int
    quick: bool
