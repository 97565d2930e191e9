"""Integers of an artifact are run as they are stored."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from regrain.artifact.handle import open_all
from regrain.artifact.output import output_file
from regrain.artifact.packed import write_packed
from regrain.artifact.source import from_tensors
from regrain.codecs.quantized import Quantized
from regrain.codecs.sparse import Sparse
from regrain.hw.machine import Machine
from regrain.hw.networks.layers import layers_of
from regrain.hw.networks.stored import stored
from regrain.models.statedict import lazy_tensors

MACHINE = Machine()


@pytest.fixture
def linear():
    torch.manual_seed(0)
    return nn.Linear(24, 20, bias=False)


@pytest.fixture
def read(tmp_path, linear):
    """What is run of an artifact with that form."""

    def write_and_read(form, machine=MACHINE, model=linear, tied=None):
        path = tmp_path / "model.regrain.safetensors"
        with output_file(path, force=True) as sink:
            source = from_tensors(lazy_tensors(linear.state_dict()), None, "test")
            write_packed(source, sink, {} if form is None else {"weight": form}, version="0", receipt={})
        return stored(open_all(path), layers_of(model)[0][0], tied or {}, machine)

    return write_and_read


@pytest.mark.parametrize("cell", [(1, 24), (4, 24), (20, 24)])
def test_indices_with_scales_of_rows(linear, quantize, read, cell):
    form = quantize(linear.weight.detach().numpy(), cell, 0.01)
    found = read(form)
    assert np.array_equal(found.values, form.indices) and found.values.dtype == np.int8
    dense = form.dequantized("F32").view(np.float32).reshape(20, 24)
    assert np.array_equal(found.weights(), dense)


def test_pruned_indices(linear, quantize, read):
    grid = quantize(linear.weight.detach().numpy(), (1, 24), 0.01)
    mask = np.random.default_rng(0).random((2, 24)) < 0.5
    whole = np.repeat(mask, 16, axis=0)[:20]
    form = Sparse.quantized(Quantized(grid.indices * whole, grid.codes, grid.cell), mask, (16, 1))
    found = read(form)
    assert np.array_equal(found.values, grid.indices * whole)
    assert np.array_equal(found.weights(), form.dense("F32").view(np.float32).reshape(20, 24))


@pytest.mark.parametrize("kind", ["plain", "group", "wide", "floats"])
def test_what_must_be_rounded(linear, quantize, read, kind):
    weights = linear.weight.detach().numpy()
    form = {
        "plain": None,
        "group": quantize(weights, (1, 8), 0.01),
        "wide": quantize(weights, (1, 24), 1e-4),
        "floats": Sparse.of(weights, np.ones((2, 24), bool), (16, 1)),
    }[kind]
    assert read(form) is None


def test_names(linear, quantize, read):
    form = quantize(linear.weight.detach().numpy(), (1, 24), 0.01)
    other = nn.Sequential(linear)
    assert read(form, model=other) is None
    assert np.array_equal(read(form, model=other, tied={"0.weight": "weight"}).values, form.indices)


def test_integers_that_would_overflow_are_rounded_anew(linear, quantize, read):
    form = quantize(linear.weight.detach().numpy(), (1, 24), 0.0016)
    narrow = Machine(accumulator=18)
    assert np.abs(form.indices).sum(1).max() > narrow.most_weight
    found = read(form, narrow)
    assert np.abs(found.values.astype(int)).sum(1).max() <= narrow.most_weight
    assert np.allclose(found.weights(), linear.weight.detach().numpy(), atol=0.01)
