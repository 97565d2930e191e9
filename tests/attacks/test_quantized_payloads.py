"""Quantized payloads that no encoder wrote: every one is refused, by the fast reader and by the plain one."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regrain import kernels
from regrain.codecs.numbers import signed, varint
from regrain.codecs.quantized import Quantized, encode_quantized, read_front, read_indices
from regrain.kernels.fault import PayloadFault
from regrain.kernels.reference_quantized import decode_quantized

from .front_parts import CHANGES, CUTS, SEED, Readers, altered, sealed


def read(payload):
    data = np.frombuffer(payload, np.uint8)
    front = read_front(lambda start, count: payload[start : start + count], len(payload), seed=SEED)
    return read_indices(data, front, seed=SEED)


def small():
    """Packed lists, two outliers."""
    rng = np.random.default_rng(0)
    indices = rng.integers(-8, 8, (40, 60)).astype(np.int16)
    indices[3, 4], indices[39, 59] = 999, -130
    tensor = Quantized(indices, rng.integers(-50, -40, (4, 2)).astype(np.int16), (10, 30))
    return encode_quantized(tensor, "F32", seed=SEED).tobytes()


def large():
    """Coded indices and coded scales."""
    rng = np.random.default_rng(0)
    indices = np.rint(rng.normal(0, 2, (600, 50))).astype(np.int8)
    codes = np.rint(rng.normal(-50, 2, (600, 1))).astype(np.int16)
    return encode_quantized(Quantized(indices, codes, (1, 50)), "BF16", seed=SEED).tobytes()


BOTH = Readers(
    lambda payload: read(payload).astype(np.int64).tobytes(),
    lambda payload: decode_quantized(payload, seed=SEED).indices.astype(np.int64).tobytes(),
)


@pytest.mark.parametrize("payload", [small(), large()], ids=["small", "large"])
def test_no_flipped_bit_goes_unseen(payload):
    BOTH.check_flips(payload, 60)


@pytest.mark.parametrize("payload", [small(), large()], ids=["small", "large"])
def test_no_other_length_is_taken(payload):
    BOTH.check_lengths(payload)


def test_another_tensors_payload_is_refused():
    with pytest.raises(PayloadFault, match="the front's checksum must be"):
        read_front(lambda start, count: small()[start : start + count], len(small()), seed=SEED + 1)


ONE_SCALE = b"\x00" + signed(-5)
SIX_INDICES = b"\x02" + signed(-1) + b"\x24\x09"  # -1 0 1 -1 0 1


def forged(
    *,
    magic=b"rgQ1",
    dtype=2,
    width=1,
    shape=(2, 3),
    cell=(2, 3),
    scales=ONE_SCALE,
    outliers=b"\x00",
    indices=SIX_INDICES,
    behind=b"",
):
    numbers = b"".join(varint(number) for number in (*shape, *cell))
    return sealed(magic + bytes([dtype, width]) + numbers + scales + outliers + indices, behind)


def coded(numbers, seed=SEED):
    words = np.ascontiguousarray(numbers)
    payload = kernels.encode(
        words.view(f"u{words.itemsize}"), family=1, mantissa_bits=0, row_words=0, seed=seed
    ).tobytes()
    return b"\xff" + varint(len(payload)), payload


def test_a_forgery_that_changes_nothing_is_read():
    assert read(forged()).tolist() == [-1, 0, 1, -1, 0, 1]
    np.testing.assert_array_equal(decode_quantized(forged(), seed=SEED).indices.reshape(-1), read(forged()))


def test_outliers_take_the_place_of_indices():
    outliers = b"\x03\x00" + signed(1) + b"\x00" + signed(500)
    assert read(forged(outliers=outliers)).tolist() == [-1, 500, 1, 500, 0, 500]


FLOATS = kernels.encode(np.arange(6, dtype=np.uint8), family=0, mantissa_bits=3, row_words=0, seed=SEED).tobytes()
LISTED, PAYLOAD = coded(np.arange(6, dtype=np.int8))
SHORT = coded(np.arange(5, dtype=np.int8))
WIDE = coded(np.arange(6, dtype=np.int16))
STRAY = coded(np.arange(6, dtype=np.int8), SEED + 1)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"magic": b"rgP1"}, "payload must start with 'rgQ1'"),
        ({"dtype": 3}, "dtype must be 0 to 2, and an index must have 1 or 2 bytes"),
        ({"width": 0}, "dtype must be 0 to 2, and an index must have 1 or 2 bytes"),
        ({"width": 4}, "dtype must be 0 to 2, and an index must have 1 or 2 bytes"),
        ({"cell": (0, 3)}, "cell must be within the 2 x 3 matrix, not 0 x 3"),
        ({"cell": (2, 4)}, "cell must be within the 2 x 3 matrix, not 2 x 4"),
        ({"shape": (0, 3)}, "cell must be within the 0 x 3 matrix"),
        ({"shape": (2**40, 2**40)}, "cell must be within the 1099511627776 x 1099511627776 matrix"),
        ({"shape": (2, 2**50)}, "a packed list must have at most 65536 numbers"),
        ({"shape": (2, 2**50), "cell": (1, 1)}, "a packed list must have at most 65536 numbers"),
        ({"scales": b"\x00" + signed(-1009)}, "scale codes must be -1008 to 1023, not -1009 to -1009"),
        ({"scales": b"\x00" + signed(1024)}, "scale codes must be -1008 to 1023, not 1024 to 1024"),
        ({"scales": b"\x00" + signed(40000)}, "base must be -32768 to 32767, not 40000"),
        ({"scales": b"\x11" + signed(0) + bytes(3)}, "a packed number must have at most 16 bits, not 17"),
        ({"scales": b"\xff\x10" + bytes(16)}, "a coded list must be a payload of integers"),
        ({"outliers": b"\x07\x00\x00\x00\x00"}, "there must be at most 6 outliers, not 7"),
        ({"outliers": b"\x02\x00" + signed(3) + b"\x00\x00"}, "an outlier must be among 6 weights, not at 7"),
        ({"indices": b"\x09" + signed(0) + bytes(7)}, "a packed number must have at most 8 bits, not 9"),
        ({"indices": b"\x02" + signed(126) + b"\x24\x09"}, "a number must be at most 127, not 128"),
        ({"indices": b"\x02" + signed(-1) + b"\x24\x19"}, "bits after the last number must be 0"),
        ({"behind": b"\x00"}, "payload must have 21 bytes, not 22"),
        ({"indices": LISTED, "behind": PAYLOAD[:-8]}, "a coded list must end within the payload"),
        ({"indices": LISTED, "behind": PAYLOAD + bytes(8)}, r"payload must have \d+ bytes, not \d+"),
        ({"indices": b"\xff" + varint(len(FLOATS)), "behind": FLOATS}, "indices must be a payload of integers"),
        ({"indices": SHORT[0], "behind": SHORT[1]}, "the number of words is not the tensor's"),
        ({"indices": WIDE[0], "behind": WIDE[1]}, "not the tensor's"),
        ({"indices": STRAY[0], "behind": STRAY[1]}, "the head's checksum is wrong"),
    ],
)
def test_a_forged_front(fields, reason):
    assert re.search(reason, BOTH.refuse(forged(**fields)))


def test_a_few_bytes_get_no_memory():
    BOTH.check_memory(
        [
            forged(shape=(1, 2**59), cell=(1, 2**59)),
            forged(shape=(2**30, 2**29), cell=(1, 1)),
            forged(shape=(1, 2**59), cell=(1, 2**59), indices=b"\xff" + varint(88), behind=bytes(88)),
            forged(outliers=varint(6) + b"\xff" + varint(2**62)),
        ]
    )


@settings(max_examples=400)
@given(
    CHANGES,
    CUTS,
    st.sampled_from(["small", "wide", "outliers"]),
)
def test_both_readers_refuse_the_same(changes, cut, kind):
    """Bytes changed and the checksum renewed: whatever the fast reader takes, the plain one takes for the same."""
    payload = {
        "small": forged(),
        "wide": forged(width=2, indices=b"\x0b" + signed(-900) + bytes(range(9))),
        "outliers": forged(outliers=b"\x02\x01" + signed(0) + b"\x02\x09" + signed(200) + b"\xff\x00\x00"),
    }[kind]
    BOTH.agree(altered(payload, changes, cut))
