"""Whether a mutant that no test caught can be told from the circuit at all: proofs by Yosys and, inside it, ABC."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from amaranth.back import rtlil
from amaranth.hdl import Cat, ClockDomain, ClockSignal, Const, Instance, Module, Signal, Value
from contracts import Contract, Ports, Promise
from memories import Cut, without_memories
from mutants import Mutant, names_of, yosys

SIDES = ("gold", "gate")

# Registers that a mutant changes on their way out lose their initial value, 0 (see `mutants._sensible`).
_MUTATED = """
read_rtlil in.il
rename dut gold
copy gold gate
mutate -ctrl mutant 1 1 {options}
delete -port gate/mutant
select gate
connect -set mutant 1'1
select -clear
opt_clean
setundef -zero -init
select gold
write_rtlil -selected gold.il
select gate
write_rtlil -selected gate.il
"""
# ABC works on what it reads by itself, and leaves the design that Yosys gives it, an AND, as it was.
_FROM_THE_START = """
read_rtlil gold.il
read_rtlil gate.il
memory_map
opt_clean
read_rtlil both.il
hierarchy -top both
proc
flatten
opt -full
dffunmap
techmap
opt -nodffe -nosdff
dffunmap
simplemap
aigmap
opt_clean
write_aiger -zinit both.aig
design -reset
read_rtlil and.il
abc -script abc.txt
"""
_ABC = """
write_blif and.blif
read_aiger both.aig
{commands}
write_status status.txt
read_blif and.blif
strash
map
"""
_PROOFS, _SEARCH = ("scorr\nwrite_aiger left.aig\npdr -T {seconds}", "dprove"), "bmc3 -T {seconds}"
_AND = r"""
module \and
  wire input 1 \a
  wire input 2 \b
  wire output 3 \y
  cell $_AND_ \only
    connect \A \a
    connect \B \b
    connect \Y \y
  end
end
"""


def verdict(circuit: str, mutant: Mutant, promise: Promise | None = None, *, seconds: int = 20) -> str:
    """`equal`: no run from the start shows a difference. `promised`: none that the component's contract allows does, in
    outputs while they mean something. `differs after N`: some inputs show it within N cycles, those of the contract if
    there is one. `same for N`: none shows it within N cycles. `unknown`: the proof took too long, or couldn't begin.
    """
    with tempfile.TemporaryDirectory(prefix="regrain-mutation-") as name:
        folder = Path(name)
        (folder / "in.il").write_text(circuit, encoding="utf-8")
        try:
            yosys(_MUTATED.format(options=mutant.options.replace("-module dut", "-module gate")), folder)
        except RuntimeError:
            return "unknown"
        whole = {side: (folder / f"{side}.il").read_text(encoding="utf-8") for side in SIDES}
        cut = {side: without_memories(text) for side, text in whole.items()}
        parts, memories = {side: text for side, (text, _) in cut.items()}, cut["gold"][1]
        _write(folder, parts)
        found = _proven(folder, side_by_side(parts["gold"], circuit, promise, memories), seconds)
        if found == "equal" and promise is not None:
            always = _proven(folder, side_by_side(parts["gold"], circuit, None, memories), seconds)
            return "equal" if always == "equal" else "promised"
        if found == "equal" or (found.startswith("differs") and not memories):
            return found
        _write(folder, whole)
        return _from_the_start(folder, side_by_side(whole["gold"], circuit, promise), _SEARCH, seconds)


def _write(folder: Path, circuits: Mapping[str, str]) -> None:
    for side, text in circuits.items():
        (folder / f"{side}.il").write_text(text, encoding="utf-8")


def _proven(folder: Path, both: str, seconds: int) -> str:
    """What the first of the proofs says that says something."""
    found = ""
    for proof in _PROOFS:
        found = _from_the_start(folder, both, proof, seconds)
        if found == "equal" or found.startswith("differs"):
            break
    return found


def _from_the_start(folder: Path, both: str, commands: str, seconds: int) -> str:
    """What ABC says of bad states."""
    script = _ABC.format(commands=commands.format(seconds=seconds))
    for name, text in (("both.il", both), ("and.il", _AND), ("abc.txt", script)):
        (folder / name).write_text(text, encoding="utf-8")
    for name in ("status.txt", "left.aig"):
        (folder / name).unlink(missing_ok=True)
    try:
        yosys(_FROM_THE_START, folder, 2 * seconds)
    except RuntimeError:
        return "unknown"
    left = folder / "left.aig"
    if left.exists() and re.match(rb"aig (\d+) \1 0 1 0\n0\n", left.read_bytes()):
        return "equal"  # signals that correspond leave nothing to prove, which ABC calls undecided
    return _read((folder / "status.txt").read_text(encoding="utf-8"))


def _read(status: str) -> str:
    """What ABC wrote: whether a bad state is reached, SAT or UNSAT, and the last cycle looked at, from 0 on."""
    found = re.match(r"snl_(\S+)\s+(-?\d+)", status)
    if not found:
        return "unknown"
    answer, cycle = found[1], int(found[2])
    return {"UNSAT": "equal", "SAT": f"differs after {cycle + 1}"}.get(answer, f"same for {cycle}")


def side_by_side(circuit: str, named: str, promise: Promise | None, memories: Sequence[Cut] = ()) -> str:
    """RTLIL of a module `both`: modules `gold` and `gate` on the same inputs; its output `bad` is 1 once they differ in
    what is promised, or in what `memories` that were cut out do, all inputs having been what they may be.

    `circuit` has the ports of both, `named` says what the component calls them.
    """
    ports = _ports(circuit)
    read = {f"{memory.name}_rd_data" for memory in memories}
    given = {name: Signal(width, name=name) for name, width in ports["input"].items() if name != "clk"}
    both = {
        side: {name: Signal(width, name=f"{side}_{name}") for name, width in ports["output"].items()} for side in SIDES
    }
    m = Module()
    m.domains.sync = clock = ClockDomain("sync", reset_less=True)
    for side, outputs in both.items():
        data = {f"{memory.name}_rd_data": _read_data(m, memory, given, outputs) for memory in memories}
        wires = {f"i_{name}": data.get(name, value) for name, value in given.items()}
        if "clk" in ports["input"]:
            wires["i_clk"] = ClockSignal()
        m.submodules[side] = Instance(side, **wires, **{f"o_{name}": value for name, value in outputs.items()})
    gold, gate = both.values()
    names = {port: name for port, name in names_of(named).items() if port in given or port in gold}
    contract = promise(m, {name: (given | gold)[port] for port, name in names.items()}) if promise else Contract()
    if unknown := set(contract.meant) - {names[port] for port in names if port in gold}:
        raise KeyError(f"a contract must speak of outputs, not of {min(unknown)!r}")
    inner = {f"{memory.name}_{name}" for memory in memories for name in memory.outputs} | read
    differ = [
        (gold[port] != gate[port]) & contract.meant.get(names.get(port, ""), 1) for port in gold if port not in inner
    ]
    differ += [each for memory in memories for each in _memory_differs(memory, gold, gate)]
    sane, bad = Signal(init=1), Signal()
    m.d.sync += sane.eq(sane & contract.legal)
    m.d.comb += bad.eq(sane & contract.legal & (Cat(differ) != 0))
    return rtlil.convert(m, name="both", ports=[*given.values(), clock.clk, bad], emit_src=False)


def _read_data(m: Module, memory: Cut, given: Ports, outputs: Ports) -> Value:
    """What one side reads: anything, if it is enabled; else what it read before."""
    data = []
    for reader, clocked in enumerate(memory.clocked):
        now = given[f"{memory.name}_rd_data"].word_select(reader, memory.width)
        if clocked:
            held = Signal(memory.width)
            with m.If(outputs[f"{memory.name}_rd_en"][reader]):
                m.d.sync += held.eq(now)
            now = held
        data.append(now)
    return Cat(data)


def _memory_differs(memory: Cut, gold: Ports, gate: Ports) -> list[Value]:
    """Whether one side writes what the other doesn't, or both read at once, and not the same."""
    ports = {
        name: (gold[f"{memory.name}_{name}"], gate[f"{memory.name}_{name}"])
        for name in memory.outputs
        if f"{memory.name}_{name}" in gold
    }
    differ = []
    for reader, clocked in enumerate(memory.clocked):
        reads = Const(1)
        if clocked:
            reads = ports["rd_en"][0][reader] & ports["rd_en"][1][reader]
        one, other = (each.word_select(reader, memory.address) for each in ports["rd_addr"])
        differ.append(reads & (one != other))
    if memory.writers:
        enabled, also = ports["wr_en"]
        differ += [enabled != also, (enabled & (ports["wr_data"][0] ^ ports["wr_data"][1])) != 0]
        for writer in range(memory.writers):
            one, other = (each.word_select(writer, memory.address) for each in ports["wr_addr"])
            differ.append((enabled.word_select(writer, memory.width) != 0) & (one != other))
    return differ


def _ports(circuit: str) -> dict[str, dict[str, int]]:
    """Widths of inputs and of outputs of a netlist's module."""
    found = re.findall(r"^  wire (?:width (\d+) )?(input|output) \d+ (?:signed )?\\(\S+)$", circuit, re.MULTILINE)
    return {side: {name: int(width or 1) for width, way, name in found if way == side} for side in ("input", "output")}
