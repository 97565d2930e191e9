"""A packed artifact written once: what it holds never changes, nor what the writer makes of the same tensors."""

import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import pytest

import regrain
import regrain.numpy
from regrain.artifact import open as open_artifact
from regrain.artifact.manifest import DATA_NAME
from regrain.core.dtypes import from_numpy
from regrain.kernels import crc32c
from regrain.kernels.reference_quantized import decode_quantized

FILE = Path(__file__).parent / "packed.regrain.safetensors"
SHA256 = "a60322f1ea1918138d1c49b5c6ec2d53b75ce4b20cec716769c49d4eb60570d8"


def maker():
    spec = importlib.util.spec_from_file_location("golden_packed_make", Path(__file__).parent / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKE = maker()


@pytest.fixture(scope="module")
def wanted():
    tensors, choice, replaced = MAKE.model()
    found = tensors | replaced
    for name, how in choice.items():
        found[name] = (
            how.dequantized(from_numpy(found[name].dtype).name).view(found[name].dtype).reshape(found[name].shape)
        )
    return found


def test_the_golden_file(wanted):
    assert hashlib.sha256(FILE.read_bytes()).hexdigest() == SHA256
    found = regrain.numpy.load_file(FILE)
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        assert (found[name].dtype, found[name].shape, found[name].tobytes()) == (
            array.dtype,
            array.shape,
            array.tobytes(),
        )
    assert not regrain.verify(FILE).lossless


def test_it_has_everything():
    """Every form of a list, every type and quantizer, outliers and wide indices."""
    file = open_artifact(FILE)
    found = {name: file.descriptor(name) for name in file.tensors}
    assert {str(d.scheme.quantizer) for d in found.values()} == {"none", "tensor", "row", "group", "block"}
    assert {str(d.scheme.coder) for d in found.values()} == {"rans", "raw", "tied"}
    fronts = {name: file._grids.front(file.part(name)) for name in MAKE.CELLS}
    assert {front.dtype for front in fronts.values()} == {"BF16", "F16", "F32"}
    assert {front.indices.packed is None for front in fronts.values()} == {True, False}
    assert fronts["f32.groups"].indices.places.size == 3 and fronts["f32.wide"].indices.kind == np.int16


def test_the_plain_reader_reads_every_payload(wanted):
    file = open_artifact(FILE)
    for name in MAKE.CELLS:
        part = file.part(name)
        payload = file.container.read(part.start, part.stop - part.start)
        words = decode_quantized(payload, seed=crc32c(part.owner.encode())).words
        assert words.tobytes() == wanted[name].tobytes(), name


def test_the_writer_still_writes_it(tmp_path):
    """But for zlib streams: another zlib may pack them otherwise."""
    again = tmp_path / "again.safetensors"
    again.write_bytes(MAKE.artifact())
    old, new = open_artifact(FILE), open_artifact(again)
    assert old.manifest == new.manifest
    assert old.original == new.original
    assert old.receipt == new.receipt
    assert old.container.bytes_of(DATA_NAME).tobytes() == new.container.bytes_of(DATA_NAME).tobytes()
