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
    "bf16": "63847f5825fbf6804e59175aace51f2e153e7202d60528cc0fab6d6f4598c25c",
    "f16": "f086cdf673cfc4e126c21b5f13f271b885996b7c7e184b9e1c040df19a2966fe",
    "f32": "448ff56da644f04a24a6b8af90c7a6bd879ab099bc580ebd715ef1c5679f82ba",
    "f8_e4m3": "3ad42eaa1fd4b9bbae05f862150e588b59722148560ecf4b53e6256195007404",
    "f8_e5m2": "d7376f298e41726d0afd44c4770f454df16f149a49ca3f461f9eea62b978b2be",
    "i8": "2b23261bc8c05d918f743733fce557aa6628b88b25131490d040e731134fb748",
    "u8": "d2972184b1f7677024b83e943a5e542995066155662310e10679692f5d901bab",
    "i16": "db15e7e439e12ac3fdf5758ab80a9e838c90a6d307723d60ccee3115be656ffa",
    "u16": "2685bd962fdf239aec4cf23453d7a1a71cf64c79572ab081d5d1a8fe76173827",
    "i32": "272cbb7f3bbdfab2e86a2ec797be7bf5f2b7db8249e80cf47f82d07027dadacf",
    "u32": "7cdd2ace41018906bd066702cd8db032d5c38879a9d2da470bb2c66e91cf75a6",
    "i64": "2f6e3d3c8cbca11ea9e0f6a6407567e26fbafe9edd19beea2cc7c56f1ce213f8",
    "u64": "9d9c17b618e366db52b5fa36dd59fcd72e796cf03aa5945056e427ca2f516dec",
    "mixed": "8435a09005494d2e07cca10a594b630db910e04839c164f66fb0fef106b7dde8",
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
