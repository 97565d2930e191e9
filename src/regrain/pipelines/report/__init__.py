"""`regrain report`: one self-contained page that shows what was done to a model, and proves it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from regrain.artifact.layout import check_apart, find_layout
from regrain.artifact.output import check_output, output_file
from regrain.pipelines.inspect import Inspection, inspect
from regrain.pipelines.measured import read_measured
from regrain.pipelines.report.fields import Fields
from regrain.pipelines.report.page import render
from regrain.pipelines.sizes import bits_per_weight

__all__ = ["ReportResult", "render", "report"]


@dataclass(frozen=True, slots=True)
class ReportResult:
    """What was written."""

    path: Path
    nbytes: int

    def to_json(self) -> dict[str, object]:
        """A JSON object with all of it."""
        return {"path": str(self.path), "bytes": self.nbytes}


def report(artifact: str | os.PathLike[str], out: str | os.PathLike[str], *, force: bool = False) -> ReportResult:
    """Write the report of an artifact, a file or a directory, to the HTML file `out`. Nothing is decoded.

    Raises CorruptArtifactError where the artifact or its receipt is not sound, UnsupportedModelError if the path
    holds no artifact, OutputExistsError unless `force` is set, OutputError if writing fails.
    """
    target = Path(out)
    check_apart(find_layout(artifact), target)
    check_output(target, force=force)
    found = inspect(artifact)
    receipt = {**_receipt(found), **read_measured(found)}
    text = render(receipt, found.tensors, title=Path(artifact).resolve().name).encode()
    with output_file(target, force=force) as sink:
        sink.write(text)
    return ReportResult(target, len(text))


def _receipt(found: Inspection) -> Mapping[str, object]:
    """The receipt of the whole artifact, with sizes as they are on disk: what was measured beats what was noted."""
    receipts = [file.receipt for file in found.files]
    told = next((receipt for receipt in receipts if receipt.get("mode") == "lossy"), receipts[0])
    noted, model = told.get("sizes"), told.get("model")
    measured: dict[str, object] = {
        "original": found.original_bytes,
        "artifact": found.nbytes,
        "bits_per_weight": found.bits_per_weight,
        "original_bits_per_weight": found.original_bits_per_weight,
    }
    about: dict[str, object] = {"weights": found.weights}
    if told.get("slim"):  # beside the model as it was, not the smaller one that the artifact is of
        original = Fields(told, "receipt").part("sizes")
        whole = Fields(told, "receipt").part("model").count("weights")
        measured["original"] = original.count("original") or found.original_bytes
        measured["original_bits_per_weight"] = original.number("original_bits_per_weight")
        measured["bits_per_weight"] = bits_per_weight(found.nbytes, whole or found.weights)
        about["weights"] = whole or found.weights
    if len(found.files) == 1:
        about["sha256"] = found.files[0].sha256
    return {
        **told,
        "sizes": {**noted, **measured} if isinstance(noted, Mapping) else measured,
        "model": {**model, **about} if isinstance(model, Mapping) else about,
    }
