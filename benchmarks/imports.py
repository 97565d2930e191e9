"""What `import regrain` costs a program that has NumPy anyway, in fresh interpreters."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from typing import Any

from setup import Setup
from tables import Goal, Shown, Table

STATEMENTS = ("import regrain", "import regrain.numpy", "from regrain import compress", "import torch")
SCRIPT = """
import sys, time
import numpy
start = time.perf_counter()
{statement}
took = time.perf_counter() - start
print([took, "torch" in sys.modules].__repr__().lower())
"""


def measure(setup: Setup) -> dict[str, Any]:
    rounds = 2 if setup.quick else 2 * setup.rounds
    statements = STATEMENTS[:3] if setup.quick else STATEMENTS
    seconds: dict[str, list[float]] = {statement: [] for statement in statements}
    torch: dict[str, bool] = {}
    for turn in range(-1, rounds):
        for index in range(len(statements)):
            statement = statements[(turn + index) % len(statements)]
            took, torch[statement] = _fresh(statement)
            if turn >= 0:
                seconds[statement].append(took)
    return {"seconds": seconds, "torch": torch}


def _fresh(statement: str) -> tuple[float, bool]:
    script = SCRIPT.format(statement=statement)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    took, torch = json.loads(done.stdout)
    return took, torch


def show(result: dict[str, Any]) -> Shown:
    rows = [
        [
            f"`{statement}`",
            f"{1e3 * statistics.median(seconds):.1f}",
            f"{1e3 * min(seconds):.1f} to {1e3 * max(seconds):.1f}",
            "yes" if result["torch"][statement] else "no",
        ]
        for statement, seconds in result["seconds"].items()
    ]
    took = 1e3 * statistics.median(result["seconds"]["import regrain"])
    return Shown(
        [Table("Imports, after `import numpy`", ["statement", "ms", "rounds", "loads torch"], rows)],
        [Goal("`import regrain` over `import numpy`, ms", took, 30, least=False, form=".1f")],
    )
