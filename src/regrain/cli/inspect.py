"""`regrain inspect`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regrain.cli.options import ArtifactPath, Everything, Json

if TYPE_CHECKING:
    from regrain.core.descriptor import Scheme
    from regrain.pipelines.inspect import Inspection
    from regrain.pipelines.sizes import TensorSize

EXAMPLE = "Example: regrain inspect model.regrain.safetensors --json | python -m json.tool"


def command(artifact: ArtifactPath, everything: Everything = False, as_json: Json = False) -> None:
    """Show what an artifact holds: each tensor's coder and size, and the digest of the original. Decodes nothing."""
    from regrain.cli.output import emit_json
    from regrain.pipelines.inspect import inspect

    found = inspect(artifact)
    if as_json:
        emit_json(found.to_json())
    else:
        _print(found, everything)


def _print(found: Inspection, everything: bool) -> None:
    from regrain.cli.output import bits, bold, megabytes, percent, rows_to_show, shorten, stdout, table

    console = stdout()
    ordered = sorted(found.tensors, key=lambda tensor: (-tensor.nbytes, tensor.descriptor.name))
    shown = ordered[: rows_to_show(len(ordered), everything)]
    cells = [_cells(tensor, console.width) for tensor in shown]
    wide = ("shape",) if console.width >= 110 else ()
    titles = (*wide, "dtype", "coder", "scales", "MB", "of MB", "b/w")
    widths = [max([len(title), *(len(row[i]) for row in cells)]) + 2 for i, title in enumerate(titles)]
    grid = table("tensor", *titles)
    for tensor, row in zip(shown, cells, strict=True):
        grid.add_row(shorten(tensor.descriptor.name, max(12, console.width - sum(widths))), *row)
    console.print(grid)
    if len(shown) < len(ordered):
        rest = sum(tensor.stored for tensor in ordered[len(shown) :])
        console.print(f"and {len(ordered) - len(shown)} smaller, {megabytes(rest)} MB (--all shows them)")
    console.print()
    share = found.nbytes / found.original_bytes if found.original_bytes else None
    console.print(
        bold(f"{len(ordered)} tensors, {found.weights:,} weights, {megabytes(found.nbytes)} MB"),
        f"of {megabytes(found.original_bytes)} MB ({percent(share)} %)",
    )
    console.print(
        f"{bits(found.bits_per_weight)} bits per weight of {bits(found.original_bits_per_weight)}, everything counted"
    )
    for file in found.files:
        console.print(f"sha256 of the original {file.sha256}  {file.file}", soft_wrap=True)
        if not file.lossless:
            console.print(f"lossy, restores sha256 {file.restored_sha256}  {file.file}", soft_wrap=True)


def _cells(tensor: TensorSize, width: int) -> list[str]:
    from regrain.cli.output import bits, megabytes, shape_text

    descriptor = tensor.descriptor
    shape = [shape_text(descriptor.shape)] if width >= 110 else []
    return [
        *shape,
        descriptor.dtype,
        str(descriptor.scheme.coder),
        _scales(descriptor.scheme),
        megabytes(tensor.stored),
        megabytes(tensor.nbytes),
        bits(tensor.bits_per_element),
    ]


def _scales(scheme: Scheme) -> str:
    """What shares a scale: tensor, row, "group 32", "block 16x16"; a dash without a quantizer."""
    from regrain.core.descriptor import Quantizer

    if scheme.cell is None:
        return "-"
    rows, columns = scheme.cell
    if scheme.quantizer is Quantizer.GROUP:
        return f"group {columns}"
    return f"block {rows}x{columns}" if scheme.quantizer is Quantizer.BLOCK else str(scheme.quantizer)
