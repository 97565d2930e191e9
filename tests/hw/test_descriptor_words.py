"""Descriptors as 256 bits: what is written is read again, and nothing else is."""

import binascii
import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrain.core.errors import HardwareError
from regrain.core.granularity import Granularity
from regrain.hw.machine import Machine
from regrain.hw.model.descriptor import LAYOUT, Descriptor

STILL = Descriptor(
    granularity=Granularity.FINE, outputs=384, blocks=48, tokens=128, weights=0, channels=64, count=4, relu=True
)
DYNAMIC = Descriptor(
    granularity=Granularity.MEDIUM, outputs=384, blocks=48, tokens=128, weights=0x12345, channels=64, table=256,
    dynamic=True, listed=True, log2_samples=7, log2_channels=9, down0=100, up0=120, down1=300, up1=400, dwell=3,
    cost_fine=288, cost_medium=300, cost_coarse=200, reverse=True,
)  # fmt: skip


@st.composite
def descriptors(draw):
    """Sound ones of every kind."""
    dynamic = draw(st.booleans())
    listed = dynamic or draw(st.booleans())
    granularity = draw(st.sampled_from(list(Granularity))) if listed else Granularity.FINE
    gather = granularity is Granularity.COARSE and draw(st.booleans())
    outputs, tokens = draw(st.integers(1, 2**14 - 1)), draw(st.integers(16 if dynamic else 1, 2**18 - 1))
    fields = {}
    if dynamic:
        down0, middle0, middle1, up1 = sorted(draw(st.lists(st.integers(0, 65535), min_size=4, max_size=4)))
        up0, down1 = draw(st.permutations((middle0, middle1)))
        costs = draw(st.lists(st.integers(1, 65535), min_size=3, max_size=3))
        fields = dict(zip(("cost_fine", "cost_medium", "cost_coarse"), costs, strict=True))
        fields |= {"down0": down0, "up0": up0, "down1": down1, "up1": up1, "reverse": draw(st.booleans())}
        fields |= {"dwell": draw(st.integers(0, 63))}
    if tokens >= 16 and draw(st.booleans()):
        fields |= {"log2_channels": (outputs - 1).bit_length()}
        fields |= {"log2_samples": draw(st.integers(4, min(12, tokens.bit_length() - 1)))}
    table = draw(st.integers(0, 2**14 - 1)) if gather or dynamic else 0
    return Descriptor(
        granularity=granularity, outputs=outputs, blocks=draw(st.integers(1, 1024)), tokens=tokens, dynamic=dynamic,
        weights=draw(st.integers(0, 2**20 - 1)), channels=draw(st.integers(0, 2**14 - 1)), table=table,
        listed=listed, gather=gather, count=0 if listed else draw(st.integers(1, 8)), relu=draw(st.booleans()),
        **fields,
    )  # fmt: skip


@given(descriptors())
def test_words_are_parsed_again(descriptor):
    words = descriptor.to_words()
    assert (words.shape, words.dtype) == ((8,), np.uint32)
    assert Descriptor.parse(words) == descriptor


@given(descriptors(), st.integers(0, 255))
def test_a_flipped_bit_is_refused(descriptor, place):
    words = descriptor.to_words()
    words[place // 32] ^= np.uint32(1 << place % 32)
    with pytest.raises(HardwareError):
        Descriptor.parse(words)


@given(st.binary(min_size=32, max_size=32))
def test_other_bytes_with_a_good_checksum_are_refused_or_mean_themselves(data):
    """A forger can renew the checksum; what is taken then is what stands there."""
    head = bytes([0x67, data[1] & 0xF0 | 1]) + data[2:30]
    words = np.frombuffer(head + binascii.crc_hqx(head, 0xFFFF).to_bytes(2, "little"), "<u4")
    try:
        found = Descriptor.parse(words)
    except HardwareError:
        return
    assert (found.to_words() == words).all()


def test_a_descriptor_is_the_same_bytes_for_ever():
    """Magic, version 1; count 4 from bit 17 and relu at 21; 384 outputs from bit 23; 48 blocks from 37; and so on."""
    assert sum(width for _, width in LAYOUT) == 256
    fields = 0x67 | 1 << 8 | 4 << 17 | 1 << 21 | 384 << 23 | 48 << 37 | 128 << 48 | 64 << 226
    assert STILL.to_int() & (1 << 240) - 1 == fields
    assert STILL.to_words().tobytes().hex() == "670128c0000680000000000000000000000000000000000000000000000135f3"
    assert DYNAMIC.to_words().tobytes().hex() == "67d140c0000680005ce20190014006b0040c20012c01c80045230110000121d1"


@pytest.mark.parametrize(
    ("base", "change", "text"),
    [
        (STILL, {"outputs": 0}, "outputs must be at least 1, not 0: leave empty matrices out"),
        (STILL, {"outputs": 16384}, "outputs must be 0 to 16383, not 16384"),
        (STILL, {"tokens": -1}, "tokens must be 0 to 262143, not -1"),
        (STILL, {"blocks": 1025}, "blocks must be at most 1024, not 1025"),
        (STILL, {"count": 9}, "count must be 1 to 8 where blocks are not listed, not 9"),
        (STILL, {"listed": True}, "count must be 0 of listed blocks, not 4: each has its own"),
        (STILL, {"granularity": Granularity.MEDIUM}, "blocks must be listed of a matrix that is medium or dynamic"),
        (STILL, {"dwell": 1}, "dwell must be 0 where dynamic is off, not 1"),
        (STILL, {"table": 5}, "table must be 0 where nothing is gathered, not 5"),
        (DYNAMIC, {"gather": True}, "gather must be off of a medium matrix: only channels are gathered"),
        (DYNAMIC, {"log2_samples": 0}, "log2_channels must be 0 where log2_samples is, not 9"),
        (STILL, {"log2_samples": 3, "log2_channels": 9}, "log2_samples must be 4 to 12"),
        (DYNAMIC, {"log2_samples": 8}, "2^log2_samples at most the 128 tokens, not 8"),
        (DYNAMIC, {"log2_channels": 8}, "log2_channels must be 9 for 384 outputs, not 8"),
        (DYNAMIC, {"up0": 99}, "down0 <= up0 <= up1 and down0 <= down1 <= up1, not 100, 99, 300, 400"),
        (DYNAMIC, {"cost_coarse": 0}, "costs must be at least 1 of a dynamic matrix"),
    ],
)
def test_what_does_not_fit_together_is_refused(base, change, text):
    with pytest.raises(HardwareError) as error:
        dataclasses.replace(base, **change)
    assert text in str(error.value)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"blocks": 577, "count": 8}, "a tile must have at most 4608 words, not 577 blocks of 8"),
        ({"channels": 833}, "the channel table must end within 1024 rows of metadata, not at 1025"),
        (
            {"listed": True, "count": 0, "granularity": Granularity.COARSE, "gather": True, "table": 977},
            "the gather table must end within 1024 rows of metadata, not at 1025",
        ),
    ],
)
def test_what_does_not_fit_the_machine_is_refused(change, text):
    dataclasses.replace(STILL).check_machine(Machine(), 1024)
    with pytest.raises(HardwareError, match=text):
        dataclasses.replace(STILL, **change).check_machine(Machine(), 1024)


@pytest.mark.parametrize("words", [np.zeros(8, np.uint64), np.zeros(4, np.uint32), np.zeros((1, 8), np.uint32)])
def test_words_have_one_form(words):
    with pytest.raises(HardwareError, match="a descriptor must be"):
        Descriptor.parse(words)
