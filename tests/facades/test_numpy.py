"""regrain.numpy beside safetensors.numpy: the same names, the same answers, bit for bit."""

import json
import os

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

import regrain
import regrain.numpy
from regrain import kernels
from regrain.artifact.container import Container
from regrain.core.dtypes import DTYPES, from_numpy, numpy_dtype


def bits(array):
    return array.dtype, array.shape, array.tobytes()


def same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        assert bits(found[name]) == bits(array), name


def test_load_file(file, tensors):
    for threads in (None, 1, 2):
        found = regrain.numpy.load_file(file, threads=threads)
        same(found, tensors)
    assert list(found) == sorted(tensors)
    found["bf16"][:] = 0  # writeable, and of its own
    assert bits(found["tied"]) == bits(tensors["tied"])
    same(regrain.numpy.load(file.read_bytes()), tensors)


def test_load_file_into_given_arrays(file, tensors):
    out = {name: np.full_like(array, 1) for name, array in tensors.items()}
    before = dict(out)
    found = regrain.numpy.load_file(file, out=out)
    assert all(found[name] is before[name] for name in before)
    same(out, tensors)


@pytest.mark.parametrize(
    ("name", "array", "text"),
    [
        ("f32", None, "out must have the tensors of .*, 'f32' differs: add an array for it"),
        ("other", np.zeros(3), "out must have the tensors of .*, 'other' differs: leave it out"),
        (
            "f32",
            np.zeros((50, 768), np.int32),
            r"out\['f32'\] must be float32 of shape \(50, 768\), not int32 of \(50, 768\)",
        ),
        (
            "f32",
            np.zeros(50 * 768, np.float32),
            r"out\['f32'\] must be float32 of shape \(50, 768\), not float32 of \(38400,\)",
        ),
        ("f32", np.zeros((50, 768), np.float32, order="F"), r"out\['f32'\] must be writeable and in C order"),
        ("f32", np.broadcast_to(np.float32(0), (50, 768)), r"out\['f32'\] must be writeable and in C order"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(file, tensors, name, array, text):
    out = {key: np.empty_like(value) for key, value in tensors.items()}
    out.pop(name, None)
    if array is not None:
        out[name] = array
    with pytest.raises(ValueError, match=text):
        regrain.numpy.load_file(file, out=out)


def test_safe_open_answers_as_safetensors_does(file, plain, tensors):
    with regrain.numpy.safe_open(file, framework="np") as ours, safetensors.safe_open(plain, "np") as theirs:
        assert ours.keys() == theirs.keys()
        assert ours.offset_keys() == theirs.offset_keys()
        assert ours.metadata() == theirs.metadata()
        same(ours.get_tensors(), tensors)
        for name in theirs.keys():  # noqa: SIM118 - it is no dict
            assert bits(ours.get_tensor(name)) == bits(tensors[name])
            part, other = ours.get_slice(name), theirs.get_slice(name)
            assert part.get_shape() == other.get_shape()
            assert part.get_dtype() == other.get_dtype()


KEYS = [
    *(0, -1, slice(1, 3), slice(None), slice(None, None, 2), ..., slice(0, 0), slice(5, 2), slice(-3, None)),
    *((slice(None), 2), (1, 2), (slice(2, 4), slice(1, None, 3)), (..., 1), (0, ...), (0, slice(3, 5)), ()),
]


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_slices_are_numpys(file, tensors, key):
    with regrain.numpy.safe_open(file) as opened:
        for name, array in tensors.items():
            try:
                wanted = np.array(array[key])
            except IndexError:
                with pytest.raises(IndexError):
                    opened.get_slice(name)[key]
                continue
            found = opened.get_slice(name)[key]
            assert bits(found) == bits(wanted), name
            assert found.flags.c_contiguous
            assert found.flags.writeable


@settings(max_examples=60)
@given(st.data())
def test_any_rows_of_a_tensor_of_many_blocks(artifact_of_rows, data):
    path, array = artifact_of_rows
    start = data.draw(st.integers(0, len(array)))
    stop = data.draw(st.integers(0, len(array)))
    with regrain.numpy.safe_open(path) as opened:
        assert bits(opened.get_slice("w")[start:stop]) == bits(array[start:stop])
        column = data.draw(st.integers(0, array.shape[1] - 1))
        assert bits(opened.get_slice("w")[start:stop, column]) == bits(array[start:stop, column].copy())


@pytest.fixture(
    scope="module", params=[(40, 70_001), (3000, 130)], ids=["rows of several blocks", "blocks of several rows"]
)
def artifact_of_rows(request, tmp_path_factory):
    array = np.random.default_rng(0).normal(0, 0.02, request.param).astype(np.float16)
    path = tmp_path_factory.mktemp("rows") / "x.safetensors"
    regrain.numpy.save_file({"w": array}, path)
    return path, array


def test_a_slice_reads_only_its_blocks(artifact_of_rows, tmp_path):
    path, array = artifact_of_rows
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1  # in the middle of the payload
    (tmp_path / "x").write_bytes(data)
    with regrain.numpy.safe_open(tmp_path / "x") as opened:
        assert bits(opened.get_slice("w")[:2]) == bits(array[:2])
        assert bits(opened.get_slice("w")[-2:]) == bits(array[-2:])
        middle = len(array) // 2
        with pytest.raises(regrain.CorruptArtifactError, match=r"tensor 'w', block \d+: .*checksum"):
            opened.get_slice("w")[middle - 100 : middle + 100]
        with pytest.raises(regrain.CorruptArtifactError, match=r"tensor 'w', block \d+: .*checksum"):
            opened.get_tensor("w")


def test_open(file, plain, tensors):
    with regrain.open(file) as opened:
        assert opened.keys() == sorted(tensors)
        assert opened.metadata() == {"format": "pt", "made": "here"}
        assert bits(opened.get_tensor("bf16")) == bits(tensors["bf16"])
        assert bits(opened.get_slice("cube")[2:4]) == bits(tensors["cube"][2:4])
        found = {name: opened.descriptor(name) for name in opened.keys()}  # noqa: SIM118 - it is no dict
        assert {name: (d.name, d.dtype, d.shape) for name, d in found.items()} == {
            name: (name, from_numpy(array.dtype).name, array.shape) for name, array in tensors.items()
        }
        coders = {name: str(d.scheme.coder) for name, d in found.items()}
        if file is plain:
            assert set(coders.values()) == {"raw"}
            assert found["bf16"].stages == ("copy",)
        else:
            assert coders == dict.fromkeys(tensors, "rans") | dict.fromkeys(
                ("f64", "mask", "scalar", "empty", "none"), "raw"
            ) | {"tied": "tied"}
        with pytest.raises(KeyError, match="safetensors has no tensor 'zz'"):
            opened.descriptor("zz")
    with pytest.raises(ValueError, match="file must be open"):
        opened.descriptor("bf16")


def test_open_takes_shards_too(tmp_path, tensors):
    """An index, or the directory that it stands in; one shard plain, the other an artifact."""
    names = sorted(tensors)
    safetensors.numpy.save_file({name: tensors[name] for name in names[:5]}, tmp_path / "a.safetensors", {"k": "a"})
    regrain.numpy.save_file(
        {name: tensors[name] for name in names[5:]}, tmp_path / "b.regrain.safetensors", {"k": "b", "l": "c"}
    )
    weight_map = {name: "a.safetensors" if name in names[:5] else "b.safetensors" for name in names}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    for path in (index, tmp_path):
        with regrain.open(path) as opened:
            assert opened.keys() == names
            assert sorted(opened.offset_keys()) == names
            assert opened.metadata() == {"k": "a", "l": "c"}
            same({name: opened.get_tensor(name) for name in names}, tensors)
            same(opened.get_tensors(), tensors)
            assert bits(opened.get_slice(names[0])[1:3]) == bits(tensors[names[0]][1:3])
            assert bits(opened.get_slice(names[-1])[1:3]) == bits(tensors[names[-1]][1:3])
            assert opened.descriptor(names[0]).scheme.coder == "raw"


def test_a_file_that_is_cut_off_while_it_is_open(file, tmp_path, tensors):
    path = tmp_path / "x.safetensors"
    path.write_bytes(file.read_bytes())
    opened = regrain.numpy.safe_open(path)
    os.truncate(path, path.stat().st_size // 2)
    failed = 0
    for name, array in tensors.items():
        for read in (opened.get_tensor, lambda name: opened.get_slice(name)[...]):
            try:
                assert bits(read(name)) == bits(array)
            except regrain.CorruptArtifactError:
                failed += 1
    assert failed > 4
    with pytest.raises(regrain.CorruptArtifactError):
        opened.get_tensors()


def test_no_descriptor_is_left_open(file):
    def count():
        return len(os.listdir("/proc/self/fd"))

    before = count()
    for _ in range(3):
        regrain.numpy.load_file(file)
        with regrain.numpy.safe_open(file) as opened:
            opened.get_tensor("f32")
    assert count() == before
    for wrong in (file.parent, file.with_name("none")):
        with pytest.raises(OSError, match="directory"):
            Container.open(wrong)
    assert count() == before


def test_arrays_lie_where_they_were_decoded(file, monkeypatch):
    """No copy is made on the way to the caller."""
    made = []
    real = kernels.allocate
    monkeypatch.setattr(kernels, "allocate", lambda sizes: made.append(real(sizes)) or made[-1])
    found = regrain.numpy.load_file(file)
    assert [array.ctypes.data for array in found.values()] == [data.ctypes.data for data in made[0]]


def test_mistakes_are_told(file):
    opened = regrain.numpy.safe_open(file)
    for get in (opened.get_tensor, opened.get_slice):
        with pytest.raises(KeyError, match="safetensors has no tensor 'zz'"):
            get("zz")
    with pytest.raises(IndexError, match="index must be within axis 0 of size 50, not 50"):
        opened.get_slice("f32")[50]
    with opened:
        pass
    with pytest.raises(ValueError, match="file must be open: read it inside the with block"):
        opened.keys()
    with pytest.raises(ValueError, match="framework must be 'np', not 'pt': regrain.torch.safe_open gives"):
        regrain.numpy.safe_open(file, framework="pt")
    with pytest.raises(ValueError, match="device must be 'cpu' for NumPy, not 'cuda'"):
        regrain.numpy.safe_open(file, device="cuda")
    for threads in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="threads must be a whole number of at least 1 or None, not"):
            regrain.numpy.load_file(file, threads=threads)
    with pytest.raises(FileNotFoundError):
        regrain.numpy.load_file(file.with_name("none"))


ANY = [dtype.name for dtype in DTYPES.values() if dtype.numpy and dtype.name != "BOOL"]


@st.composite
def arrays(draw):
    """Any bits, in any memory order: NaNs with payloads, infinities, -0.0 and denormals are among them."""
    dtype = numpy_dtype(draw(st.sampled_from(ANY)))
    shape = draw(array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=90))
    count = int(np.prod(shape))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(("noise", "one", "few")))
    raw = rng.integers(0, 256, count * dtype.itemsize).astype(np.uint8)
    if kind == "few" and count:
        few = raw[: 5 * dtype.itemsize].reshape(-1, dtype.itemsize)
        raw = few[rng.integers(0, len(few), count)].reshape(-1)
    elif kind == "one" and count:
        raw = np.tile(raw[: dtype.itemsize], count)
    array = raw.view(dtype).reshape(shape)
    how = draw(st.sampled_from(("C", "F", "reversed", "swapped")))
    if how == "F":
        return np.asfortranarray(array) if array.ndim else array
    if how == "reversed" and array.ndim:
        return array[::-1]
    return array.byteswap().view(array.dtype.newbyteorder()) if how == "swapped" and dtype.kind in "iuf" else array


@settings(max_examples=150)
@given(st.dictionaries(st.text(st.characters(exclude_categories=("Cs",)), max_size=5), arrays(), max_size=3))
def test_whatever_is_saved_is_loaded(given_tensors):
    found = regrain.numpy.load(regrain.numpy.save(given_tensors, {"k": "v"}))
    assert found.keys() == given_tensors.keys()
    for name, array in given_tensors.items():
        little = array.astype(array.dtype.newbyteorder("<")) if array.dtype.byteorder == ">" else array
        assert bits(found[name]) == bits(np.array(little, order="C")), name


def test_special_values(tmp_path):
    words = np.array(
        [0x0000, 0x8000, 0x0001, 0x8001, 0x7C00, 0xFC00, 0x7E01, 0xFDFF, 0x7FFF, 0x03FF, 0x3C00], np.uint16
    )
    tensors = {
        "f16": np.tile(words, 50).view(np.float16),
        "bf16": np.tile(words, 50).view(ml_dtypes.bfloat16),
        "f32": (np.tile(words, 50).astype(np.uint32) << 16 | 0x7FFF).view(np.float32),
    }
    regrain.numpy.save_file(tensors, tmp_path / "x")
    same(regrain.numpy.load_file(tmp_path / "x"), tensors)
    assert (tmp_path / "x").read_bytes() == regrain.numpy.save(tensors)
    regrain.numpy.save_file({"again": words}, tmp_path / "x")  # replaced, as safetensors does
    same(regrain.numpy.load_file(tmp_path / "x"), {"again": words})


def test_what_safetensors_cannot_say_is_refused():
    for array in (np.zeros(3, np.longdouble), np.array(["text"]), np.zeros(3, "datetime64[s]"), np.zeros(2, object)):
        with pytest.raises(regrain.UnsupportedModelError, match="dtype must be one of"):
            regrain.numpy.save({"x": array})


def test_restoring_what_was_saved_gives_the_file_of_safetensors(tmp_path, tensors):
    regrain.numpy.save_file(tensors, tmp_path / "x.regrain.safetensors", {"format": "np"})
    regrain.restore(tmp_path / "x.regrain.safetensors", tmp_path / "x.safetensors")
    assert (tmp_path / "x.safetensors").read_bytes() == safetensors.numpy.save(tensors, {"format": "np"})


def test_packed_types_have_no_numpy_array(tmp_path):
    text = b'{"x":{"dtype":"F4","shape":[2,4],"data_offsets":[0,4]}}'
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"\x12\x34\x56\x78")
    packed = regrain.compress(path).path
    with pytest.raises(regrain.UnsupportedModelError, match="dtype must be one that NumPy can hold, not 'F4'"):
        regrain.numpy.load_file(packed)
    with regrain.numpy.safe_open(packed) as opened, pytest.raises(regrain.UnsupportedModelError, match="to be sliced"):
        opened.get_slice("x")[0]
    regrain.restore(packed, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == path.read_bytes()
