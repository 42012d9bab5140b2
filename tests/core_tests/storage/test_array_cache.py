from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simreg_core.errors import ConfigError
from simreg_core.storage.array_cache import Arrays, cached_arrays, data_folder


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

    def load(self, *identity: Any) -> Arrays:
        """The cached arrays of an identity, after checking them."""
        found, expected = cached_arrays(list(identity), self), _Builder()()
        np.testing.assert_equal(found, expected)
        assert [array.dtype for array in found.values()] == [a.dtype for a in expected.values()]
        return found


@pytest.mark.usefixtures("folder")
def test_second_load_reads_what_the_first_built_whatever_is_written_to_it() -> None:
    build = _Builder()
    for _ in range(3):
        build.load("a")["images"][:] = 255
    assert build.count == 1


@pytest.mark.usefixtures("folder")
def test_other_identity_is_built_again() -> None:
    build = _Builder()
    for identity in (["a"], ["b"], ["a", "b"], [["a", "b"]], ["a", None]):
        build.load(*identity)
    assert build.count == 5


@pytest.mark.parametrize("pattern", ["*.images.npy", "*.labels.npy", "*.json"])
@pytest.mark.parametrize("damage", ["cut", "one-bit", b"", b"[1]", b"\xff" * 200, None])
def test_damaged_or_missing_entry_is_built_again(
    pattern: str, damage: str | bytes | None, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    build = _Builder()
    build.load("a")
    (path,) = folder.glob(pattern)
    content = path.read_bytes()
    if damage is None:
        path.unlink()
    elif damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "one-bit":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif isinstance(damage, bytes):
        path.write_bytes(damage)
    for _ in range(2):
        build.load("a")
    assert build.count == 2
    assert damage is None or "is damaged" in caplog.text


@pytest.mark.usefixtures("folder")
def test_failed_build_leaves_no_entry() -> None:
    def fail() -> Arrays:
        raise ConfigError("damaged image")

    with pytest.raises(ConfigError, match="damaged image"):
        cached_arrays(["a"], fail)
    build = _Builder()
    build.load("a")
    assert build.count == 1


def test_folder_that_cannot_be_made_is_tolerated_with_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("SIMREG_DATA", str(tmp_path / "file" / "data"))
    build = _Builder()
    for _ in range(3):
        build.load("a")
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
    _Builder().load("a")
    assert "No space left on device" in caplog.text
    assert [path.suffix for path in folder.iterdir()] == [".lock"]


def test_data_folder_is_absolute_and_from_the_environment_or_below_home(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    default = "/home/someone/.cache/simreg-tune"
    for value, expected in (("/some/folder", "/some/folder"), ("", default)):
        monkeypatch.setenv("SIMREG_DATA", value)
        assert data_folder() == Path(expected)
    monkeypatch.delenv("SIMREG_DATA")
    assert data_folder() == Path(default)
    monkeypatch.setenv("SIMREG_DATA", "data")
    with pytest.raises(ConfigError, match=r"SIMREG_DATA is 'data'"):
        data_folder()
