"""The native coder writes exactly the bytes that the reference writes for the same plan, and both read them alike."""

import ml_dtypes
import numpy as np
import pytest

from regrain import kernels
from regrain.kernels import reference

FLOATS = {
    "float8_e5m2": (2, ml_dtypes.float8_e5m2),
    "float8_e4m3fn": (3, ml_dtypes.float8_e4m3fn),
    "bfloat16": (7, ml_dtypes.bfloat16),
    "float16": (10, np.float16),
    "float32": (23, np.float32),
}
SHAPES = [(1,), (63,), (1000,), (70_001,), (3, 64), (200, 70), (40, 384), (500, 128), (7, 1)]
SEED = 0x1234ABCD


def agree(words, family, mantissa, row_words):
    payload = kernels.encode(words, family=family, mantissa_bits=mantissa, row_words=row_words, seed=SEED)
    assert payload.size <= kernels.bound(words.size, words.itemsize)
    np.testing.assert_array_equal(reference.decode(payload, seed=SEED), words, strict=True)
    plan = reference.plan_of(payload)
    again = reference.encode(words, family=family, mantissa_bits=mantissa, plan=plan, seed=SEED)
    np.testing.assert_array_equal(again, payload)
    out = np.empty_like(words)
    kernels.decode(again, out, seed=SEED)
    np.testing.assert_array_equal(out, words)
    first, count = words.size // 3, (words.size + 1) // 2
    kernels.decode(again, out[:count], seed=SEED, first=first)
    np.testing.assert_array_equal(out[:count], reference.decode(payload, seed=SEED, first=first, count=count))
    return plan


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", FLOATS)
def test_floats(name, shape):
    mantissa, dtype = FLOATS[name]
    rng = np.random.default_rng(len(name) + shape[0])
    rows = shape[0] if len(shape) > 1 else 1
    scale = 2.0 ** rng.integers(-6, 1, rows) * (rng.random(rows) > 0.1)
    values = (rng.normal(0, 1, (rows, shape[-1])) * scale[:, None]).astype(np.float32)
    rounded = rng.random(rows) < 0.3
    values[rounded] = np.round(values[rounded] * 4) / 4
    words = values.astype(dtype).view(f"u{np.dtype(dtype).itemsize}").ravel()
    agree(words, 0, mantissa, shape[-1] if len(shape) > 1 else 0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bits", [8, 16, 32, 64])
def test_integers(bits, shape):
    rng = np.random.default_rng(bits + shape[0])
    spread = rng.normal(0, 2.0 ** rng.uniform(1, min(bits - 2, 20)), shape).astype(np.int64)
    words = (spread + int(rng.integers(-(2**40), 2**40))).astype(f"u{bits // 8}").ravel()
    agree(words, 1, 0, shape[-1] if len(shape) > 1 else 0)


def test_row_classes_and_own_tables_are_among_them():
    rng = np.random.default_rng(0)
    rows = rng.normal(0, 1, (512, 256)) * 2.0 ** rng.choice([-100, -50, 0, 60], 512)[:, None]
    by_rows = (rows.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16).ravel()
    assert len(agree(by_rows, 0, 7, 256).tables) > 1
    blocks = rng.normal(0, 1, (6, 65536)) * 2.0 ** np.array([-100, 0, 100, -50, 50, 20])[:, None]
    by_blocks = (blocks.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16).ravel()
    assert len(agree(by_blocks, 0, 7, 0).tables) == 0
