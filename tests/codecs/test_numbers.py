"""Lists of integers: what is written is read back, and whatever is not sound is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrain.codecs.numbers import CODED, MOST_PACKED, Cursor, decode_list, encode_list, pack, signed, varint
from regrain.kernels.fault import PayloadFault

KINDS = [np.int8, np.int16, np.uint32]


def cursor(data):
    return Cursor(lambda start, count: bytes(data[start : start + count]), len(data))


def joined(numbers, seed=1):
    front, payload = encode_list(numbers, 0, seed)
    return front + payload.tobytes()


@given(st.integers(0, 2**63 - 1))
def test_a_varint(value):
    at = cursor(varint(value) + b"x")
    assert at.varint() == value
    assert at.take(1) == b"x"


@given(st.integers(-(2**62), 2**62 - 1))
def test_a_signed_varint(value):
    assert cursor(signed(value)).signed() == value


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "payload must have at least 1 bytes, not 0"),
        (b"\x80", "payload must have at least 2 bytes, not 1"),
        (b"\x80\x00", "a number must not have a leading byte of 0"),
        (b"\xff" * 9 + b"\x01", "a number must have at most 63 bits"),
    ],
)
def test_a_bad_varint(data, reason):
    with pytest.raises(PayloadFault, match=reason):
        cursor(data).varint()


@st.composite
def lists(draw):
    kind = draw(st.sampled_from(KINDS))
    limits = np.iinfo(kind)
    low = draw(st.integers(limits.min, limits.max))
    high = draw(st.integers(low, min(limits.max, low + draw(st.sampled_from([0, 1, 15, 300, 2**32])))))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return rng.integers(low, high, draw(st.sampled_from([1, 2, 7, 64, 500, 70_000])), kind, endpoint=True)


@given(lists())
def test_a_list_is_read_back(numbers):
    data = joined(numbers)
    at = cursor(data)
    found = decode_list(at, numbers.size, numbers.dtype, 1)
    np.testing.assert_array_equal(found, numbers, strict=True)
    assert at.at == len(data)


def test_the_shorter_form_is_taken():
    rng = np.random.default_rng(0)
    few, many = rng.integers(-3, 4, 64).astype(np.int8), np.rint(rng.normal(0, 2, 50_000)).astype(np.int8)
    assert joined(few)[0] == 3 and len(joined(few)) == 2 + 24
    assert joined(many)[0] == CODED and len(joined(many)) < len(pack(many))
    assert joined(np.full(1000, 9, np.int16)) == b"\x00" + signed(9)


def test_no_list_of_more_than_a_block_is_packed():
    assert pack(np.zeros(MOST_PACKED, np.int8)) is not None
    assert pack(np.zeros(MOST_PACKED + 1, np.int8)) is None


@pytest.mark.parametrize(
    ("data", "count", "reason"),
    [
        (b"\x09\x00" + bytes(9), 8, "a packed number must have at most 8 bits, not 9"),
        (b"\x00\x00", MOST_PACKED + 1, "a packed list must have at most 65536 numbers, not 65537"),
        (b"\x01" + signed(128) + b"\x00", 8, "base must be -128 to 127, not 128"),
        (b"\x08" + signed(-100) + b"\xff", 1, "a number must be at most 127, not 155"),
        (b"\x03\x00\xff\xff", 5, "bits after the last number must be 0"),
        (b"\x03\x00\xff", 5, "payload must have at least 4 bytes, not 3"),
        (b"\xff\x01", 5, "a coded list must end within the payload, not have 1 bytes"),
        (b"\xff\x08" + bytes(8), 5, "a coded list of 5 numbers must be longer than 8 bytes"),
        (b"\xff\x80\x01" + bytes(128), 5, "a coded list must be a payload of integers"),
    ],
)
def test_a_bad_list(data, count, reason):
    with pytest.raises(PayloadFault, match=reason):
        decode_list(cursor(data), count, np.dtype(np.int8), 1)
