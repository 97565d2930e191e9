"""What differs from run to run of one artifact: seconds, memory, latency. A JSON file beside it, for the report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regrain.artifact.output import output_file
from regrain.pipelines.inspect import Inspection

SUFFIX = ".measured.json"
KEYS = ("cost", "latency", "machine")
"""What the report takes from it."""

_MOST = 1 << 20


def measured_path(artifact: Path) -> Path:
    """Where the file of an artifact is."""
    return artifact.with_name(artifact.name + SUFFIX)


def write_measured(found: Inspection, measured: Mapping[str, Any]) -> None:
    """Write it. Raises OutputError."""
    text = json.dumps({"restores": _restores(found), **measured}, indent=1, sort_keys=True, allow_nan=False)
    with output_file(measured_path(found.path), force=True) as sink:
        sink.write((text + "\n").encode("utf-8"))


def read_measured(found: Inspection) -> dict[str, object]:
    """What was measured of this very artifact; nothing if there is no such file, or it is another one's."""
    path = measured_path(found.path.resolve())
    try:
        with open(path, "rb") as file:
            document = json.loads(file.read(_MOST))
    except (OSError, ValueError):
        return {}
    if not isinstance(document, dict) or document.get("restores") != _restores(found):
        return {}
    return {key: document[key] for key in KEYS if key in document}


def _restores(found: Inspection) -> list[str]:
    """Digests of what restoring gives: they tell whether an artifact is the one that was measured."""
    return [file.restored_sha256 for file in found.files]
