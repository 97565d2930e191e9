"""The container reads what the safetensors library writes, and writes what it reads, to the byte."""

import json

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes
from safetensors import serialize

from regrain.artifact.container import Container
from regrain.artifact.header import canonical_json, file_head, header_text, parse_header
from regrain.artifact.source import Lazy, array_bytes, from_tensors
from regrain.core.dtypes import DTYPES, from_numpy, numpy_dtype
from regrain.core.errors import CorruptArtifactError, UnsupportedModelError

ARRAYS = [dtype.numpy for dtype in DTYPES.values() if dtype.numpy]
names = st.text(st.characters(exclude_categories=("Cs",)), max_size=12).filter(lambda name: name != "__metadata__")


@st.composite
def models(draw):
    tensors = {}
    for name in draw(st.lists(names, unique=True, max_size=6)):
        dtype = numpy_dtype(draw(st.sampled_from([kind.name for kind in DTYPES.values() if kind.numpy])))
        shape = draw(array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
        tensors[name] = np.zeros(shape, dtype)
    return tensors


def written(tensors, metadata=None):
    lazy = {
        name: Lazy(from_numpy(array.dtype).name, array.shape, lambda array=array: array_bytes(array))
        for name, array in tensors.items()
    }
    return b"".join(from_tensors(lazy, metadata, "test").chunks())


@given(models(), st.none() | st.dictionaries(names, names, max_size=1))
def test_a_source_of_arrays_is_the_file_that_safetensors_writes(tensors, metadata):
    assume(tensors or metadata is None)  # safetensors 0.8 writes broken JSON for metadata alone
    assert written(tensors, metadata) == safetensors.numpy.save(tensors, metadata)


@given(models().filter(bool))
def test_what_safetensors_writes_is_read(tensors):
    data = safetensors.numpy.save(tensors, {"format": "np"})
    container = Container(np.frombuffer(data, np.uint8), "test")
    header = container.header
    assert header.metadata == {"format": "np"}
    assert {name: (numpy_dtype(entry.dtype), entry.shape) for name, entry in header.entries.items()} == {
        name: (array.dtype, array.shape) for name, array in tensors.items()
    }
    assert header.file_bytes == len(data)
    assert all(container.bytes_of(name).tobytes() == array.tobytes() for name, array in tensors.items())
    assert file_head(header.text) == data[: header.data_start]
    assert header_text(header.entries, header.metadata) == header.text


@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_is_one_of_the_library(name):
    shape = (4, 8)
    nbytes = DTYPES[name].nbytes(shape)
    head = json.dumps({"x": {"dtype": name, "shape": shape, "data_offsets": [0, nbytes]}}).encode()
    data = file_head(head) + bytes(nbytes)
    assert Container(np.frombuffer(data, np.uint8), "test").header.entries["x"].nbytes == nbytes
    (found,) = safetensors.deserialize(data)
    assert found[1]["dtype"] == name


def test_the_library_has_no_other_dtype():
    known = {"float8_e4m3fn", "float8_e5m2", "bfloat16", "float4_e2m1fn_x2"}
    for name in known:
        spec = safetensors.TensorSpec(dtype=name, shape=(0,), data_ptr=0, data_len=0)
        assert spec.dtype in DTYPES
        assert serialize({"x": spec})


def test_data_offsets_may_come_in_any_order():
    entries = {"b": [4, 8], "a": [0, 4], "empty": [4, 4]}
    shapes = {"b": [1], "a": [1], "empty": [0]}
    text = json.dumps(
        {name: {"dtype": "F32", "shape": shapes[name], "data_offsets": at} for name, at in entries.items()}
    ).encode()
    assert list(parse_header(text, 8).entries) == ["a", "empty", "b"]


def test_released_pages_come_back(tmp_path):
    path = tmp_path / "x.safetensors"
    safetensors.numpy.save_file({"a": np.arange(100_000), "b": np.arange(100_000) * 2}, path)
    container = Container.open(path)
    container.sequential()
    before = container.bytes_of("b").tobytes()
    container.release("a")
    container.release("b")
    assert container.bytes_of("b").tobytes() == before


def test_canonical_json_is_sorted_dense_and_ascii():
    assert canonical_json({"b": [1, True, None], "a": "ä€"}) == b'{"a":"\\u00e4\\u20ac","b":[1,true,null]}'


def test_ml_dtypes_stand_for_what_numpy_lacks():
    assert numpy_dtype("BF16") == ml_dtypes.bfloat16
    assert numpy_dtype("F8_E4M3") == ml_dtypes.float8_e4m3fn
    with pytest.raises(
        UnsupportedModelError, match="dtype must be one that NumPy can hold, not 'F4': open the file with"
    ):
        numpy_dtype("F4")
    with pytest.raises(UnsupportedModelError, match="not 'float128': cast it|not 'longdouble': cast it"):
        from_numpy(np.dtype(np.longdouble))


def test_a_missing_file_is_the_systems_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        Container.open(tmp_path / "none")
    (tmp_path / "empty").touch()
    with pytest.raises(CorruptArtifactError, match="must have at least 8 bytes, not 0"):
        Container.open(tmp_path / "empty")
