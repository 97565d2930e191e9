"""An artifact of pruned tensors written once: what it holds never changes, nor what the writer makes of them."""

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
from regrain.kernels.reference_sparse import decode_sparse

FILE = Path(__file__).parent / "pruned.regrain.safetensors"
SHA256 = "61f7bf4409dc3ae77b984c82057f2aee9eb97353b2e2eb675ed46b515d4fa2b5"


def maker():
    spec = importlib.util.spec_from_file_location("golden_pruned_make", Path(__file__).parent / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKE = maker()


@pytest.fixture(scope="module")
def wanted():
    found, forms = MAKE.model()
    for name, how in forms.items():
        array = found[name]
        found[name] = how.dense(from_numpy(array.dtype).name).view(array.dtype).reshape(array.shape)
    return found


def test_the_golden_file(wanted):
    assert hashlib.sha256(FILE.read_bytes()).hexdigest() == SHA256
    found = regrain.numpy.load_file(FILE)
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        one = found[name]
        assert (one.dtype, one.shape, one.tobytes()) == (array.dtype, array.shape, array.tobytes()), name
    assert not regrain.verify(FILE).lossless


def test_it_has_everything():
    """Every pattern, type and form of values; masks and values packed and coded; outliers, zeros that pad."""
    file = open_artifact(FILE)
    found = {name: file.descriptor(name) for name in MAKE.UNITS}
    assert {d.scheme.pattern for d in found.values()} == {"fine", "column", "row", "block:16x1", "block:4x4"}
    assert {str(d.scheme.quantizer) for d in found.values()} == {"none", "row", "group", "block"}
    assert found["none"].density == 0 and found["scalar"].density == 1
    assert file.descriptor("tied").tied == "f32.column"
    fronts = {name: file._units.front(file.part(name)) for name in MAKE.UNITS}
    assert {front.dtype for front in fronts.values()} == {"BF16", "F16", "F32"}
    for names in (set(MAKE.CELLS), MAKE.UNITS.keys() - MAKE.CELLS.keys()):
        assert {fronts[name].values.packed is None for name in names} == {True, False}
    assert fronts["int8.fine"].values.places.size == 3 and fronts["int16.column"].values.kind == np.int16
    part = file.part("none")
    assert file.container.read(part.stop - 8, 8) == bytes(8)


def test_the_plain_reader_reads_every_payload(wanted):
    file = open_artifact(FILE)
    for name in MAKE.UNITS:
        part = file.part(name)
        payload = file.container.read(part.start, part.stop - part.start)
        words = decode_sparse(payload, seed=crc32c(part.owner.encode())).words
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
