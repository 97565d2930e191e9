"""What the compiled kernels promise beside right words: same bytes everywhere, threads, forks, files, memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from regrain import kernels
from regrain.kernels.fault import PayloadFault

SEED = 7
ROWS, ROW = 900, 200


def bfloats(scale_rows: bool = True) -> NDArray[np.uint16]:
    """ROWS rows of ROW words of bf16, rows of different scale."""
    rng = np.random.default_rng(3)
    weights = rng.standard_normal((ROWS, ROW), np.float32)
    if scale_rows:
        weights *= np.exp(rng.standard_normal((ROWS, 1), np.float32))
    return (weights.view(np.uint32) >> 16).astype(np.uint16).reshape(-1)


def payload_of(words: NDArray[np.uint16], threads: int = 1) -> NDArray[np.uint8]:
    payload = kernels.encode(words, family=kernels.FLOAT, mantissa_bits=7, row_words=ROW, seed=SEED, threads=threads)
    assert payload is not None
    return payload


@pytest.fixture
def every_set() -> Iterator[tuple[str, ...]]:
    before = kernels.instruction_set()
    yield kernels.instruction_sets()
    kernels.use_instruction_set(before)


def test_every_instruction_set_writes_the_same_bytes_and_reads_them(every_set: tuple[str, ...]) -> None:
    words = bfloats()
    payloads = []
    for name in every_set:
        kernels.use_instruction_set(name)
        payloads.append(payload_of(words).tobytes())
    assert set(payloads) == {payloads[0]}
    for name in every_set:
        kernels.use_instruction_set(name)
        out = np.zeros_like(words)
        kernels.decode(payloads[0], out, seed=SEED)
        assert np.array_equal(out, words), name


def test_an_unknown_instruction_set_is_named() -> None:
    with pytest.raises(ValueError, match="name must be one of portable.*, not 'mmx'"):
        kernels.use_instruction_set("mmx")


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_threads_change_nothing(threads: int) -> None:
    words = bfloats()
    payload = payload_of(words, threads)
    assert payload.tobytes() == payload_of(words).tobytes()
    outs = [np.zeros_like(words) for _ in range(5)]
    kernels.decode_many([(payload, out, SEED) for out in outs], threads)
    assert all(np.array_equal(out, words) for out in outs)


def test_the_first_fault_is_reported_whatever_the_threads() -> None:
    words = bfloats()
    sound = payload_of(words)
    info = kernels.info(sound, seed=SEED)
    broken = sound.copy()
    broken[-9] ^= 1  # in the last block
    for threads in (1, 2, 4):
        with pytest.raises(PayloadFault) as caught:
            kernels.decode_many(
                [(p, np.zeros_like(words), SEED) for p in (sound, broken, sound, broken, broken)], threads
            )
        assert (caught.value.job, caught.value.block) == (1, len(info.blocks) - 1)


def test_python_threads_may_decode_at_once() -> None:
    words = bfloats()
    payload = payload_of(words)

    def work(_: int) -> bool:
        out = np.zeros_like(words)
        kernels.decode(payload, out, seed=SEED, threads=2)
        return np.array_equal(out, words)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(24)))


def test_a_forked_child_gets_threads_of_its_own() -> None:
    words = bfloats()
    payload = payload_of(words)
    kernels.decode(payload, np.zeros_like(words), seed=SEED, threads=2)  # the parent's threads exist now
    child = os.fork()
    if child == 0:
        out = np.zeros_like(words)
        kernels.decode(payload, out, seed=SEED, threads=2)
        os._exit(0 if np.array_equal(out, words) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.fixture
def in_file(tmp_path: Path) -> Iterator[tuple[int, Path, int, NDArray[np.uint16]]]:
    """(descriptor, path, bytes of the payload, words); the payload stands behind 100 other bytes."""
    words = bfloats()
    payload = payload_of(words)
    path = tmp_path / "payload"
    path.write_bytes(bytes(100) + payload.tobytes())
    file = os.open(path, os.O_RDONLY)
    yield file, path, payload.size, words
    os.close(file)


def test_a_payload_of_a_file_is_read_as_needed(in_file: tuple[int, Path, int, NDArray[np.uint16]]) -> None:
    file, _, size, words = in_file
    info = kernels.info_file(file, 100, size, seed=SEED)
    assert info == kernels.info(payload_of(words), seed=SEED)
    out = np.zeros_like(words)
    kernels.decode_file(file, [(100, size, out, SEED)], threads=2)
    assert np.array_equal(out, words)
    part = np.zeros(5000, np.uint16)
    kernels.decode_file_range(file, 100, size, part, seed=SEED, first=70_001)
    assert np.array_equal(part, words[70_001:75_001])


@pytest.mark.parametrize("kept", [0, 90, 120, 5_000, 100_000])
def test_a_file_that_is_cut_short_while_open_is_a_fault(
    in_file: tuple[int, Path, int, NDArray[np.uint16]], kept: int
) -> None:
    file, path, size, words = in_file
    os.truncate(path, kept)
    if kept < 120:
        with pytest.raises(PayloadFault, match="the file ends early or can't be read"):
            kernels.info_file(file, 100, size, seed=SEED)
    with pytest.raises(PayloadFault, match="the file ends early or can't be read"):
        kernels.decode_file(file, [(100, size, np.zeros_like(words), SEED)])


def anonymous() -> int:
    """Resident anonymous bytes of this process."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("RssAnon"))


def test_memory_goes_back_page_by_page() -> None:
    size = 6 << 20
    before = anonymous()
    arrays = kernels.allocate([size, 100, size, size])
    assert all(array.ctypes.data % 64 == 0 for array in arrays)
    for array in arrays:
        array[:] = 1
    full = anonymous()
    assert full - before > 3 * size - (1 << 20)
    del array, arrays[2]
    assert full - anonymous() >= size - (4 << 20)  # what shares a huge page with a neighbor stays
    assert arrays[0].sum() == arrays[2].sum() == size
    del arrays
    assert anonymous() - before < 1 << 20
