"""The receipt of a job within a budget, on screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from regrain.cli.output import bits, bold, megabytes, percent, shape_text, shorten, stdout, table, work_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from regrain.pipelines.budgeted import BudgetedResult
    from regrain.pipelines.report.receipt import Fidelity, Judgment, Layer, Limits, Metric, Receipt

MOST_LAYERS = 6
"""Layers that are shown."""


def print_receipt(result: BudgetedResult, *, hints: bool = True) -> None:
    """Sizes, metrics beside their limits, fidelity, latency, cost, the largest layers; with `hints`, how to go on."""
    from regrain.pipelines.report.parse import parse_receipt

    receipt, console = parse_receipt({**result.receipt, **result.measured}), stdout()
    found, sizes = result.artifact, receipt.sizes
    rate = 8 * found.nbytes / receipt.weights if receipt.weights else None
    console.print(bold(str(result.path)), soft_wrap=True)
    console.print(
        Text.assemble(
            f"{megabytes(sizes.original)} MB → ",
            (f"{megabytes(found.nbytes)} MB", "bold green"),
            f" ({sizes.original / found.nbytes:.2f} times smaller, lossless "
            f"{megabytes(sizes.lossless or 0)} MB), {bits(sizes.original_bits_per_weight)} → ",
            (f"{bits(rate)} bits per weight", "bold"),
        )
    )
    if receipt.spared is not None:
        console.print(work_line(*receipt.spared))
    if receipt.slim is not None:
        console.print(f"slim: {receipt.slim[0]:,} channels removed, {receipt.slim[1]:,} weights left")
    judged = _judged(receipt)
    console.print(_outcome(result.outcome, receipt.limits, judged))
    if judged is not None:
        console.print()
        if judged.metrics:
            console.print(_metrics(judged.metrics))
        for line in _fidelity(judged.fidelity, receipt.limits):
            console.print(line)
    console.print()
    console.print(_layers(receipt, console))
    console.print()
    for line in _measured(receipt):
        console.print(line)
    for note in result.notes:
        console.print(f"note: {note}")
    if not hints:
        return
    console.print(Text(f"report: regrain report {result.path} -o report.html", style="dim"), soft_wrap=True)
    console.print(Text(f"again:  {receipt.command}", style="dim"), soft_wrap=True)


def _judged(receipt: Receipt) -> Judgment | None:
    """What held-out data said of the result; where that is lossless, of what was refused."""
    accepted = [judgment for judgment in receipt.judgments if judgment.accepted]
    return next(reversed([*receipt.judgments, *accepted]), None)


def limits_text(limits: Limits) -> str:
    """All limits in words."""
    words = []
    if limits.max_drop is not None:
        words.append(f"a drop of {percent(limits.max_drop, 2)} %")
    if limits.max_drop_abs is not None:
        words.append(f"a drop of {limits.max_drop_abs:g}")
    if limits.min_fidelity:
        words.append(f"a fidelity of {limits.min_fidelity:g}")
    if limits.max_bytes is not None:
        words.append(f"{megabytes(limits.max_bytes)} MB")
    if limits.bits is not None:
        words.append(f"{limits.bits:g} bits per weight")
    if limits.max_work is not None:
        words.append(f"{percent(limits.max_work)} % of the multiply-adds")
    return " and ".join(words)


def _outcome(outcome: str, limits: Limits, judged: Judgment | None) -> Text:
    wanted = limits_text(limits)
    if outcome == "lossless" and judged is not None and judged.ok is not False:
        return Text("lossless: the recipe changes nothing", style="yellow")
    if outcome == "met" and limits.max_drop is limits.max_drop_abs is None and not limits.min_fidelity:
        return Text(f"{f'within {wanted}: ' if wanted else ''}quality is reported, not limited", style="green")
    sure = f"{100 * (limits.confidence or 0.0):g} % confidence"
    if outcome == "met" and judged is not None and any(metric.upper is None for metric in judged.metrics):
        return Text(f"✓ within {wanted} on held-out data; of a bare number no confidence is known", style="green")
    if outcome == "met":
        return Text(f"✓ within {wanted}, with {sure} on held-out data", style="green")
    why = "held-out data refused what the search found" if judged is not None else "the search found nothing smaller"
    return Text(f"lossless: {why} that keeps {wanted} with {sure}", style="yellow")


def _metrics(metrics: tuple[Metric, ...]) -> Table:
    grid = table("metric", "before", "after", "drop", "at most", "limit", "n")
    for metric in metrics:
        known = [_number(value) for value in (metric.before, metric.after, metric.drop, metric.upper, metric.limit)]
        grid.add_row(metric.name, *known, "-" if metric.n is None else f"{metric.n:,}")
    return grid


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _fidelity(fidelity: Fidelity | None, limits: Limits) -> list[str]:
    if fidelity is None:
        return []
    words = []
    if fidelity.loss is not None:
        bound = "" if fidelity.upper is None else f" (at most {fidelity.upper:.3g})"
        limit = f", limit {1.0 - limits.min_fidelity:.3g}" if limits.min_fidelity else ""
        words.append(f"{'KL' if fidelity.diverges else 'D'} {fidelity.loss:.3g}{bound}{limit}")
    if fidelity.top1 is not None:
        words.append(f"top-1 agreement {percent(fidelity.top1)} %")
    if fidelity.neighbor_overlap is not None:
        words.append(f"{percent(fidelity.neighbor_overlap)} % of nearest neighbors kept")
    return [f"outputs beside the original's: {' · '.join(words)}"]


def _layers(receipt: Receipt, console: Console) -> Table:
    """The layers that cost most bytes, with their share of the loss."""
    total = sum(layer.predicted_loss or 0.0 for layer in receipt.layers)
    ordered = sorted(receipt.layers, key=lambda layer: -(layer.nbytes or 0))
    pruned = receipt.spared is not None
    how = ("scheme", "kept") if pruned else ("step shared by",)
    roomy = not pruned or console.width >= 100
    titles = (*(("shape",) if roomy else ()), *how, "MB", "b/w", "of the loss %" if roomy else "loss %")
    grid = table(f"largest of {len(ordered)} layers", *titles)
    rows = []
    for layer in ordered[:MOST_LAYERS]:
        share = (layer.predicted_loss or 0.0) / total if total else None
        shape = [shape_text(layer.shape)] if roomy else []
        cells = [*shape, *_scheme(receipt, layer, pruned, roomy), megabytes(layer.nbytes or 0), bits(layer.bits)]
        rows.append((layer.name, [*cells, percent(share)]))
    widths = [max([len(title), *(len(row[at]) for _, row in rows)]) + 2 for at, title in enumerate(titles)]
    for name, row in rows:
        grid.add_row(shorten(name, max(12, console.width - sum(widths))), *row)
    return grid


def _scheme(receipt: Receipt, layer: Layer, pruned: bool, roomy: bool) -> list[str]:
    """What shares a step; where some layers are pruned, what is done to this one, and what is kept of it."""
    plan = receipt.recipe.get(layer.name)
    cell = plan.get("cell") if isinstance(plan, dict) else None
    if not pruned:
        return [str(cell or "lossless")]
    shared = f" by {cell}" if cell and roomy else ""
    return [f"{layer.scheme or 'lossless'}{shared}", layer.kept or "-"]


def _measured(receipt: Receipt) -> list[str]:
    """What was measured on this machine."""
    lines, times = [], receipt.latency
    if "before_ms" in times and "after_ms" in times:
        lines.append(
            f"a batch takes {times['after_ms']:.1f} ms, and {times['before_ms']:.1f} with the original's weights"
        )
    if "load_ms" in times:
        plain = f", the plain file in {times['plain_load_ms']:.1f}" if "plain_load_ms" in times else ""
        lines.append(f"loads in {times['load_ms']:.1f} ms{plain}")
    if receipt.seconds is not None:
        phases = ", ".join(f"{name} {duration(seconds)}" for name, seconds in receipt.phases.items() if seconds >= 0.5)
        memory = f", {receipt.peak_memory / 1e9:.2f} GB of memory at most" if receipt.peak_memory else ""
        lines.append(f"took {duration(receipt.seconds)}{f' ({phases})' if phases else ''}{memory}")
    return lines


def duration(seconds: float) -> str:
    """Minutes and seconds."""
    whole = round(seconds)
    return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s" if whole < 90 else f"{whole // 60} min {whole % 60} s"
