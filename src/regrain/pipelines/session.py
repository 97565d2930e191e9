"""What planning and compressing for a task share: the model in its task, everything measured, candidates, a store."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from regrain import __version__
from regrain.artifact.layout import MEASUREMENTS, Layout, find_layout
from regrain.artifact.source import Source
from regrain.artifact.threads import resolve_threads
from regrain.core.budget import Budget
from regrain.core.dtypes import DTYPES
from regrain.core.errors import BudgetError, TaskError
from regrain.core.recipe import LayerPlan, Method, Recipe
from regrain.models import open_any
from regrain.models.network import Network
from regrain.models.task import Task
from regrain.models.task_check import check_task
from regrain.models.task_file import load_task
from regrain.pipelines.estimate import estimate
from regrain.pipelines.options import Listener, Options
from regrain.planning.builder import Builder
from regrain.planning.candidates import Candidates, candidates
from regrain.planning.evaluate import Evaluator
from regrain.planning.evidence import Evidence, Setting, batches_digest, gather, load_weights, setting_json
from regrain.planning.hostcosts import HostCosts, measure_costs
from regrain.planning.layer import Layer
from regrain.planning.pruned_candidates import with_pruning
from regrain.planning.search import Candidate, Point, choose_compensation
from regrain.planning.selectors import Selection, Selector, selector
from regrain.planning.sequential import Sequential
from regrain.planning.solve import Objective, Solution, Solver
from regrain.planning.store import Store
from regrain.planning.structure import Structure, structure

PASSES = 32
"""Backward passes that measure sensitivity, unless the calibration data have more batches."""


class _Selected(Solver):
    """A selector in the place of the solver: it has no candidates, and bytes are what it minimizes."""

    def __init__(self, by: Selector, layers: Mapping[str, Layer]) -> None:
        super().__init__(())
        self._by, self._layers = by, layers

    def for_loss(self, loss: float) -> Solution:
        """What the selector says."""
        return self._possible(self._by.for_loss(loss))

    def for_bytes(self, size: float) -> Solution:
        """What the selector says."""
        return self._possible(self._by.for_bytes(size))

    def for_work(self, work: float) -> Solution:
        """Not for selectors."""
        raise BudgetError("max_work must be given with the selector search: the others know of bytes alone")

    def _possible(self, found: Solution) -> Solution:
        """Without the prunings that a tensor can't have, as the rule's of an embedding."""
        return replace(found, plans=tuple(self._plan_of(plan) for plan in found.plans))

    def _plan_of(self, plan: LayerPlan) -> LayerPlan:
        layer = self._layers[plan.name]
        if plan.pruning is None or layer.prunable:
            return plan
        return LayerPlan(plan.name, Method.LOSSLESS, bytes=layer.lossless, why=f"can't be pruned; {plan.why}")


@dataclass(frozen=True, slots=True, eq=False)
class Session:
    """A model with its weights in its task's network, everything measured on calibration data, ready to search."""

    layout: Layout
    sources: Sequence[Source]
    task: Task
    network: Network
    store: Store
    setting: Setting
    evidence: Evidence
    solver: Solver
    candidate: Candidate
    model_sha256: str
    threads: int
    warnings: tuple[str, ...]
    structure: Structure
    options: Options
    costs: HostCosts | None = None

    @property
    def weights(self) -> int:
        """Floating-point elements of the model's files, tied ones once."""
        names = {self.evidence.same.get(name, name) for source in self.sources for name in source.header.entries}
        entries = {name: entry for source in self.sources for name, entry in source.header.entries.items()}
        return sum(
            8 * entry.nbytes // DTYPES[entry.dtype].bits
            for name, entry in entries.items()
            if name in names and DTYPES[entry.dtype].floating
        )

    @property
    def original_bytes(self) -> int:
        """Bytes of the model's files of weights."""
        return sum(source.header.file_bytes for source in self.sources)

    @property
    def lossless_bytes(self) -> int:
        """Predicted bytes without any loss."""
        return self.candidate.size({}) + sum(layer.lossless for layer in self.evidence.layers.values())

    def recipe(self, point: Point | None, budget: Budget) -> Recipe:
        """A point as a recipe; None is lossless."""
        note = {
            "regrain": __version__,
            "task": self.task.name,
            "budget": budget.to_json(),
            "setting": setting_json(self.setting),
            **self.options.to_json(),
            "predicted_loss": 0.0 if point is None else float(f"{point.loss:.6g}"),
        }
        plans = self.lossless_plans() if point is None else point.plans
        return Recipe(tuple(plans.values()), self.model_sha256, note)

    def lossless_plans(self) -> dict[str, LayerPlan]:
        """Every layer as it is."""
        return {
            name: LayerPlan(name, Method.LOSSLESS, bytes=layer.lossless, why="kept as it is")
            for name, layer in self.evidence.layers.items()
        }


def prepare(
    model: str | os.PathLike[str],
    task: Task | str | os.PathLike[str],
    options: Options,
    listener: Listener,
    *,
    groups: bool = False,
) -> Session:
    """Load a model into its task, check the task, and measure what isn't in the store yet. Groups of channels are
    looked for where pruning is an option, or if they are wanted.

    Raises TaskError for a task that can't be used, UnsupportedModelError and OSError for a model that can't be read.
    """
    import torch

    threads = resolve_threads(options.threads)
    torch.set_num_threads(threads)
    layout = find_layout(model)
    sources = [open_any(path) for path in layout.paths()]
    job = task if isinstance(task, Task) else load_task(task)
    listener.step("loading the model", 0, 0)
    network = Network(job.model())
    unused = load_weights(network, sources)
    listener.step("checking the task", 0, 0)
    start = time.perf_counter()
    warnings = check_task(job, network.model)
    checked = time.perf_counter() - start
    for warning in warnings:
        listener.note(warning)
    if unused:
        listener.note(
            f"{len(unused)} tensors stay lossless, the task's model has no place for them: {unused[0]!r} first"
        )
    batches = job.batches("calibration")
    setting = Setting(options.seed, options.probes or min(4, max(1, round(PASSES / len(batches)))))
    listener.step("hashing the model", 0, 0)
    sha256 = _digest(sources)
    store = _store(options, layout, [sha256, _code(job), batches_digest(batches), setting_json(setting)])
    listener.estimate(estimate(network, job, batches, setting.probes, checked, measured=store.has("inputs")))
    evidence = gather(
        sources, network, job, batches, store, setting, unused=unused, threads=threads, said=listener.step
    )
    if not evidence.layers:
        raise TaskError("MODEL must have floating-point weights that the task's model uses, and has none")
    listener.step("finding channels", 0, 0)
    with network.frozen():
        evidence, found = structure(
            evidence,
            network,
            lambda: job.outputs(network.model, batches[0]),
            groups=groups or bool(options.pruning) or options.slim,
        )
    listener.step("evaluating the original", 0, 0)
    evaluator = Evaluator(network, job, "search", _within(store, batches_digest(job.batches("search"))))
    builder = Builder(evidence.layers, threads, Sequential(network, job, batches, listener.step))
    candidate = Candidate(evidence, evaluator, evaluator.store, builder)
    costs = _costs(evidence, store) if options.objective is Objective.LATENCY else None
    if options.selector is Selection.SEARCH:
        made = _tried(evidence, options, threads, listener)
        made = _prune(made, evidence, found, options, store, threads, listener)
        solver = Solver(made, costs, options.objective)
        if options.pruning:
            listener.step("choosing a compensation", 0, 0)
            choose_compensation(candidate, solver)
    else:
        listener.step("selecting", 0, 0)
        solver = _Selected(selector(options.selector, evidence.layers, options.rule), evidence.layers)
    return Session(
        layout,
        sources,
        job,
        network,
        store,
        setting,
        evidence,
        solver,
        candidate,
        sha256,
        threads,
        tuple(warnings),
        found,
        options,
        costs,
    )


def _tried(evidence: Evidence, options: Options, threads: int, listener: Listener) -> list[Candidates]:
    """Candidates without pruning."""
    made = []
    with ThreadPoolExecutor(threads) as pool:
        tried = pool.map(lambda layer: candidates(layer, options.cells), evidence.layers.values())
        for number, one in enumerate(tried):
            listener.step("predicting", number, len(evidence.layers))
            made.append(one)
    return made


def _prune(
    made: list[Candidates],
    evidence: Evidence,
    found: Structure,
    options: Options,
    store: Store,
    threads: int,
    listener: Listener,
) -> list[Candidates]:
    """Candidates with what pruning adds to them."""
    if not options.pruning:
        return made

    def more(plain: Candidates) -> Candidates:
        layer = evidence.layers[plain.name]
        return with_pruning(plain, layer, options.pruning, found.users.get(plain.name), store)

    pruned = []
    with ThreadPoolExecutor(threads) as pool:
        for number, one in enumerate(pool.map(more, made)):
            listener.step("pruning", number, len(made))
            pruned.append(one)
    return pruned


def _digest(sources: Sequence[Source]) -> str:
    found = hashlib.sha256()
    for source in sources:
        for chunk in source.chunks():
            found.update(chunk)
    return found.hexdigest()


def _costs(evidence: Evidence, store: Store) -> HostCosts | None:
    """Costs on this machine, measured once; None where nothing can be quantized."""
    kept = store.get("costs")
    if kept is None:
        usable = [layer for layer in evidence.layers.values() if layer.usable]
        if not usable:
            return None
        store.put("costs", measure_costs(max(usable, key=lambda layer: layer.count)).to_json(), {})
        kept = store.get("costs")
        assert kept is not None
    return HostCosts(**kept[0])


def _code(task: Task) -> str | None:
    """SHA-256 of the task's file and the modules beside it, which it may import; None for functions of no file."""
    if task.path is None:
        return None
    found = hashlib.sha256()
    for file in sorted(task.path.parent.glob("*.py")):
        found.update(file.name.encode("utf-8") + file.read_bytes())
    return found.hexdigest()


def _store(options: Options, layout: Layout, key: object) -> Store:
    """The folder of this very measurement; others beside it belong to other models, tasks or seeds."""
    digest = hashlib.sha256(json.dumps([key, __version__], sort_keys=True).encode("utf-8")).hexdigest()[:16]
    beside = layout.root if layout.single else layout.root.resolve().parent  # never within what is copied
    root = options.work if options.work is not None else beside / MEASUREMENTS
    folder = root / digest
    if options.resume and not folder.is_dir():
        raise TaskError(
            f"there must be something to resume in {str(root)!r}, and nothing there is of this model, task, data and "
            "seed: leave out --resume"
        )
    store = Store(folder)
    if options.fresh:
        store.clear()
    return store


def _within(store: Store, digest: str) -> Store:
    """Points depend on the search data too."""
    return Store(store.folder / f"search-{digest[:16]}")
