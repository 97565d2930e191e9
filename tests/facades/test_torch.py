"""regrain.torch beside safetensors.torch."""

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch

import regrain
import regrain.torch
from regrain import kernels


def bits(tensor):
    data = tensor.contiguous().reshape(-1)
    return tensor.dtype, tensor.shape, bytes(data.view(torch.uint8).numpy()) if data.numel() else b""


def same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert bits(found[name]) == bits(tensor), name


@pytest.fixture(scope="module")
def wanted(plain):
    return safetensors.torch.load_file(plain)


def test_load_file(file, wanted):
    for threads in (None, 1, 2):
        found = regrain.torch.load_file(file, threads=threads)
        same(found, wanted)
    same(regrain.torch.load_file(file, device=torch.device("cpu")), wanted)
    assert all(tensor.is_meta for tensor in regrain.torch.load_file(file, "meta").values())
    same(regrain.torch.load(file.read_bytes()), wanted)
    found["bf16"].zero_()
    assert bits(found["tied"]) == bits(wanted["tied"])


def test_memory_outlives_everything_else(file, wanted):
    weight = regrain.torch.load_file(file)["bf16"]
    for _ in range(3):
        regrain.torch.load_file(file)
    assert bits(weight) == bits(wanted["bf16"])


def test_tensors_lie_where_they_were_decoded(file, monkeypatch):
    """No copy is made on the way to the caller."""
    made = []
    real = kernels.allocate
    monkeypatch.setattr(kernels, "allocate", lambda sizes: made.append(real(sizes)) or made[-1])
    found = regrain.torch.load_file(file)
    for tensor, data in zip(found.values(), made[0], strict=True):
        assert tensor.numel() == 0 or tensor.data_ptr() == data.ctypes.data
        assert tensor.numel() == 0 or tensor.untyped_storage().nbytes() == data.nbytes


def test_load_file_into_given_tensors(file, wanted):
    out = {name: torch.ones_like(tensor) for name, tensor in wanted.items()}
    found = regrain.torch.load_file(file, out=out)
    assert all(found[name] is out[name] for name in out)
    same(out, wanted)
    for tensor, text in (
        (
            torch.zeros(50, 768, dtype=torch.int32),
            r"out\['f32'\] must be torch.float32 of shape \(50, 768\), not torch.int32",
        ),
        (torch.zeros(768, 50).T, r"out\['f32'\] must be contiguous and on the CPU"),
        (torch.zeros(50, 768, device="meta"), r"out\['f32'\] must be contiguous and on the CPU"),
    ):
        with pytest.raises(ValueError, match=text):
            regrain.torch.load_file(file, out=out | {"f32": tensor})
    with pytest.raises(ValueError, match="'f32' differs: add an array for it"):
        regrain.torch.load_file(file, out={name: tensor for name, tensor in out.items() if name != "f32"})


def test_safe_open(file, plain, wanted):
    with (
        regrain.torch.safe_open(file, framework="pt", device="cpu") as ours,
        safetensors.safe_open(plain, "pt") as theirs,
    ):
        assert ours.keys() == theirs.keys()
        assert ours.offset_keys() == theirs.offset_keys()
        assert ours.metadata() == theirs.metadata()
        same(ours.get_tensors(), wanted)
        for key in (
            1,
            -1,
            slice(2, 4),
            slice(None, None, 3),
            (slice(1, 3), 2),
            (slice(None), slice(4, 9, 2)),
            (..., 1),
        ):
            for name in ("bf16", "f16", "cube", "bytes"):
                found = ours.get_slice(name)[key]
                assert bits(found) == bits(wanted[name][key])
                assert found.is_contiguous()
        assert bits(ours.get_slice("scalar")[()]) == bits(wanted["scalar"])
        assert bits(ours.get_slice("empty")[:]) == bits(wanted["empty"])
        with pytest.raises(ValueError, match="step must be at least 1, not -1"):
            ours.get_slice("f16")[:, ::-1]
        with pytest.raises(KeyError, match="has no tensor 'zz'"):
            ours.get_tensor("zz")
    with pytest.raises(ValueError, match="framework must be 'pt', not 'np'"):
        regrain.torch.safe_open(file, framework="np")


def test_save_file(tmp_path, wanted):
    tensors = {name: tensor for name, tensor in wanted.items() if name != "tied"}
    tensors["turned"] = wanted["f32"].T
    tensors["part"] = wanted["f32"][:, 3:9]
    tensors["shared"] = tensors["f16"]
    tensors["parameter"] = torch.nn.Parameter(wanted["f32"] * 2)
    tensors["conjugated"] = torch.tensor([1 + 2j, 3 - 1j]).conj()
    tensors["float8"] = wanted["f32"].to(torch.float8_e4m3fn)
    path = tmp_path / "x.regrain.safetensors"
    regrain.torch.save_file(tensors, path, {"format": "pt"})
    plain = {name: tensor.detach().resolve_conj().contiguous().clone() for name, tensor in tensors.items()}
    same(regrain.torch.load_file(path), plain)
    assert path.read_bytes() == regrain.torch.save(tensors, {"format": "pt"})
    regrain.restore(path, tmp_path / "x.safetensors")
    assert (tmp_path / "x.safetensors").read_bytes() == safetensors.torch.save(plain, {"format": "pt"})


def test_packed_4_bit_floats(tmp_path):
    packed = torch.arange(12, dtype=torch.uint8).view(3, 4).view(torch.float4_e2m1fn_x2)
    regrain.torch.save_file({"x": packed}, tmp_path / "x")
    with regrain.torch.safe_open(tmp_path / "x") as opened:
        found = opened.get_tensor("x")
        assert opened.get_slice("x").get_shape() == [3, 8]
    assert found.dtype == packed.dtype
    assert torch.equal(found.view(torch.uint8), packed.view(torch.uint8))


@pytest.mark.parametrize(
    ("tensor", "text"),
    [
        (torch.zeros(3, 3).to_sparse(), "'x' must be a dense tensor with data, not torch.sparse_coo on cpu"),
        (torch.zeros(3, device="meta"), "'x' must be a dense tensor with data, not torch.strided on meta"),
        (
            torch.zeros(3, dtype=torch.complex128),
            "dtype must be one that safetensors has, not torch.complex128: cast it",
        ),
        (np.zeros(3), "'x' must be a tensor, not ndarray"),
    ],
)
def test_other_tensors_are_refused(tensor, text):
    with pytest.raises(regrain.UnsupportedModelError, match=text):
        regrain.torch.save({"x": tensor})


class Tied(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(30, 8)
        self.head = torch.nn.Linear(8, 30)
        self.head.weight = self.embedding.weight
        self.norm = torch.nn.BatchNorm1d(8)


def test_models(tmp_path):
    torch.manual_seed(0)
    model, other = Tied(), Tied()
    regrain.torch.save_model(model, tmp_path / "x")
    assert regrain.torch.load_model(other, tmp_path / "x") == ([], [])
    same(other.state_dict(), model.state_dict())
    safetensors.torch.save_model(model, tmp_path / "theirs")  # drops one of two tied names
    again = Tied()
    assert regrain.torch.load_model(again, tmp_path / "theirs") == ([], [])
    same(again.state_dict(), model.state_dict())
    regrain.torch.save_file({"head.bias": torch.zeros(30), "odd": torch.zeros(1)}, tmp_path / "part")
    with pytest.raises(RuntimeError, match=r"must have the tensors of Tied; missing=\[.*\], unexpected=\['odd'\]"):
        regrain.torch.load_model(again, tmp_path / "part")
    missing, unexpected = regrain.torch.load_model(again, tmp_path / "part", strict=False)
    assert unexpected == ["odd"]
    assert "embedding.weight" in missing
