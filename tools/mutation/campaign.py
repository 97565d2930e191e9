"""Whether tests catch bugs that are injected into a component: how many of its mutants make them fail.

    python tools/mutation/campaign.py COMPONENT tests/hw/rtl/test_pe.py [FILE ...] --count 120 --seed 1

COMPONENT is a class. The tests run once with the circuit as it was written, and must pass; then, for each mutant, in a
process of its own until one fails; a file's tests see the mutants that no file before it caught. A mutant is caught if
a test fails, if the model stops the process, or if the tests take far longer than they did. Random examples are those
of an ordinary run. Writes JSON to standard output, and with --circuit the netlist that equivalence.py asks for. With
--only, tries those mutants alone whose mutations stand in a file, one a line.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from builder import Builder, Model
from mutants import Mutant, digest, with_names

ROOT = Path(__file__).parents[2]
LEAST_LIMIT, PATIENCE = 10, 3  # seconds of CPU, and how many times as long as without a mutant


class Campaign:
    """A plugin of pytest that runs the tests of a file again and again, once for each mutant that is `alive`.

    `caught` maps numbers of mutants to the test that failed, `stopped` or `hang`. `only`: the mutations to try, all by
    default.
    """

    def __init__(self, builder: Builder, only: Sequence[str] | None = None) -> None:
        self.builder, self.only = builder, only
        self.caught: dict[int, str] = {}
        self.failed: list[str] = []
        self.seconds = 0.0

    @property
    def model(self) -> Model:
        """The model whose mutants are tried."""
        if self.builder.model is None:
            raise pytest.UsageError(f"tests must compile {self.builder.component}, in the size asked for")
        return self.builder.model

    @property
    def tried(self) -> list[Mutant]:
        """The mutants that are tried."""
        if self.only is None:
            return list(self.model.mutants)
        found = {mutant.options: mutant for mutant in self.model.mutants}
        if missing := set(self.only) - set(found):
            raise pytest.UsageError(f"there is no mutant {min(missing)!r} of this circuit")
        return [found[each] for each in self.only]

    @property
    def alive(self) -> list[Mutant]:
        """Mutants that nothing caught yet."""
        return [mutant for mutant in self.tried if mutant.number not in self.caught]

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> None:
        """Before test modules are imported: a failure need not be made small."""
        from hypothesis import Phase, settings  # not before pytest rewrites its plugins

        phases = (Phase.explicit, Phase.reuse, Phase.generate)
        settings.register_profile("mutation", settings(), phases=phases)
        settings.load_profile("mutation")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note what failed."""
        if report.failed:
            self.failed.append(report.nodeid)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Instead of pytest's own loop."""
        items = list(session.items)
        seconds: dict[str, float] = {}
        for _ in range(2):  # models are compiled in the first round
            for item in items:
                began = time.process_time()
                _run(item)
                seconds[item.nodeid] = time.process_time() - began
        if self.failed or not items:
            raise pytest.UsageError(f"tests must pass without mutants; these failed: {self.failed or 'none was found'}")
        total = sum(seconds.values())
        self.seconds += total
        for mutant in self.alive:
            caught = self._fate(mutant, items, limit=int(LEAST_LIMIT + PATIENCE * total))
            if caught:
                self.caught[mutant.number] = caught
            if seconds.get(caught, total) < total / len(items):
                items.sort(key=lambda item: item.nodeid != caught)  # stable: what caught one is the next one's first
        return True

    def _fate(self, mutant: Mutant, items: list[pytest.Item], *, limit: int) -> str:
        """What catches a mutant, if anything."""
        sys.stdout.flush()
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 1))
            self._try(mutant, items, writer)
        os.close(writer)
        with os.fdopen(reader, "rb") as answer:
            caught = answer.read().decode()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status in (-signal.SIGXCPU, -signal.SIGKILL):
            return "hang"
        return caught or ("stopped" if status else "")

    def _try(self, mutant: Mutant, items: list[pytest.Item], writer: int) -> None:
        """In the child: tests until one fails, whose name goes to `writer`."""
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        if self.model.select is not None:
            self.model.select(mutant.number)
        for item in items:
            _run(item)
            if self.failed:
                os.write(writer, self.failed[0].encode())
                break
        os._exit(0)


def _run(item: pytest.Item) -> None:
    """One test. What its file shares, its fixtures and thus models, stays, as if another test of it followed."""
    item.config.hook.pytest_runtest_protocol(item=item, nextitem=item.parent)


def campaign(
    component: str,
    files: Sequence[Path],
    *,
    count: int,
    seed: int,
    size: int,
    cache: Path,
    within: str,
    circuit: Path | None,
    only: Path | None,
) -> dict[str, Any]:
    """Run one; what `main` prints."""
    builder = Builder(component, count, seed, ROOT, cache, size, within)
    plugin = Campaign(builder, only and only.read_text(encoding="utf-8").splitlines())
    with builder.installed():
        for file in files:
            if code := pytest.main([str(file), *"-q --no-header -p no:cacheprovider --capture=no".split()], [plugin]):
                raise SystemExit(int(code))
    model = plugin.model
    outcomes = [{**asdict(each), "caught": plugin.caught.get(each.number)} for each in plugin.tried]
    if circuit:
        circuit.write_text(with_names(model.circuit, model.names), encoding="utf-8")
    return {
        "component": component,
        "files": [str(file) for file in files],
        "seed": seed,
        "circuit": digest(model.circuit),
        "mutants": len(outcomes),
        "caught": len(plugin.caught),
        "seconds_without": round(plugin.seconds, 2),
        "outcomes": outcomes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("component")
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--count", type=int, default=120)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--size", type=int, default=0, help="which of those that the tests use, in their order")
    parser.add_argument("--within", default="", help="only in this submodule; . is in none")
    parser.add_argument("--cache", type=Path, default=ROOT / "build" / "mutation")
    parser.add_argument("--circuit", type=Path, metavar="FILE", help="write the netlist to this file")
    parser.add_argument("--only", type=Path, metavar="FILE", help="mutations to try, one a line")
    args = vars(parser.parse_args())
    standard, sys.stdout = sys.stdout, sys.stderr
    json.dump(campaign(args.pop("component"), args.pop("files"), **args), standard, indent=1)


if __name__ == "__main__":
    main()
