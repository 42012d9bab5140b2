"""What local disks and object stores have in common."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from simreg_core.storage import base, object_store
from simreg_core.storage.atomic import atomic_file, write_text
from simreg_core.storage.base import Held
from simreg_core.storage.location import local_path, read_all, storage_of


@pytest.fixture(params=["disk", "store"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """An empty folder of this machine, or an empty bucket."""
    return tmp_path if request.param == "disk" else request.getfixturevalue("bucket")


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# files


def test_file_appears_whole_when_the_block_ends(folder: Path) -> None:
    path = folder / "deep" / "a.csv"
    with atomic_file(path) as stream:
        stream.write("±".encode())
        assert not path.exists()
    assert path.read_bytes() == "±".encode()
    assert names_in(path.parent) == ["a.csv"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError], ids=["Ctrl-C", "full disk"])
def test_interrupted_write_leaves_the_old_file_and_no_other(
    error: type[BaseException], folder: Path
) -> None:
    path = folder / "a.csv"
    write_text(path, "old")

    def write() -> None:
        with atomic_file(path) as stream:
            stream.write(b"half")
            raise error

    with pytest.raises(error):
        write()
    assert names_in(folder) == ["a.csv"]
    assert path.read_text() == "old"


def test_file_that_cannot_be_put_in_place_leaves_no_draft(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        write_text(tmp_path / "taken", "text")
    assert names_in(tmp_path) == ["taken"]


def test_folder_is_synced_after_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[str, list[str]]] = []

    def recorded(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if path.is_dir():
            synced.append((path.name, names_in(path)))

    monkeypatch.setattr(os, "fsync", recorded)
    write_text(tmp_path / "deep" / "a.csv", "text")
    assert ("deep", ["a.csv"]) in synced
    storage_of(tmp_path).create_folder(tmp_path / "new", lambda _: None, "last", "text")
    assert synced[-1] == (tmp_path.name, ["deep", "new"])


def test_file_system_that_cannot_sync_folders_is_good_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync

    def refused(descriptor: int) -> None:
        if Path(os.readlink(f"/proc/self/fd/{descriptor}")).is_dir():
            raise OSError("Invalid argument")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", refused)
    write_text(tmp_path / "a.csv", "text")
    assert names_in(tmp_path) == ["a.csv"]


def test_many_files_are_read_in_order(folder: Path) -> None:
    paths = [folder / "many" / str(number) for number in range(12)]
    for number, path in enumerate(paths):
        write_text(path, str(number))
    sources = read_all(paths)
    assert (sources == paths) is (local_path(folder) == folder)
    contents = [s.read_bytes() if isinstance(s, Path) else s.read() for s in sources]
    assert contents == [str(number).encode() for number in range(12)]
    assert read_all([]) == []


# folders


def create(folder: Path, text: str) -> bool:
    def fill(path: Path) -> None:
        write_text(path / "tables" / "a", text)

    return storage_of(folder).create_folder(folder, fill, "last", text)


def test_folder_is_created_by_one_and_removed_with_everything_in_it(folder: Path) -> None:
    new = folder / "new"
    assert create(new, "one")
    assert not create(new, "two")
    assert (new / "last").read_text() == "one"
    assert names_in(folder) == ["new"]
    assert names_in(new) == ["last", "tables"]
    storage_of(folder).remove_folder(new)
    assert not new.exists()


def test_folder_that_cannot_be_filled_is_no_folder(folder: Path) -> None:
    def fail(path: Path) -> None:
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        storage_of(folder).create_folder(folder / "new", fail, "last", "")
    assert names_in(folder) == []


# locks


def lock(path: Path, **options: Any) -> Any:
    return storage_of(path).lock(path, **options)


def is_held(path: Path) -> bool:
    return storage_of(path).is_held(path)


def test_one_process_at_a_time_even_behind_an_exception(folder: Path) -> None:
    path = folder / "a"

    def fail() -> None:
        with lock(path) as require_held:
            assert is_held(path)
            with pytest.raises(Held), lock(path, waits=False):
                pass
            assert is_held(path)
            require_held()
            raise ZeroDivisionError

    assert not is_held(path)
    assert names_in(folder) == []
    with pytest.raises(ZeroDivisionError):
        fail()
    assert not is_held(path)
    with lock(path, waits=False):
        assert is_held(path)


def test_waiting_ends_when_the_holder_does(folder: Path) -> None:
    order = []

    def wait() -> None:
        with lock(folder / "a"):
            order.append("second")

    with lock(folder / "a"):
        waiter = threading.Thread(target=wait)
        waiter.start()
        time.sleep(0.3)
        order.append("first")
    waiter.join(10)
    assert order == ["first", "second"]


def test_heartbeat_shows_what_the_holder_does(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "_HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(object_store, "_RENEW_SECONDS", 0.05)
    path, state = folder / "beat.json", {"phase": "first"}

    def heartbeat() -> str:
        return str(storage_of(path).read_heartbeat(path).get("phase"))

    assert heartbeat() == "None"
    with lock(path, heartbeat=lambda: dict(state)):
        assert heartbeat() == "first"
        state["phase"] = "second"
        for _ in range(100):
            if heartbeat() == "second":
                break
            time.sleep(0.05)
        assert heartbeat() == "second"
        state["phase"] = "done"
    assert heartbeat() == "done"


def test_who_asks_at_once_waits_for_one_build(folder: Path) -> None:
    path, built = folder / "a", []

    def build() -> str:
        built.append(1)
        time.sleep(0.2)
        write_text(path, "built")
        return "built"

    def ask(_: int) -> str:
        return storage_of(path).build_once(
            path, lambda: path.read_text() if path.exists() else None, build
        )

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(ask, range(3))) == ["built"] * 3
    assert built == [1]
