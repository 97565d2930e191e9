"""What following a stream gains over one pattern for all of it, at equal multiply-adds and with equal compensation.

python benchmarks/adaptation/drift.py [--subject minilm] [--out FILE.json]

Nothing is timed. Every policy sees only what its own masked network saw before, as a run time would; only the oracle
knows the stream.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from emulate import Network, Sums, losses
from grams import OWN, compensated, gather, mixed
from numpy.typing import NDArray
from subjects import SUBJECTS, Subject

from regrain.policies import (
    Bank,
    Control,
    Controlled,
    Decision,
    Matrix,
    NormalizedVariance,
    Observation,
    Policy,
    Ranked,
    Static,
    VarianceThresholds,
)

Stream = Sequence[tuple[str, Any, NDArray[Any]]]
"""(domain, batch, what the original network says of it)."""
Put = Callable[[str, Decision], None]


@dataclass
class Result:
    """Losses by domain, and how often something changed, over all matrices."""

    losses: dict[str, list[float]] = field(default_factory=dict)
    switches: int = 0
    refreshes: int = 0

    def to_json(self) -> dict[str, Any]:
        domains = {domain: float(np.mean(found)) for domain, found in self.losses.items()}
        return {
            "loss": float(np.mean(list(domains.values()))),
            "domains": domains,
            "switches": self.switches,
            "refreshes": self.refreshes,
            "by batch": {domain: [round(one, 6) for one in found] for domain, found in self.losses.items()},
        }


def follow(network: Network, matrices: Mapping[str, Matrix], policy: Policy, put: Put, stream: Stream) -> Result:
    """Batch after batch: serve, observe, decide."""
    result = Result()
    states = {}
    for name, matrix in matrices.items():
        states[name], decision = policy.start(matrix)
        put(name, decision)
    for domain, batch, original in stream:
        sums: dict[str, Sums] = {}
        with network.watched(lambda name, rows, sums=sums: sums.setdefault(name, Sums()).add(rows)):
            _score(result, network, domain, batch, original)
        seen = {name: one.observation() for name, one in sums.items()}
        for name, matrix in matrices.items():
            before = states[name].current
            states[name], decision = policy.decide(states[name], matrix, seen[network.shared.get(name, name)])
            if decision is not None:
                put(name, decision)
                same = decision.same_weights(before)
                result.refreshes += same
                result.switches += not same
    return result


def given(network: Network, put: Callable[[str, str], None], stream: Stream) -> Result:
    """`put(name, domain)` lays each matrix out for a domain at its first batch."""
    result, last = Result(), None
    for domain, batch, original in stream:
        if domain != last:
            for name in network.layers:
                put(name, domain)
            last = domain
        _score(result, network, domain, batch, original)
    return result


def _score(result: Result, network: Network, domain: str, batch: Any, original: NDArray[Any]) -> None:
    found = losses(network.kind, original, network.outputs(batch))
    result.losses.setdefault(domain, []).append(float(found.mean()))


class Bench:
    """A subject with its statistics: by domain, `pooled` over all of them, and of the stream's segments."""

    def __init__(self, subject: Subject) -> None:
        self.subject, self.network = subject, subject.load()
        calibration = {d: subject.batches(d, "calibration")[: subject.calibration] for d in subject.domains}
        streams = {d: subject.batches(d, "stream")[: subject.segment] for d in subject.domains}
        self.segments = {
            d: [part for batch in found for part in batch.split(subject.step)] for d, found in streams.items()
        }
        self.grams = {d: gather(self.network, batches) for d, batches in calibration.items()}
        self.own = {d: self.shared({n: one.channels for n, one in grams.items()}) for d, grams in self.grams.items()}
        self.pooled = {name: pool([seen[name] for seen in self.own.values()]) for name in self.network.layers}
        self.original, self.future = {}, {}
        for d, batches in self.segments.items():
            sums: dict[str, Sums] = {}
            with self.network.watched(lambda name, rows, sums=sums: sums.setdefault(name, Sums()).add(rows)):
                self.original[d] = [self.network.outputs(batch) for batch in batches]
            self.future[d] = self.shared(sums)
        examples = {d: sum(map(len, batches)) for d, batches in calibration.items()}
        first = subject.domains[0]
        self.positions = {
            name: seen.count // examples[first] if self.network.kind == "logits" else 1
            for name, seen in self.own[first].items()
        }
        self.few = [batch for batches in calibration.values() for batch in batches[:FEW]]
        self.plain = self.network.observe(self.few)

    def shared(self, sums: Mapping[str, Sums]) -> dict[str, Observation]:
        return {name: sums[self.network.shared.get(name, name)].observation() for name in self.network.layers}

    def served(self, matrices: Mapping[str, Matrix], start: Policy, put: Put) -> dict[str, Matrix]:
        """With what a few batches of calibration data look like once the matrices are laid out as `start` says.

        Those batches have other moments than all: only the difference that pruning makes is taken from them.
        """
        for name, matrix in matrices.items():
            put(name, start.start(matrix)[1])
        found = self.network.observe(self.few)
        result = {}
        for name, matrix in matrices.items():
            before, after = self.plain[name], found[name]
            variance = matrix.variance * (after.variance + 1e-12) / (before.variance + 1e-12)
            seen = Observation(after.count, matrix.mean + after.mean - before.mean, variance)
            result[name] = replace(matrix, served=seen)
        return result

    def drifting(self) -> Stream:
        """One domain after another."""
        return [one for domain in self.subject.domains for one in self.stationary(domain)]

    def stationary(self, domain: str) -> Stream:
        """One domain."""
        return [(domain, *pair) for pair in zip(self.segments[domain], self.original[domain], strict=True)]

    def shuffled(self) -> Stream:
        """All domains all the time."""
        streams = [self.stationary(domain) for domain in self.subject.domains]
        whole = min(map(len, streams))
        mixed_batches = [one for turn in zip(*(stream[:whole] for stream in streams), strict=True) for one in turn]
        parts = [(batch.split(1), original) for _, batch, original in mixed_batches]
        windows = [(window, original[i : i + 1]) for split, original in parts for i, window in enumerate(split)]
        order = np.random.default_rng(0).permutation(len(windows))
        size = len(mixed_batches[0][1])
        groups = [order[i : i + size] for i in range(0, len(order) // size * size, size)]
        return [
            ("all", torch.cat([windows[i][0] for i in group]), np.concatenate([windows[i][1] for i in group]))
            for group in groups
        ]

    def matrices(self, seen: Mapping[str, Observation], density: float) -> dict[str, Matrix]:
        each = self.positions
        return {
            name: self.network.matrix(name, seen[name], density=density, positions=each[name])
            for name in self.network.layers
        }

    def masked(self, name: str, decision: Decision) -> None:
        self.network.layers[name].decide(decision)


def pool(parts: Sequence[Observation]) -> Observation:
    """Of data of which each part has the same share."""
    mean = np.mean([part.mean for part in parts], axis=0)
    return Observation(sum(part.count for part in parts), mean, np.mean([part.about(mean) for part in parts], axis=0))


def blend(own: Observation, pooled: Observation) -> Observation:
    """As the covariances of a domain's candidate are."""
    mean, variance = (OWN * a + (1 - OWN) * b for a, b in ((own.mean, pooled.mean), (own.variance, pooled.variance)))
    return Observation(own.count, mean, variance)


CONTROL = Control()
FEW = 3
"""Batches of a domain that show what pruning does to the inputs of the layers that follow."""
COLUMNS = Ranked(dense=1.0, dropped=1.0)


def uncompensated(bench: Bench, rule: Ranked, density: float, stream: Stream) -> dict[str, Result]:
    """The original weights, masked; means of what is dropped in the bias."""
    network, put = bench.network, bench.masked
    pooled = bench.matrices(bench.pooled, density)
    served = bench.served(pooled, Controlled(rule), put)
    random = np.random.default_rng(0)

    def proposal(seen: Observation, name: str) -> Decision:
        return rule.propose(pooled[name], seen, None)

    def by_chance(name: str, domain: str) -> None:
        seen = bench.own[domain][name]
        noise = replace(
            seen, variance=random.exponential(size=seen.variance.size) / (pooled[name].column_energy + 1e-30)
        )
        put(name, proposal(noise, name))

    domains = bench.subject.domains
    return {
        "static, pooled": given(network, lambda name, _: put(name, proposal(bench.pooled[name], name)), stream),
        "static, wrong domain": given(
            network,
            lambda name, d: put(name, proposal(bench.own[domains[domains.index(d) - 1]][name], name)),
            stream,
        ),
        "random": given(network, by_chance, stream),
        "ranked": follow(network, served, Controlled(rule, CONTROL), put, stream),
        "bias alone": follow(network, served, Controlled(rule, replace(CONTROL, dwell=10**9)), put, stream),
        "ranked, not knowing what pruning does": follow(network, pooled, Controlled(rule, CONTROL), put, stream),
        "oracle": given(network, lambda name, d: put(name, proposal(bench.future[d][name], name)), stream),
    }


def thresholds(bench: Bench, density: float, stream: Stream) -> dict[str, Result]:
    """Granularity by fixed thresholds, literally and turned around."""
    pooled = bench.matrices(bench.pooled, density)
    rules = {
        "variance-thresholds, by channel": VarianceThresholds(),
        "variance-thresholds, by matrix": VarianceThresholds(scope="matrix"),
        "variance-thresholds, by channel, inverted": VarianceThresholds(inverted=True),
        "normalized-variance": NormalizedVariance(),
    }
    return {
        name: follow(bench.network, pooled, Controlled(rule, CONTROL), bench.masked, stream)
        for name, rule in rules.items()
    }


def with_compensation(bench: Bench, rule: Ranked, density: float, stream: Stream) -> dict[str, Result]:
    """Least squares for what is kept, on each side with its own calibration data."""
    network, domains = bench.network, bench.subject.domains
    parts = [(1.0 / len(domains), bench.grams[d]) for d in domains]
    data = [mixed(network, parts, bench.pooled)]
    for d in domains:
        weighted = [(OWN, bench.grams[d])] + [((1 - OWN) * share, part) for share, part in parts]
        blended = {name: blend(bench.own[d][name], seen) for name, seen in bench.pooled.items()}
        data.append(mixed(network, weighted, blended))
    plain = bench.matrices(bench.pooled, density)
    candidates = {
        name: tuple(rule.propose(matrix, inputs[name].seen, None) for inputs in data) for name, matrix in plain.items()
    }
    made = {
        (name, number): compensated(network.layers[name], decision, data[number][name])
        for name, decisions in candidates.items()
        for number, decision in enumerate(decisions)
    }
    banked = {name: replace(matrix, candidates=candidates[name]) for name, matrix in plain.items()}

    def put(name: str, decision: Decision) -> None:
        number = decision.candidate
        layer = network.layers[name]
        weights, bias = made[name, number]
        shift = np.repeat(decision.mean - candidates[name][number].mean, layer.span)
        layer.put(weights, bias + (layer.weights - weights) @ shift)

    def choose(pick: Callable[[str], int]) -> Result:
        return given(network, lambda name, d: put(name, banked[name].candidates[pick(d)]), stream)

    served = bench.served(banked, Static(), put)
    random = np.random.default_rng(0)
    return {
        "static, pooled": choose(lambda _: 0),
        "static, wrong domain": choose(lambda d: 1 + (domains.index(d) - 1) % len(domains)),
        "random": choose(lambda _: int(random.integers(len(data)))),
        "bank": follow(network, served, Controlled(Bank(), CONTROL), put, stream),
        "oracle's choice": choose(lambda d: 1 + domains.index(d) if d in domains else 0),
    }


def stationary(bench: Bench, density: float) -> dict[str, dict[str, Result]]:
    """Where adapting has nothing to gain: all domains at once after pooled calibration, one domain after its own."""
    found = {}
    for domain in ("all", bench.subject.domains[0]):
        stream = bench.shuffled() if domain == "all" else bench.stationary(domain)
        matrices = bench.matrices(bench.pooled if domain == "all" else bench.own[domain], density)
        matrices = bench.served(matrices, Static(), bench.masked)
        found[domain] = {
            "static": follow(bench.network, matrices, Static(), bench.masked, stream),
            "ranked": follow(bench.network, matrices, Controlled(Ranked(), CONTROL), bench.masked, stream),
        }
    return found


BLOCKS, LEAST, MORE = "blocks 16x1", 0.9, 0.8
"""The pattern that everything is measured with, at a density that a network bears and at one that shows more."""


def measure(subject: Subject) -> Iterator[tuple[str, dict[str, Any]]]:
    bench = Bench(subject)
    stream = bench.drifting()
    yield f"uncompensated: {BLOCKS}, density {LEAST}", table(uncompensated(bench, Ranked(), LEAST, stream))
    yield f"compensated: {BLOCKS}, density {LEAST}", table(with_compensation(bench, Ranked(), LEAST, stream))
    yield f"stationary: {BLOCKS}, density {LEAST}", {d: table(r) for d, r in stationary(bench, LEAST).items()}
    yield f"thresholds: density {LEAST}", table(thresholds(bench, LEAST, stream))
    if subject.quick:
        yield f"compensated: {BLOCKS}, density {MORE}", table(with_compensation(bench, Ranked(), MORE, stream))
        yield f"uncompensated: {BLOCKS}, density {MORE}", table(uncompensated(bench, Ranked(), MORE, stream))
        yield f"uncompensated: columns, density {LEAST}", table(uncompensated(bench, COLUMNS, LEAST, stream))


def table(results: Mapping[str, Result]) -> dict[str, Any]:
    return {name: result.to_json() for name, result in results.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subject", choices=[one.key for one in SUBJECTS], required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    subject = next(one for one in SUBJECTS if one.key == args.subject)
    found: dict[str, Any] = {"subject": subject.name, "command": " ".join(sys.argv[1:])}
    start = time.monotonic()
    for name, figures in measure(subject):
        found[name] = figures
        print(f"{time.monotonic() - start:6.0f} s  {name}", flush=True)
        for policy, one in figures.items():
            if "loss" in one:
                print(f"    {policy:45} {one['loss']:.5f}  {one['switches']} switches {one['refreshes']}", flush=True)
            else:
                print(
                    f"    {policy:12} {one['static']['loss']:.5f} {one['ranked']['loss'] / one['static']['loss']:.4f}"
                )
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
