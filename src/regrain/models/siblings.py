"""Modules beside a task file, importable while the task runs and nowhere else.

A task file may say `import data` for the data.py next to it, as a script may; two tasks with a data.py each must not
get each other's.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, TracebackType


class Siblings:
    """A context in which the modules of `folder` are imported by their bare names; it may be entered again within.

    It changes sys.path and sys.modules, as importing does, so it's for one thread at a time.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        entries = [entry for entry in folder.iterdir() if entry.suffix == ".py" or (entry / "__init__.py").is_file()]
        # A script cannot replace modules of the standard library that are loaded already, and neither can a task.
        self._names = {entry.stem for entry in entries} - set(sys.stdlib_module_names)
        self._own: dict[str, ModuleType] = {}
        self._others: dict[str, ModuleType] = {}
        self._depth = 0

    def __enter__(self) -> None:
        self._depth += 1
        if self._depth > 1:
            return
        self._others = self._taken_out()
        sys.modules.update(self._own)
        sys.path.insert(0, self._folder)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._depth -= 1
        if self._depth:
            return
        if self._folder in sys.path:
            sys.path.remove(self._folder)
        self._own = self._taken_out()
        sys.modules.update(self._others)

    def _taken_out(self) -> dict[str, ModuleType]:
        """Modules of the siblings' names, which sys.modules has no longer."""
        names = [name for name in sys.modules if name.partition(".")[0] in self._names]
        return {name: sys.modules.pop(name) for name in names}
