"""PyTorch state dicts: read without running what is in them."""

import os
import pickle

import pytest
import safetensors.torch

import regrain

torch = pytest.importorskip("torch")
import regrain.torch  # noqa: E402


@pytest.fixture
def state():
    torch.manual_seed(0)
    weight = torch.randn(60, 40).to(torch.bfloat16)
    return {
        "w": weight,
        "tied": weight,
        "turned": weight.T,
        "part": weight[:, 1:9],
        "ids": torch.arange(100),
        "s": torch.tensor(1.5),
    }


def restored(path, tmp_path):
    result = regrain.compress(path, tmp_path / "x.regrain.safetensors", force=True)
    regrain.restore(result.path, tmp_path / "x.safetensors", force=True)
    return result, safetensors.torch.load_file(tmp_path / "x.safetensors")


@pytest.mark.parametrize("old_format", [False, True])
def test_tensors_come_back_whatever_memory_they_shared(tmp_path, state, old_format):
    path = tmp_path / "model.pt"
    torch.save(state, path, _use_new_zipfile_serialization=not old_format)
    result, found = restored(path, tmp_path)
    assert result.notes == ()
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())
    ties = {tensor.descriptor.name: tensor.descriptor.tied for tensor in result.artifact.tensors}
    assert {name for name, tied in ties.items() if tied} == {"w"}  # the later of "tied" and "w"
    regrain.verify(result.path, against=path)
    plain = {name: tensor.contiguous().clone() for name, tensor in state.items()}
    assert (tmp_path / "x.safetensors").read_bytes() == safetensors.torch.save(plain)


def test_the_default_output_is_beside_it(tmp_path, state):
    torch.save(state, tmp_path / "pytorch_model.bin")
    assert regrain.compress(tmp_path / "pytorch_model.bin").path == tmp_path / "pytorch_model.regrain.safetensors"


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_checkpoints_are_unwrapped_and_say_what_is_left_out(tmp_path, state, key):
    torch.save({"epoch": 3, key: state, "optimizer": {"lr": 0.1}}, tmp_path / "x.ckpt")
    result, found = restored(tmp_path / "x.ckpt", tmp_path)
    assert found.keys() == state.keys()
    assert result.notes == (f"left out beside {key!r}: epoch, optimizer",)


class Payload:
    def __reduce__(self):
        return os.mkdir, ("owned",)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"w": Payload()}, "must load with weights_only=True, which PyTorch refuses: "),
        (torch.nn.Linear(2, 2), "must load with weights_only=True, which PyTorch refuses: "),
        ([torch.zeros(3)], "must hold a state dict, not list: save model.state_dict"),
        ({"a": 5}, "state dict must map names to tensors, not 'a' to int"),
        ({"a": torch.zeros(2), 3: torch.zeros(2)}, "state dict must map names to tensors, not 3 to Tensor"),
        ({}, "state dict must hold at least one tensor"),
        ({"a": torch.zeros(3, 3).to_sparse()}, "'a' must be a dense tensor"),
        ({"a": torch.zeros(3, dtype=torch.complex128)}, "dtype must be one that safetensors has, not torch.complex128"),
    ],
)
def test_what_is_no_state_dict_is_refused_unrun(tmp_path, monkeypatch, value, text):
    monkeypatch.chdir(tmp_path)
    torch.save(value, tmp_path / "x.pt")
    with pytest.raises(regrain.UnsupportedModelError, match=text):
        regrain.compress(tmp_path / "x.pt")
    assert os.listdir(tmp_path) == ["x.pt"]


def test_other_pickles_and_archives_are_refused_unrun(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for data in (pickle.dumps(Payload(), protocol=2), b"PK\x03\x04 and no archive", b"\x80\x02", b"\x80"):
        (tmp_path / "x.pt").write_bytes(data)
        with pytest.raises(regrain.UnsupportedModelError, match="must load with weights_only=True"):
            regrain.compress(tmp_path / "x.pt")
        assert os.listdir(tmp_path) == ["x.pt"]


def test_a_safetensors_file_that_begins_like_a_pickle(tmp_path):
    text = b'{"x":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}'.ljust(0x80)
    (tmp_path / "x.safetensors").write_bytes((0x80).to_bytes(8, "little") + text + b"data")
    assert regrain.compress(tmp_path / "x.safetensors").artifact.original_bytes == 0x80 + 12
