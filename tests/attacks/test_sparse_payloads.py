"""Pruned payloads that no encoder wrote: every one is refused, by the fast reader and by the plain one."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regrain import kernels
from regrain.codecs.numbers import signed, varint
from regrain.codecs.quantized import Quantized
from regrain.codecs.sparse import Sparse, encode_sparse
from regrain.codecs.sparse_front import fill_rows, read_sparse_front
from regrain.kernels.fault import PayloadFault
from regrain.kernels.reference_sparse import decode_sparse

from .front_parts import CHANGES, CUTS, SEED, Readers, altered, sealed


def read(payload):
    """Every byte of the dense tensor."""
    front = read_sparse_front(lambda start, count: payload[start : start + count], len(payload), seed=SEED)
    values = front.values.packed
    if values is None:
        values = np.empty(front.values.count, front.values.kind)
        start, size = front.values.coded
        kernels.decode(payload[start : start + size], values.view(f"u{values.itemsize}"), seed=SEED)
    out = np.empty(front.rows * front.columns * (4 if front.dtype == "F32" else 2), np.uint8)
    fill_rows(front, 0, front.values.put_outliers(0, values), out)
    return out.tobytes()


def sparse(shape=(6, 10), unit=(2, 1), density=0.6, quantized=False):
    rng = np.random.default_rng(0)
    mask = rng.random((-(-shape[0] // unit[0]), -(-shape[1] // unit[1]))) < density
    if not quantized:
        return Sparse.of(rng.normal(0, 1, shape).astype(np.float32), mask, unit)
    indices = rng.integers(-8, 8, shape).astype(np.int16)
    indices[0] = 999
    wide = mask.repeat(unit[0], axis=0)[: shape[0]].repeat(unit[1], axis=1)[:, : shape[1]]
    codes = rng.integers(-50, -40, (shape[0], 1)).astype(np.int16)
    return Sparse.quantized(Quantized(indices * wide, codes, (1, shape[1])), mask, unit)


PAYLOADS = {
    "stored": encode_sparse(sparse(), "F32", seed=SEED).tobytes(),
    "coded": encode_sparse(sparse((60, 300), (1, 1), 0.2), "F32", seed=SEED).tobytes(),
    "quantized": encode_sparse(sparse(quantized=True), "BF16", seed=SEED).tobytes(),
    "coded indices": encode_sparse(sparse((300, 40), quantized=True), "F16", seed=SEED).tobytes(),
    "padded": encode_sparse(sparse((1000, 400), (1000, 1), 0), "F32", seed=SEED).tobytes(),
}


BOTH = Readers(read, lambda payload: decode_sparse(payload, seed=SEED).words.tobytes())


@pytest.mark.parametrize("kind", ["stored", "quantized"])
def test_no_flipped_bit_of_a_small_payload_goes_unseen(kind):
    payload = PAYLOADS[kind]
    assert len(payload) < 250
    for place in range(len(payload)):
        for bit in range(8):
            damaged = bytearray(payload)
            damaged[place] ^= 1 << bit
            with pytest.raises(PayloadFault):
                read(bytes(damaged))
        BOTH.refuse(bytes(damaged))


@pytest.mark.parametrize("kind", ["coded", "coded indices", "padded"])
def test_no_flipped_bit_of_a_large_payload_goes_unseen(kind):
    BOTH.check_flips(PAYLOADS[kind], 40)


@pytest.mark.parametrize("kind", list(PAYLOADS))
def test_no_other_length_is_taken(kind):
    BOTH.check_lengths(PAYLOADS[kind])


def test_another_tensors_payload_is_refused():
    payload = PAYLOADS["stored"]
    with pytest.raises(PayloadFault, match="the front's checksum must be"):
        read_sparse_front(lambda start, count: payload[start : start + count], len(payload), seed=SEED + 1)


FOUR_OF_SIX = b"\x04\x00\x2b"  # units 0, 1, 3 and 5: numbers 11 and 2
FOUR_WORDS = b"\x00" + np.array([1, 2, 3, 4], "<u4").tobytes()
ONE_SCALE = b"\x00" + signed(-5)
FOUR_INDICES = b"\x00\x02" + signed(-1) + b"\xe4"  # no outliers; -1 0 1 2


def forged(
    *,
    magic=b"rgS1",
    dtype=2,
    width=0,
    shape=(2, 3),
    unit=(1, 1),
    mask=FOUR_OF_SIX,
    scales=b"",
    values=FOUR_WORDS,
    behind=b"",
):
    numbers = b"".join(varint(number) for number in (*shape, *unit))
    return sealed(magic + bytes([dtype, width]) + numbers + mask + scales + values, behind)


QUANTIZED = {"width": 1, "scales": b"\x02\x03" + ONE_SCALE, "values": FOUR_INDICES}


def coded(words, family, seed=SEED):
    payload = kernels.encode(words, family=family, mantissa_bits=23, row_words=0, seed=seed).tobytes()
    return {"values": b"\xff" + varint(len(payload)), "behind": payload}


def test_a_forgery_that_changes_nothing_is_read():
    for fields in ({}, coded(np.array([1, 2, 3, 4], np.uint32), 0)):
        assert np.frombuffer(read(forged(**fields)), "<u4").tolist() == [1, 2, 0, 3, 0, 4]
        assert decode_sparse(forged(**fields), seed=SEED).words.tolist() == [[1, 2, 0], [3, 0, 4]]
    found = np.frombuffer(read(forged(**QUANTIZED)), "<f4")
    np.testing.assert_allclose(found, 2 ** (-5 / 8) * np.array([-1, 0, 0, 1, 0, 2]), rtol=1e-6)
    assert decode_sparse(forged(**QUANTIZED), seed=SEED).words.tobytes() == found.tobytes()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"magic": b"rgQ1"}, "payload must start with 'rgS1'"),
        ({"dtype": 3}, "dtype must be 0 to 2, and an index must have 0, 1 or 2 bytes"),
        ({"width": 4}, "dtype must be 0 to 2, and an index must have 0, 1 or 2 bytes"),
        ({"width": 1}, "cell must be within the 2 x 3 matrix, not 0 x 1"),
        ({"unit": (0, 1)}, "unit must be within the 2 x 3 matrix, not 0 x 1"),
        ({"unit": (1, 4)}, "unit must be within the 2 x 3 matrix, not 1 x 4"),
        ({"shape": (0, 3)}, "unit must be within the 0 x 3 matrix"),
        ({"shape": (2, 99_000)}, "payload of 2 x 99000 weights must be longer than 36 bytes"),
        ({"shape": (2**40, 2**40)}, "payload of 1099511627776 x 1099511627776 weights must be longer"),
        ({"mask": b"\x04\x00\x6b"}, "a mask must have four units a number, and 0 behind the last"),
        ({"mask": b"\x05\x00\x0b\x02"}, "a mask must have four units a number, and 0 behind the last"),
        ({"mask": b"\x05\x00\x50\x00"}, "a mask must have four units a number, and 0 behind the last"),
        ({"mask": b"\x00" + signed(16)}, "a mask must have four units a number, and 0 behind the last"),
        ({"mask": b"\x09\x00\x0b\x02\x00"}, "a packed number must have at most 8 bits, not 9"),
        ({"mask": b"\x00" + signed(-1)}, "base must be 0 to 255, not -1"),
        ({"mask": b"\x00" + signed(256)}, "base must be 0 to 255, not 256"),
        ({"mask": b"\x04\x00\x03"}, "the front's checksum must be"),
        ({"mask": b"\x04\x00\x3b"}, "payload must have at least 38 bytes, not 34"),
        ({"mask": b"\xff\x10" + bytes(16)}, "a coded list must be a payload of integers"),
        ({"values": b"\x01" + FOUR_WORDS[1:]}, "words must be of form 0 or 255, not 1"),
        ({"values": FOUR_WORDS + b"\0"}, "the front's checksum must be"),
        ({"behind": b"\0"}, r"payload must have \d+ bytes, not \d+"),
        (QUANTIZED | {"scales": b"\x02\x04" + ONE_SCALE}, "cell must be within the 2 x 3 matrix, not 2 x 4"),
        (QUANTIZED | {"scales": b"\x02\x03\x00" + signed(-1009)}, "scale codes must be -1008 to 1023, not -1009"),
        (QUANTIZED | {"values": b"\x05" + FOUR_INDICES[1:]}, "there must be at most 4 outliers, not 5"),
        (QUANTIZED | {"values": b"\x01\x00\x08\x00\x00" + FOUR_INDICES[1:]}, "an outlier must be among 4 weights"),
        (coded(np.arange(3, dtype=np.uint32), 0), "values must be a payload of 4 words of family 0"),
        (coded(np.arange(5, dtype=np.uint32), 0), "values must be a payload of 4 words of family 0"),
        (coded(np.arange(4, dtype=np.uint16), 1), "values must be a payload of 4 words of family 0"),
        (coded(np.arange(4, dtype=np.uint32), 1), "values must be a payload of 4 words of family 0"),
        (coded(np.arange(4, dtype=np.uint32), 0, SEED + 1), "the head's checksum is wrong"),
        (
            QUANTIZED | {"values": b"\x00\xff\x60", "behind": b"\0" * 96},
            "values must be a payload of 4 words of family 1",
        ),
    ],
)
def test_a_forged_front(fields, reason):
    assert re.search(reason, BOTH.refuse(forged(**fields)))


def test_zeros_at_the_end_must_be_zeros():
    payload = bytearray(PAYLOADS["padded"])
    assert payload[-1] == 0
    payload[-1] = 1
    assert BOTH.refuse(bytes(payload)) == "head: bytes behind the values must be 0"


def test_a_few_bytes_get_no_memory():
    BOTH.check_memory(
        [
            forged(shape=(2**29, 2**29), unit=(2**29, 2**29), mask=b"\x00\x02", values=b""),
            forged(shape=(1, 2**59), unit=(1, 1)),
            forged(shape=(1, 2**31), unit=(1, 2**31), mask=b"\x00\x02", values=b"\xff" + varint(88), behind=bytes(88)),
            forged(shape=(1, 65536), unit=(1, 1), mask=b"\xff" + varint(2**62)),
            forged(shape=(1, 65536), unit=(1, 65536), mask=b"\x00\x02", values=b"\xff" + varint(2**62)),
            forged(shape=(1, 65536), unit=(1, 65536), mask=b"\x00\x02", values=b"\x00"),
        ]
    )


@settings(max_examples=500)
@given(
    CHANGES,
    CUTS,
    st.sampled_from(["words", "quantized", "empty", "blocks"]),
)
def test_both_readers_refuse_the_same(changes, cut, kind):
    """Bytes changed and the checksum renewed: whatever the fast reader takes, the plain one takes for the same."""
    payload = {
        "words": forged(),
        "quantized": forged(**QUANTIZED),
        "empty": forged(mask=b"\x00\x00", values=b""),
        "blocks": forged(shape=(3, 3), unit=(2, 2), mask=b"\x00" + signed(9), values=b"\x00" + bytes(range(20))),
    }[kind]
    BOTH.agree(altered(payload, changes, cut))
