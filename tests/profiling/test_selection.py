from dataclasses import dataclass

import pytest

from regrain.core.granularity import Granularity
from regrain.core.selection import Choice, Compression, SelectionRule, choose

FINE = (Granularity.FINE, Compression.ANS)
MEDIUM = (Granularity.MEDIUM, Compression.PRUNING)
COARSE = (Granularity.COARSE, Compression.QUANTIZATION)
RULE = SelectionRule(high_entropy=6.0, low_entropy=4.0, max_sparsity=0.3)


@dataclass(frozen=True)
class Layer:
    int8_entropy: float | None
    sparsity: float | None


@pytest.mark.parametrize(
    ("entropy", "sparsity", "expected", "why"),
    [
        # high entropy: sparsity decides
        (7.0, 0.0, FINE, "entropy 7.000 > 6 bits and 0.00 % zeros < 30 %"),
        (7.0, 0.299, FINE, "entropy 7.000 > 6 bits and 29.90 % zeros < 30 %"),
        (7.0, 0.3, MEDIUM, "entropy 7.000 > 6 bits, but 30.00 % zeros >= 30 %"),
        (7.0, 0.9, MEDIUM, "entropy 7.000 > 6 bits, but 90.00 % zeros >= 30 %"),
        # between the thresholds, both inclusive: sparsity does not matter
        (6.0, 0.0, MEDIUM, "entropy 6.000 lies within 4 to 6 bits"),
        (5.0, 0.0, MEDIUM, "entropy 5.000 lies within 4 to 6 bits"),
        (5.0, 0.9, MEDIUM, "entropy 5.000 lies within 4 to 6 bits"),
        (4.0, 0.0, MEDIUM, "entropy 4.000 lies within 4 to 6 bits"),
        # low entropy: sparsity does not matter
        (3.999, 0.0, COARSE, "entropy 3.999 < 4 bits"),
        (3.0, 0.9, COARSE, "entropy 3.000 < 4 bits"),
        (0.0, 1.0, COARSE, "entropy 0.000 < 4 bits"),
    ],
)
def test_truth_table(entropy, sparsity, expected, why):
    assert choose(Layer(entropy, sparsity), RULE) == Choice(*expected, why)


def test_equal_thresholds_leave_the_middle_to_equality_and_sparse_layers():
    rule = SelectionRule(high_entropy=5.0, low_entropy=5.0, max_sparsity=0.5)
    assert choose(Layer(5.1, 0.0), rule).granularity is Granularity.FINE
    assert choose(Layer(5.0, 0.0), rule).granularity is Granularity.MEDIUM
    assert choose(Layer(5.1, 0.5), rule).granularity is Granularity.MEDIUM
    assert choose(Layer(4.9, 0.0), rule).granularity is Granularity.COARSE


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"high_entropy": 8.5}, r"^high_entropy must be 0 to 8 bits of an int8 index, not 8\.5$"),
        ({"high_entropy": float("nan")}, "^high_entropy must be 0 to 8 bits of an int8 index, not nan$"),
        ({"low_entropy": 6.5}, r"^low_entropy must be 0 to high_entropy \(6 bits\), not 6\.5$"),
        ({"low_entropy": -1.0}, r"^low_entropy must be 0 to high_entropy \(6 bits\), not -1\.0$"),
        ({"max_sparsity": 30.0}, r"^max_sparsity must be a fraction from 0 to 1, not 30\.0$"),
    ],
)
def test_thresholds_that_make_no_sense_are_refused(arguments, text):
    with pytest.raises(ValueError, match=text):
        SelectionRule(**arguments)


@pytest.mark.parametrize("layer", [Layer(None, 0.5), Layer(7.0, None)])
def test_a_layer_without_statistics_has_no_choice(layer):
    with pytest.raises(ValueError, match=r"^profile must have an int8 entropy and a sparsity .*, not None$"):
        choose(layer, RULE)
