"""Records are whole or absent, whatever happens to the process or to the folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from regrain import OutputError
from regrain.planning.store import Store

ARRAYS = {"a.b": np.arange(6.0).reshape(2, 3), "none": np.empty(0, np.float32), "one": np.ones((), np.int8)}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "some" / "folder")


def test_what_is_put_is_got(store: Store) -> None:
    store.put("key", {"loss": 0.5, "names": ["a"]}, ARRAYS)
    value, arrays = Store(store.folder).get("key")
    assert value == {"loss": 0.5, "names": ["a"]}
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert np.array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype
    assert store.has("key")
    assert store.nbytes > 48


def test_what_was_never_put(store: Store) -> None:
    assert store.get("key") is None
    assert not store.has("key")


def test_put_again_replaces(store: Store) -> None:
    store.put("key", {"at": 1}, ARRAYS)
    store.put("key", {"at": 2}, {})
    assert store.get("key") == ({"at": 2}, {})
    assert [path.name for path in store.folder.iterdir()] == ["key"]


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("when", ["numpy.save", "json.dumps", "os.fsync", "pathlib.Path.rename"])
def test_killed_in_the_middle(store: Store, when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put("kept", {"at": 1}, ARRAYS)

    def fail(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(when, fail)
        with pytest.raises(Killed):
            store.put("key", {}, ARRAYS)
    assert not store.has("key")
    assert [path.name for path in store.folder.iterdir()] == ["kept"]


def test_what_a_killed_process_left_is_no_record(store: Store) -> None:
    """SIGKILL leaves the folder that was being written: its name is no key."""
    store.put("kept", {"at": 1}, {})
    (store.folder / "kept").rename(store.folder / ".half")
    assert store.get("kept") is None
    store.clear()
    assert list(store.folder.iterdir()) == []


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


DAMAGES: dict[str, Callable[[Path], object]] = {
    "value cut": lambda folder: truncate(folder / "value.json"),
    "value empty": lambda folder: (folder / "value.json").write_bytes(b""),
    "value of another kind": lambda folder: (folder / "value.json").write_text("[1, 2]"),
    "value without arrays": lambda folder: (folder / "value.json").write_text('{"value": {}}'),
    "value is a number": lambda folder: (folder / "value.json").write_text('{"value": 3, "arrays": []}'),
    "arrays of another kind": lambda folder: (folder / "value.json").write_text('{"value": {}, "arrays": 3}'),
    "value is no text": lambda folder: (folder / "value.json").write_bytes(b"\xff\xfe\x00"),
    "array cut": lambda folder: truncate(folder / "a.b.npy"),
    "array empty": lambda folder: (folder / "a.b.npy").write_bytes(b""),
    "array of another kind": lambda folder: (folder / "a.b.npy").write_bytes(b"PK\x03\x04" + bytes(100)),
    "array lost": lambda folder: (folder / "a.b.npy").unlink(),
    "array is a folder": lambda folder: [(folder / "a.b.npy").unlink(), (folder / "a.b.npy").mkdir()],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damaged_records_are_absent_and_can_be_put_again(store: Store, damage: Callable[[Path], object]) -> None:
    store.put("key", {"at": 1}, ARRAYS)
    damage(store.folder / "key")
    assert store.get("key") is None
    assert not store.has("key")
    store.put("key", {"at": 2}, ARRAYS)
    assert store.get("key")[0] == {"at": 2}


def test_pickles_are_not_read(store: Store) -> None:
    store.put("key", {}, {})
    np.save(store.folder / "key" / "x.npy", np.array([{}], object), allow_pickle=True)
    (store.folder / "key" / "value.json").write_text(json.dumps({"value": {}, "arrays": ["x"]}))
    assert store.get("key") is None


def test_a_folder_that_can_not_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="work directory can't be made"):
        Store(tmp_path / "file" / "folder")


def test_a_full_disk(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OutputError, match="measurements can't be kept"):
        store.put("key", {}, ARRAYS)
    assert list(store.folder.iterdir()) == []
