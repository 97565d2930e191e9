"""Selectors beside the search over measured candidates: time to plan, and real bytes at equal loss, of unseen families.

    python benchmarks/selection.py WORK [--times] [MEMBER ...]

WORK is what tools/selector/measure.py and train.py filled. Every plan is built: bytes are those of payloads, losses are
predicted from the indices that came of it, and D or KL is measured on search data. The search's plans for several total
losses make a line of bytes over the logarithm of the loss, and a regret is a plan's bits a weight above that line. The
learned selector has the networks that were trained without the member's family.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tools" / "selector"))

import machine
import measure
import numpy as np
import torch
from members import Member, members

from regrain.core.recipe import Method
from regrain.planning.builder import Builder
from regrain.planning.candidates import candidates
from regrain.planning.evaluate import Evaluator
from regrain.planning.search import Candidate
from regrain.planning.selectors import ClosedForm, Learned, Rule, Selector
from regrain.planning.selectors.learned import read
from regrain.planning.solve import Solver
from regrain.planning.store import Store

RESULTS = Path(__file__).parent / "results" / "selectors"

LINE = tuple(float(loss) for loss in np.geomspace(1e-4, 0.16, 9))
ASKED = (1e-3, 1e-2, 5e-2)
"""Total losses: those of the line, and those that selectors are asked for."""


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("members", nargs="*", help="names of members [all]")
    parser.add_argument("--times", action="store_true", help="measure only how long planning takes")
    options = parser.parse_intermixed_args()
    torch.set_num_threads(1)
    RESULTS.mkdir(exist_ok=True)
    out = RESULTS / f"{machine.kind()}.json"
    found = json.loads(out.read_text("utf-8")) if out.exists() else {"machine": machine.describe(), "members": {}}
    for member in members():
        if options.members and member.name not in options.members:
            continue
        found["members"][member.name] = {"family": member.family} | compare(member, options.work, options.times)
        out.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


def compare(member: Member, work: Path, only_times: bool) -> dict[str, object]:
    """Seconds of processor time, and regrets by selector and loss that was asked for."""
    evidence, network, task = measure.evidence(member, work)
    layers = evidence.layers
    weights = sum(layer.count for layer in layers.values())
    made: dict[str, Selector] = {}
    seconds = {}
    for name, make in {
        "search": lambda: Solver([candidates(layer) for layer in layers.values()]),
        "closed-form": lambda: ClosedForm(layers),
        "learned": lambda: Learned(layers, read(work / "left-out" / f"{member.family}.json")),
        "rule": lambda: Rule(layers),
    }.items():
        start = time.process_time()
        made[name] = make()
        made[name].for_loss(ASKED[0])
        seconds[name] = round(time.process_time() - start, 3)
    if only_times:
        print(f"{member.name}: seconds {seconds}", flush=True)
        return {"weights": weights, "seconds": seconds}
    with tempfile.TemporaryDirectory() as folder:
        evaluator = Evaluator(network, replace(task, evaluate=None), "search", Store(Path(folder)))
        candidate = Candidate(evidence, evaluator, evaluator.store, Builder(evidence.layers, 1))
        line = [point(candidate, made["search"], loss, weights) for loss in LINE]
        asked = {
            name: [point(candidate, made[name], loss, weights) for loss in ASKED] for name in ("closed-form", "learned")
        }
        rule = point(candidate, made["rule"], ASKED[0], weights) if pruned(made["rule"]) == 0 else None
    regrets = {name: [regret(line, one) for one in points] for name, points in asked.items()}
    shown = {name: [round(one["predicted"], 3) for one in each] for name, each in regrets.items()}
    print(f"{member.name}: seconds {seconds}, regret {shown}, rule {rule}", flush=True)
    return {
        "weights": weights,
        "seconds": seconds,
        "search": line,
        "selectors": asked,
        "regret": regrets,
        "rule": {"pruned": pruned(made["rule"]), "point": rule},
    }


def pruned(rule: Selector) -> int:
    """Tensors that the rule prunes."""
    return sum(plan.method is Method.PRUNE for plan in rule.for_loss(ASKED[0]).plans)


def point(candidate: Candidate, selector: Selector, loss: float, weights: int) -> dict[str, float]:
    """Bits a weight, and the loss: asked for, of what was built, and measured (D or KL)."""
    plans = {plan.name: plan for plan in selector.for_loss(loss).plans}
    predicted, size, raw = candidate.evaluate(plans)
    measured = candidate.evaluator.measured(raw, 0.95).fidelity.value
    found = {"asked": loss, "bits": 8 * size / weights, "predicted": predicted, "measured": measured}
    return {key: float(f"{value:.5g}") for key, value in found.items()}


def regret(line: Sequence[Mapping[str, float]], one: Mapping[str, float]) -> dict[str, float]:
    """Bits a weight above the search's at the same predicted and at the same measured loss."""
    found = {}
    for key in ("predicted", "measured"):
        ends = sorted((np.log(max(each[key], 1e-12)), each["bits"]) for each in line)
        at, bits = np.array(ends).T
        found[key] = round(one["bits"] - float(np.interp(np.log(max(one[key], 1e-12)), at, bits)), 4)
    return found


if __name__ == "__main__":
    main()
