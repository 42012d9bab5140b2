from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from simreg_core.errors import ConfigError
from simreg_core.storage.array_cache import Arrays, cached_arrays, data_folder, file_stamp


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SIMREG_DATA", str(tmp_path / "data"))
    return tmp_path / "data" / "arrays"


class _Builder:
    """Makes two arrays and counts how often it did."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> Arrays:
        self.count += 1
        return {"images": np.arange(24, dtype=np.uint8).reshape(2, 3, 4), "labels": np.arange(2)}


def _same(one: Arrays, two: Arrays) -> bool:
    return one.keys() == two.keys() and all(np.array_equal(one[k], two[k]) for k in one)


def test_second_load_reads_what_the_first_built(folder: Path) -> None:
    build = _Builder()
    first, second = cached_arrays(["a"], build, "key"), cached_arrays(["a"], build, "key")
    assert build.count == 1
    assert _same(first, second)
    assert second["images"].dtype == np.uint8


def test_other_identity_is_built_again(folder: Path) -> None:
    build = _Builder()
    for identity in (["a"], ["b"], ["a", "b"], [["a", "b"]], ["a", None]):
        cached_arrays(identity, build, "key")
    assert build.count == 5


def test_writing_to_a_loaded_array_leaves_the_cache_alone(folder: Path) -> None:
    build = _Builder()
    cached_arrays(["a"], build, "key")
    cached_arrays(["a"], build, "key")["images"][:] = 255
    assert _same(cached_arrays(["a"], build, "key"), _Builder()())


def _cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _flip(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize("pattern", ["*.images.npy", "*.labels.npy", "*.json"])
@pytest.mark.parametrize(
    "damage",
    [_cut, _flip, lambda content: b"", lambda content: b"[1]", lambda content: b"\xff" * 200],
    ids=["cut", "one-bit", "empty", "list", "noise"],
)
def test_damaged_entry_is_built_again(
    pattern: str,
    damage: Callable[[bytes], bytes],
    folder: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    build = _Builder()
    cached_arrays(["a"], build, "key")
    (path,) = folder.glob(pattern)
    path.write_bytes(damage(path.read_bytes()))
    assert _same(cached_arrays(["a"], build, "key"), _Builder()())
    assert _same(cached_arrays(["a"], build, "key"), _Builder()())
    assert build.count == 2
    assert "is damaged" in caplog.text


@pytest.mark.parametrize("pattern", ["*.images.npy", "*.json"])
def test_missing_part_is_built_again(pattern: str, folder: Path) -> None:
    build = _Builder()
    cached_arrays(["a"], build, "key")
    (path,) = folder.glob(pattern)
    path.unlink()
    assert _same(cached_arrays(["a"], build, "key"), _Builder()())
    assert build.count == 2


def test_failed_build_leaves_no_entry(folder: Path) -> None:
    def fail() -> Arrays:
        raise ConfigError("damaged image")

    with pytest.raises(ConfigError, match="damaged image"):
        cached_arrays(["a"], fail, "key")
    build = _Builder()
    cached_arrays(["a"], build, "key")
    assert build.count == 1


def test_folder_that_cannot_be_made_is_tolerated_with_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("SIMREG_DATA", str(tmp_path / "file" / "data"))
    build = _Builder()
    for _ in range(3):
        assert _same(cached_arrays(["a"], build, "key"), _Builder()())
    assert build.count == 3
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "cannot be written" in caplog.text


def test_full_disk_is_tolerated(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    build = _Builder()
    assert _same(cached_arrays(["a"], build, "key"), _Builder()())
    assert "No space left on device" in caplog.text
    assert [path.suffix for path in folder.iterdir()] == [".lock"]


def test_data_folder_is_the_environments_or_below_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMREG_DATA", "/some/folder")
    assert data_folder("key") == Path("/some/folder")
    monkeypatch.setenv("HOME", "/home/someone")
    for empty in (True, False):
        monkeypatch.setenv("SIMREG_DATA", "") if empty else monkeypatch.delenv("SIMREG_DATA")
        assert data_folder("key") == Path("/home/someone/.cache/simreg-tune")


def test_relative_data_folder_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMREG_DATA", "data")
    with pytest.raises(ConfigError, match=r"^key: .* SIMREG_DATA is 'data'; allowed: the abs"):
        data_folder("key")


def test_stamp_of_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^key: .*absent\.png cannot be read: No such file"):
        file_stamp(tmp_path / "absent.png", "key")
