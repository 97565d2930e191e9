"""`regrain inspect`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regrain.cli.options import ArtifactPath, Everything, Json

if TYPE_CHECKING:
    from regrain.core.descriptor import Scheme, WeightDescriptor
    from regrain.pipelines.inspect import Inspection
    from regrain.pipelines.sizes import TensorSize

EXAMPLE = "Example: regrain inspect model.regrain.safetensors --json | python -m json.tool"


def command(artifact: ArtifactPath, everything: Everything = False, as_json: Json = False) -> None:
    """Show what an artifact holds: each tensor's coder, what is kept of a pruned one, size, and the digest of the
    original. Decodes nothing.
    """
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
    pruned = any(tensor.descriptor.density is not None for tensor in ordered)
    cells = [_cells(tensor, console.width, pruned) for tensor in shown]
    wide = ("shape",) if console.width >= 110 else ()
    titles = (*wide, "dtype", "coder", "scales", *(("kept",) if pruned else ()), "MB", "of MB", "b/w")
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
    for line in _spared(found):
        console.print(line)
    for file in found.files:
        console.print(f"sha256 of the original {file.sha256}  {file.file}", soft_wrap=True)
        if not file.lossless:
            console.print(f"lossy, restores sha256 {file.restored_sha256}  {file.file}", soft_wrap=True)


def _spared(found: Inspection) -> list[str]:
    """What the receipt says of multiply-adds, where weights are pruned, and of channels that were removed."""
    from regrain.cli.output import work_line
    from regrain.pipelines.report.fields import Fields

    receipt = Fields(found.files[0].receipt, "receipt")
    work, slim = receipt.part("work"), receipt.part("slim")
    before, after, channels = work.count("original"), work.count("artifact"), slim.count("channels")
    lines = []
    if before and after is not None and after < before:
        lines.append(work_line(before, after))
    return lines if channels is None else [*lines, f"slim: {channels:,} channels were removed from the original"]


def _cells(tensor: TensorSize, width: int, pruned: bool) -> list[str]:
    from regrain.cli.output import bits, megabytes, shape_text

    descriptor = tensor.descriptor
    shape = [shape_text(descriptor.shape)] if width >= 110 else []
    return [
        *shape,
        descriptor.dtype,
        str(descriptor.scheme.coder),
        _scales(descriptor.scheme),
        *([_kept(descriptor)] if pruned else []),
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


def _kept(descriptor: WeightDescriptor) -> str:
    """Which units are kept or dropped, and the weights that are kept: "column 80.0 %", "16x1 85.0 %"; a dash if all."""
    from regrain.cli.output import percent

    if descriptor.density is None:
        return "-"
    return f"{descriptor.scheme.pattern.removeprefix('block:')} {percent(descriptor.density)} %"
