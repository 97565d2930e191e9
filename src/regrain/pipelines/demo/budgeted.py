"""`regrain demo`: a real sentence encoder, as small as a drop of 1 % of its metrics allows, with receipt and report."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from regrain.core.budget import Budget
from regrain.core.errors import TaskError
from regrain.pipelines.budgeted import BudgetedResult, compress_within
from regrain.pipelines.options import Listener, Options
from regrain.pipelines.report import ReportResult, report
from regrain.pipelines.sentences import model_folder

TASK = Path("examples", "tasks", "minilm", "retrieval.py")
BUDGET = Budget(max_drop=0.01)


@dataclass(frozen=True, slots=True, eq=False)
class DemoResult:
    """The artifact with its receipt, and its report."""

    result: BudgetedResult
    report: ReportResult
    folder: Path
    seconds: float

    def to_json(self) -> dict[str, object]:
        """A JSON object with all of it."""
        return {
            "folder": str(self.folder),
            "job": self.result.to_json(),
            "report": self.report.to_json(),
            "seconds": self.seconds,
        }


def demo(
    folder: Path,
    *,
    task: Path | None = None,
    force: bool = False,
    threads: int | None = None,
    listener: Listener | None = None,
) -> DemoResult:
    """Compress all-MiniLM-L6-v2 within BUDGET on a task (None: that of the repository), writing below `folder`.

    Measurements go there too. Raises TaskError where there is no task, RegrainError if the model's package is not
    installed, and what `regrain.compress` raises.
    """
    start = time.perf_counter()
    job, model = task or default_task(), model_folder() / "model.safetensors"
    folder.mkdir(parents=True, exist_ok=True)
    result = compress_within(
        model,
        folder / "minilm.regrain.safetensors",
        task=job,
        budget=BUDGET,
        options=Options(work=folder / "work", threads=threads),
        force=force,
        listener=listener or Listener(),
    )
    page = report(result.path, folder / "report.html", force=force)
    return DemoResult(result, page, folder, time.perf_counter() - start)


def default_task() -> Path:
    """The task of the repository that this package is used from. Raises TaskError elsewhere."""
    path = Path(__file__).resolve().parents[4] / TASK
    if not path.is_file():
        raise TaskError(f"the demo's task must be named with --task where there is no repository: {TASK} of a clone")
    return path
