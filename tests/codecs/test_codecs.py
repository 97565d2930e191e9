"""Every codec there is, driven by the table: a new one is tested by standing in it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regrain import kernels
from regrain.codecs import CODECS, Coder
from regrain.core.dtypes import DTYPES, word_dtype

SEED = kernels.crc32c(b"layer.weight")
CODED = {name: codec for name, codec in CODECS.items() if codec.coder is Coder.RANS}

every = pytest.mark.parametrize("name", CODECS)
every_coded = pytest.mark.parametrize("name", CODED)


@st.composite
def tensors(draw, name):
    """Words of that type, from constant to noise, and a shape that they fill."""
    dtype = word_dtype(DTYPES[name])
    rows, columns = draw(st.integers(1, 5)), draw(st.sampled_from((1, 7, 64, 200, 4096)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    bits = 8 * dtype.itemsize
    low = int(rng.integers(0, 2**bits, dtype=np.uint64, endpoint=False) if bits < 64 else rng.integers(0, 2**63))
    kind = draw(st.sampled_from(("noise", "narrow", "normal", "constant", "mostly")))
    count = rows * columns
    if kind == "noise":
        words = rng.integers(0, 2**bits - 1, count, dtype=np.uint64, endpoint=True)
    elif kind == "constant":
        words = np.full(count, low, np.uint64)
    elif kind == "mostly":
        words = np.where(rng.random(count) < 0.02, rng.integers(0, 2**16, count, dtype=np.uint64), np.uint64(low))
    elif kind == "narrow":
        words = np.uint64(low) + rng.integers(0, 50, count, dtype=np.uint64)
    else:
        floats = rng.standard_normal(count).astype(np.float64 if bits == 64 else np.float32)
        words = floats.view(np.uint64 if bits == 64 else np.uint32) >> (0 if bits == 64 else 32 - min(bits, 32))
    return words.astype(np.uint64).astype(dtype), (rows, columns)


def test_the_table_has_every_element_type():
    assert CODECS.keys() == DTYPES.keys()
    assert {name for name, codec in CODECS.items() if codec.coder is Coder.RAW} == {
        *("F64", "C64", "BOOL", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F8_E8M0", "F6_E2M3", "F6_E3M2", "F4")
    }
    assert all(codec.word_bytes == DTYPES[name].itemsize for name, codec in CODECS.items())


@every
@settings(max_examples=40)
@given(data=st.data())
def test_decode_gives_back_what_was_encoded_and_the_bound_holds(name, data):
    codec = CODECS[name]
    words, shape = data.draw(tensors(name))
    payload = codec.encode(words, shape, seed=SEED)
    if payload is None:
        return
    assert payload.nbytes <= codec.bound(words.size)
    assert payload.nbytes < words.nbytes
    out = np.empty_like(words)
    codec.decode(payload, out, seed=SEED)
    np.testing.assert_array_equal(out, words)
    first = data.draw(st.integers(0, words.size - 1))
    part = out[first : data.draw(st.integers(first + 1, words.size))].copy()
    codec.decode(payload, part, seed=SEED, first=first)
    np.testing.assert_array_equal(part, words[first : first + part.size])


@every
def test_nothing_and_noise_do_not_pay(name):
    codec, dtype = CODECS[name], word_dtype(DTYPES[name])
    assert codec.encode(np.empty(0, dtype), (0, 5), seed=SEED) is None
    assert codec.encode(np.zeros(1, dtype), (), seed=SEED) is None


@pytest.mark.parametrize("name", [name for name in CODED if not DTYPES[name].floating])
def test_random_integers_do_not_pay(name):
    """Those whose range exceeds 32 bits do not even fit the format."""
    dtype = word_dtype(DTYPES[name])
    rng = np.random.default_rng(6)
    words = rng.integers(0, np.iinfo(dtype).max, 5000, dtype=dtype, endpoint=True)
    assert CODECS[name].encode(words, (50, 100), seed=SEED) is None
    if dtype.itemsize == 8:
        for wide in ([0, 2**32], [0, 2**63], [1, 2**62], [0, 2**33, 2**64 - 2**32]):
            few = np.resize(np.array(wide, np.uint64), 5000)
            assert CODECS[name].encode(few, (5000,), seed=SEED, threads=2) is None


@every_coded
def test_weights_pay(name):
    rng = np.random.default_rng(5)
    dtype = word_dtype(DTYPES[name])
    floats = rng.normal(0, 0.02, 20_000).astype(np.float32)
    if DTYPES[name].floating:
        words = (floats.view(np.uint32) >> (32 - DTYPES[name].bits)).astype(dtype)
    else:
        words = (floats * 1000).astype(np.int64).astype(dtype)
    payload = CODECS[name].encode(words, (20, 1000), seed=SEED)
    assert payload is not None
    assert payload.nbytes < 0.97 * words.nbytes


@every_coded
@settings(max_examples=40)
@given(junk=st.binary(max_size=300), head=st.booleans())
def test_junk_is_a_fault_and_nothing_else(name, junk, head):
    data = np.frombuffer((b"rgP1" if head else b"") + junk, np.uint8)
    out = np.empty(10, word_dtype(DTYPES[name]))
    with pytest.raises(kernels.PayloadFault):
        CODECS[name].decode(data, out, seed=SEED)


@every_coded
@settings(max_examples=40)
@given(data=st.data())
def test_a_damaged_payload_is_a_fault(name, data):
    dtype = word_dtype(DTYPES[name])
    words = np.repeat(np.arange(60, 70, dtype=dtype), 300)
    payload = CODECS[name].encode(words, words.shape, seed=SEED)
    damaged = payload.copy()
    damaged[data.draw(st.integers(0, payload.size - 1))] ^= data.draw(st.integers(1, 255))
    out = np.empty_like(words)
    with pytest.raises(kernels.PayloadFault):
        CODECS[name].decode(damaged, out, seed=SEED)
    with pytest.raises(kernels.PayloadFault):
        CODECS[name].decode(payload[: data.draw(st.integers(0, payload.size - 1))], out, seed=SEED)
    with pytest.raises(kernels.PayloadFault):
        CODECS[name].decode(payload, out, seed=SEED ^ 1)
