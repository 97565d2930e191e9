"""regrain stores neural networks as small as an accuracy budget allows, or bit-exact, and gives them back fast.

Every public name is listed here and imported when it is first used: `import regrain` alone loads neither
PyTorch nor NumPy. `regrain.numpy` and `regrain.torch` have the function names of safetensors.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from regrain.core.errors import (
    AttachError,
    BudgetError,
    CorruptArtifactError,
    HardwareError,
    OutputError,
    OutputExistsError,
    RecipeError,
    RegrainError,
    ServingError,
    TaskError,
    TrainingError,
    UnsupportedArtifactError,
    UnsupportedModelError,
)

if TYPE_CHECKING:
    from regrain.core.budget import Budget
    from regrain.core.scores import Scores
    from regrain.numpy import open  # noqa: A004 - regrain.open, as in `tarfile.open`
    from regrain.pipelines.compress import compress
    from regrain.pipelines.evaluate import evaluate
    from regrain.pipelines.inspect import inspect
    from regrain.pipelines.plan import plan
    from regrain.pipelines.profile import profile
    from regrain.pipelines.report import report
    from regrain.pipelines.restore import restore
    from regrain.pipelines.verify import verify

__version__ = "0.1.0"

__all__ = [
    "AttachError",
    "Budget",
    "BudgetError",
    "CorruptArtifactError",
    "HardwareError",
    "OutputError",
    "OutputExistsError",
    "RecipeError",
    "RegrainError",
    "Scores",
    "ServingError",
    "TaskError",
    "TrainingError",
    "UnsupportedArtifactError",
    "UnsupportedModelError",
    "__version__",
    "compress",
    "evaluate",
    "inspect",
    "open",
    "plan",
    "profile",
    "report",
    "restore",
    "verify",
]

_LAZY = {
    "Budget": "regrain.core.budget",
    "Scores": "regrain.core.scores",
    "compress": "regrain.pipelines.compress",
    "evaluate": "regrain.pipelines.evaluate",
    "inspect": "regrain.pipelines.inspect",
    "open": "regrain.numpy",
    "plan": "regrain.pipelines.plan",
    "profile": "regrain.pipelines.profile",
    "report": "regrain.pipelines.report",
    "restore": "regrain.pipelines.restore",
    "verify": "regrain.pipelines.verify",
}


if not TYPE_CHECKING:  # a type checker that saw it would take any misspelt name for a verb

    def __getattr__(name: str) -> object:
        """Import a name when it is first asked for (PEP 562), and keep it: the next look-up is an ordinary one."""
        if name not in _LAZY:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value: object = getattr(import_module(_LAZY[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return __all__
