"""What was measured, on disk: so that a run that was killed goes on, and another budget measures nothing again."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regrain.core.errors import OutputError


class Store:
    """A folder of records, each written beside its name and renamed: a record is whole or absent.

    A record is JSON and named arrays; arrays are mapped when they are read, not loaded. Keys are file names.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(error.errno, f"work directory can't be made ({error.strerror})", str(folder)) from None

    def has(self, key: str) -> bool:
        """Whether there is such a record, and it can be read."""
        return self.get(key) is not None

    def get(self, key: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]] | None:
        """A record; None where there is none, or none that can be read."""
        folder = self.folder / key
        try:
            value = json.loads((folder / "value.json").read_text("utf-8"))
            names: list[str] = value["arrays"]
            arrays: dict[str, NDArray[Any]] = {
                name: np.lib.format.open_memmap(folder / f"{name}.npy", mode="r") for name in names
            }
            return dict(value["value"]), arrays
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def put(self, key: str, value: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write a record. Raises OutputError."""
        try:
            folder = Path(tempfile.mkdtemp(prefix=".", dir=self.folder))
            try:
                for name, array in arrays.items():
                    np.save(folder / f"{name}.npy", array)
                text = json.dumps({"value": dict(value), "arrays": sorted(arrays)})
                with open(folder / "value.json", "w", encoding="utf-8") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                target = self.folder / key
                if target.exists():
                    shutil.rmtree(target)
                folder.rename(target)
            except BaseException as error:
                shutil.rmtree(folder, ignore_errors=True)
                if not (isinstance(error, OSError) and self.has(key)):  # another process may have been faster
                    raise
        except OSError as error:
            raise OutputError(error.errno, f"measurements can't be kept ({error.strerror})", str(self.folder)) from None

    def clear(self) -> None:
        """Remove every record."""
        for entry in self.folder.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)

    @property
    def nbytes(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())
