"""Task files: plain Python, which is run."""

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from regrain.core.errors import TaskError
from regrain.models.siblings import Siblings
from regrain.models.task import Task, explaining, task_from

REQUIRED = ("load_model", "inputs", "output")


def load_task(path: str | os.PathLike[str]) -> Task:
    """Run a task file and take its functions: `load_model`, `inputs`, `output`, and `evaluate` and `OUTPUT` if it has
    them.

    The file's name without its suffix is the task's, or its folder's for a task.py. Modules beside the file can be
    imported by it, at once and later. Raises OSError if it can't be read, TaskError if it fails or a function is
    missing.
    """
    file = Path(path).resolve()
    source = file.read_bytes()
    name = file.parent.name if file.stem == "task" else file.stem
    sha256 = hashlib.sha256(source).hexdigest()
    siblings = Siblings(file.parent)
    module = ModuleType(f"regrain_task_{sha256[:16]}", f"The task file {file}.")
    module.__file__ = str(file)
    sys.modules[module.__name__] = module  # dataclasses and pickle look their classes' modules up there
    with explaining(f"task file {str(path)!r}", file), siblings:
        exec(compile(source, str(file), "exec"), module.__dict__)  # noqa: S102 - running a task file is what it's for
    missing = [function for function in REQUIRED if not hasattr(module, function)]
    if missing:
        raise TaskError(f"task file {str(path)!r} must define {', '.join(REQUIRED)}, and has no {', '.join(missing)}")
    task = task_from(
        load_model=module.load_model,
        inputs=module.inputs,
        output=module.output,
        evaluate=getattr(module, "evaluate", None),
        kind=getattr(module, "OUTPUT", None),
        name=name,
    )
    return replace(task, path=file, sha256=sha256, siblings=siblings)
