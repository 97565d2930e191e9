"""Files written once: what they hold never changes, nor what the writer makes of the same tensors."""

import hashlib
import importlib.util
from pathlib import Path

import pytest

import regrain
import regrain.numpy
from regrain.artifact import open as open_artifact

FOLDER = Path(__file__).parent
SHA256 = {
    "bf16": "4a594229f47125104a599cd39a74b2eb5dad5a25955732a6c56e7f7c580c7229",
    "f16": "2809bf9886655013a43538cdd030a25aaddd338fe3bd3f146f8a968063cdc414",
    "f32": "12959189ffeacc4353e7981c70eda4b3db799db865d1ae196d2efb8b239fdb16",
    "f8_e4m3": "2133859709aa366350389b39a50bac1c0df110db64d3bb7afe895016f32498ae",
    "f8_e5m2": "f76a1708221c52e65568e87f5f7a31fa3dda469a23f5496bfda62f3300a24000",
    "i8": "dd3729069723179e97cebb1b710281975b9c67fd59661cb6ff23cdcc95381336",
    "u8": "0454144430a51fda7376acaa2e92c576481ac45d5fe1790ebbcdf1d414fc1b75",
    "i16": "04f2348105e295cf0c69d231bed5fe70ad1bd423c0d102a1e12a273824e02e56",
    "u16": "bc7ac15ee73242a7bb37828446195fb57e279854686b42b86c148163b27aa793",
    "i32": "db9166b58a1e7d5d8ce287b39070be270078c8afb704e444f3cf40e9bbd0d85b",
    "u32": "6374e6f2c4ec2e1f27adb06771c289c2ef3e02cb5fbb01d1d033ff1ba5b34b03",
    "i64": "258795fb07fbd4e0e80f01a237f650cd3a0fa5a149d45fbc86d8b19d0443e67a",
    "u64": "660f3cd7dacd7e61b0dd73ff8ec8958b23fdf3e13c332ccc72d3c18d9da59b4e",
    "mixed": "62d4e1aef6fc03da809992cb2cb0581a5fd65dada0ff8b1af2b4bca32f78dc97",
}


def maker():
    spec = importlib.util.spec_from_file_location("golden_make", FOLDER / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKE = maker()
MODELS = MAKE.models()


def test_no_file_is_forgotten():
    assert {f"{name}.regrain.safetensors" for name in SHA256} == {path.name for path in FOLDER.glob("*.safetensors")}
    assert SHA256.keys() == MODELS.keys()


@pytest.mark.parametrize("name", SHA256)
def test_a_golden_file(name, tmp_path):
    path = FOLDER / f"{name}.regrain.safetensors"
    tensors, metadata = MODELS[name]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == SHA256[name]
    found = regrain.numpy.load_file(path)
    assert found.keys() == tensors.keys()
    for key, array in tensors.items():
        assert (found[key].dtype, found[key].shape, found[key].tobytes()) == (array.dtype, array.shape, array.tobytes())
    with regrain.numpy.safe_open(path) as opened:
        assert opened.metadata() == metadata
    regrain.verify(path)


@pytest.mark.parametrize("name", SHA256)
def test_the_writer_still_writes_it(name, tmp_path):
    """Entry for entry, but for the two that are zlib streams: another zlib may pack them otherwise."""
    again = tmp_path / "again.safetensors"
    again.write_bytes(MAKE.artifact(*MODELS[name]))
    old, new = open_artifact(FOLDER / f"{name}.regrain.safetensors"), open_artifact(again)
    assert old.manifest == new.manifest
    assert old.original == new.original
    assert old.receipt == new.receipt
    zlib_streams = {old.manifest.header, old.manifest.receipt}
    for entry in old.container.header.entries.keys() - zlib_streams:
        assert old.container.bytes_of(entry).tobytes() == new.container.bytes_of(entry).tobytes(), entry
