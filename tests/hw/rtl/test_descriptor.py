"""The decoder in hardware takes what the one in Python takes, and nothing else."""

import numpy as np
import pytest

from regrain.core.errors import HardwareError
from regrain.core.granularity import Granularity
from regrain.hw.cosim import Simulation
from regrain.hw.machine import Machine
from regrain.hw.model.descriptor import LAYOUT, Descriptor, checksum
from regrain.hw.rtl.descriptor import DescriptorDecoder

ROWS = 1500
MACHINE = Machine()


@pytest.fixture(scope="module")
def decoder():
    return Simulation(DescriptorDecoder(MACHINE, ROWS))


def decode(decoder, words):
    """(fields, error) of each of (n, 8) words, one a cycle."""
    padding = np.zeros((2, 8), np.uint32)
    run = decoder.run({"load": [1] * len(words) + [0, 0], "words": np.concatenate([words, padding])})
    assert run["valid"].tolist() == [0, 0] + [1] * len(words)
    return run["fields"][2:], run["error"][2:].astype(bool)


def refused(words):
    try:
        Descriptor.parse(words).check_machine(MACHINE, ROWS)
    except HardwareError:
        return True
    return False


def sound(rng):
    """A random descriptor that is mostly sound, as bits without a checksum."""
    dynamic, listed = rng.random() < 0.5, rng.random() < 0.6
    granularity = rng.integers(3) if listed or dynamic else 0
    outputs, tokens = int(rng.integers(1, 1 << rng.integers(1, 12))), int(rng.integers(16, 1 << rng.integers(5, 19)))
    values = {"magic": 0x67, "version": 1, "granularity": granularity, "dynamic": dynamic, "listed": listed or dynamic}
    values |= {"gather": granularity == 2 and rng.random() < 0.5, "relu": rng.random() < 0.5}
    values |= {"count": 0 if values["listed"] else rng.integers(1, 9), "outputs": outputs, "tokens": tokens}
    values |= {"blocks": rng.integers(1, 1 << rng.integers(1, 11)), "weights": rng.integers(1 << 20)}
    values |= {"channels": rng.integers(700), "table": rng.integers(700) if values["gather"] or dynamic else 0}
    if dynamic:
        thresholds = np.sort(rng.integers(0, 1 << rng.integers(1, 17), 4))
        values |= dict(zip(("down0", "up0", "down1", "up1"), thresholds, strict=True))
        values |= {name: rng.integers(1, 1 << 16) for name in ("cost_fine", "cost_medium", "cost_coarse")}
        values |= {"dwell": rng.integers(64), "reverse": rng.random() < 0.5}
    if rng.random() < 0.5:
        values |= {"log2_channels": (outputs - 1).bit_length()}
        values |= {"log2_samples": rng.integers(4, min(12, tokens.bit_length() - 1) + 1)}
    return {name: int(value) for name, value in values.items()}


def spoiled(rng, values):
    """One or two fields of a descriptor changed, mostly to what lies near or at the ends."""
    widths = dict(LAYOUT)
    for name in rng.choice([name for name, _ in LAYOUT[:-1]], rng.integers(1, 3), replace=False):
        most = (1 << widths[name]) - 1
        old = values.get(name, 0)
        values[name] = int(rng.choice([0, 1, most, old + 1 & most, old - 1 & most, rng.integers(most + 1)]))
    return values


def words_of(values):
    bits = at = 0
    for name, width in LAYOUT[:-1]:
        bits |= values.get(name, 0) << at
        at += width
    return np.frombuffer((bits | checksum(bits) << 240).to_bytes(32, "little"), "<u4").astype(np.uint32)


def test_hardware_and_software_agree_on_sound_and_forged_descriptors(decoder):
    rng = np.random.default_rng(5)
    given = [sound(rng) for _ in range(1500)]
    words = np.array([words_of(each) for each in given] + [words_of(spoiled(rng, sound(rng))) for _ in range(6000)])
    fields, error = decode(decoder, words)
    wanted = np.array([refused(each) for each in words])
    np.testing.assert_array_equal(error, wanted)
    assert 0 < wanted[:1500].mean() < 0.05 and 0.5 < wanted[1500:].mean() < 0.98  # both kinds, among both
    np.testing.assert_array_equal(fields, words)


def test_hardware_refuses_every_flipped_bit_and_noise(decoder):
    word = words_of(sound(np.random.default_rng(17)) | {"channels": 0, "blocks": 5})
    flips = np.repeat(word[None], 256, axis=0)
    flips[np.arange(256), np.arange(256) // 32] ^= np.uint32(1) << np.arange(256, dtype=np.uint32) % np.uint32(32)
    noise = np.random.default_rng(1).integers(0, 1 << 32, (2000, 8), dtype=np.uint32)
    _, error = decode(decoder, np.concatenate([word[None], flips, noise, np.zeros((1, 8), np.uint32)]))
    assert not error[0]
    assert error[1:].all()


@pytest.mark.parametrize("granularity", list(Granularity))
def test_a_descriptor_made_in_software_is_taken(decoder, granularity):
    made = Descriptor(granularity=granularity, outputs=65, blocks=9, tokens=3, weights=7, channels=20, listed=True)
    _, error = decode(decoder, made.to_words()[None])
    assert not error.any()
