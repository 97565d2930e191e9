"""Layers: completed by descriptors, thinned to what a page can hold."""

import math

from hypothesis import given
from hypothesis import strategies as st

from regrain.core.descriptor import Coder, Quantizer, Scheme, WeightDescriptor
from regrain.core.granularity import Granularity
from regrain.pipelines.report.layers import columns, complete, shorten, thin
from regrain.pipelines.report.receipt import Histogram, Layer
from regrain.pipelines.sizes import TensorSize


def tensor(name, tied=None):
    scheme = Scheme(Coder.RAW if tied is None else Coder.TIED)
    described = WeightDescriptor(name, "F32", (2, 3), Granularity.FINE, scheme, ("checksum", "copy"), tied)
    return TensorSize(described, 24, 0 if tied else 24, "model.regrain.safetensors")


def test_descriptors_complete_the_receipt():
    told = Layer("a", (), bits=3.0, why="because")
    first, second, third = complete([told], [tensor("b"), tensor("a"), tensor("c", tied="b")])
    assert (first.name, first.bits, first.why, first.shape, first.nbytes) == ("a", 3.0, "because", (2, 3), 24)
    assert (second.name, second.bits, second.scheme, second.weights) == ("b", 32.0, "lossless, raw", 6)
    assert (third.name, third.why, third.nbytes) == ("c", "the same bytes as b", 0)


def test_pruned_tensors_are_called_so():
    for cell, scheme in ((None, "pruned"), ((1, 3), "pruned, quantized")):
        how = Scheme(Coder.RANS, "column", Quantizer.NONE if cell is None else Quantizer.ROW, cell)
        described = WeightDescriptor("a", "F32", (2, 3), Granularity.COARSE, how, ("checksum",), density=2 / 3)
        [made] = complete([Layer("a", ())], [TensorSize(described, 24, 20, "model.regrain.safetensors")])
        assert (made.scheme, made.kept) == (scheme, "column · 0.67")


histograms = st.lists(st.integers(0, 10**9), min_size=1, max_size=300).map(
    lambda counts: Histogram(tuple(float(edge) for edge in range(len(counts) + 1)), tuple(counts))
)


@given(histograms, st.integers(1, 64))
def test_thinning_keeps_ends_and_sum(histogram, bins):
    thinned = thin(histogram, bins)
    assert len(thinned.counts) <= bins
    assert len(thinned.edges) == len(thinned.counts) + 1
    assert (thinned.edges[0], thinned.edges[-1]) == (histogram.edges[0], histogram.edges[-1])
    assert sum(thinned.counts) == sum(histogram.counts)


@given(histograms)
def test_heights_show_every_bin_that_is_not_empty(histogram):
    drawn = columns([Layer("a", (), histogram=histogram)])["histogram"][0]
    thinned = thin(histogram, 32)
    assert [height > 0 for height in drawn["heights"]] == [count > 0 for count in thinned.counts]
    assert max(drawn["heights"]) == (99 if any(histogram.counts) else 0)


def test_numbers_keep_five_digits_and_columns_agree_in_length():
    made = columns([Layer("a", (1,), step=math.pi, statistics={"std": 1 / 3}), Layer("b", ())])
    assert made["step"] == [3.1416, None]
    assert made["statistics"] == {"std": [0.33333, None]}
    assert {len(column) for key, column in made.items() if key != "statistics"} == {2}


def test_long_names_lose_their_middle():
    assert shorten("a" * 400) == "a" * 400
    assert shorten("a" * 300 + "b" * 300) == "a" * 200 + "…" + "b" * 200
