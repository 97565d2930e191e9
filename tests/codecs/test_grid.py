"""The grid of scales: exact, ordered, and the nearest code is found."""

import math
from fractions import Fraction

import numpy as np
import pytest

from regrain.codecs.grid import HIGHEST, LOWEST, OCTAVE, STEPS, codes_of, scales_of
from regrain.kernels import reference_quantized

EVERY = np.arange(LOWEST, HIGHEST + 1, dtype=np.int16)


def test_every_scale_is_a_normal_number_and_the_next_one_is_larger():
    scales = scales_of(EVERY)
    assert scales.dtype == np.float32
    assert np.isfinite(scales).all() and scales[0] == np.finfo(np.float32).tiny
    assert (np.diff(scales) > 0).all()


def test_the_octave_is_that_of_the_reference_and_rounded_to_nearest():
    np.testing.assert_array_equal(OCTAVE, reference_quantized.OCTAVE, strict=True)
    for r, value in enumerate(OCTAVE):
        # value^8 = 2^r exactly, but for the rounding: half a unit in the last place of float32 in 1 to 2
        below, above = Fraction(float(value)) - Fraction(1, 2**24), Fraction(float(value)) + Fraction(1, 2**24)
        assert below**STEPS <= 2**r <= above**STEPS


def test_scales_are_powers_of_two_times_the_octave_exactly():
    for code in (LOWEST, -1001, -8, -1, 0, 1, 7, 8, 500, HIGHEST):
        exact = Fraction(float(OCTAVE[code % STEPS])) * Fraction(2) ** (code // STEPS)
        assert Fraction(float(scales_of(np.array([code], np.int16))[0])) == exact


def test_the_nearest_code_is_found():
    np.testing.assert_array_equal(codes_of(scales_of(EVERY)), EVERY, strict=True)
    steps = np.exp(np.random.default_rng(0).uniform(math.log(1e-30), math.log(1e30), 1000))
    ratio = scales_of(codes_of(steps)) / steps
    assert (np.abs(np.log2(ratio)) <= 1 / 16 + 1e-6).all()


def test_steps_off_the_grid_get_its_ends():
    np.testing.assert_array_equal(codes_of([1e-300, 1e300]), np.array([LOWEST, HIGHEST], np.int16))


@pytest.mark.parametrize("step", [0.0, -1.0, math.inf, math.nan])
def test_a_step_that_is_none_is_refused(step):
    with pytest.raises(ValueError, match="steps must be positive and finite: keep a tensor lossless that has none"):
        codes_of([1.0, step])
