"""Files of a results folder of somebody else's."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from simreg_core.storage.atomic import write_text
from simreg_core.storage.base import Storage
from simreg_core.storage.json_text import parse_json
from simreg_core.storage.location import open_inside, read_json_inside, read_text_inside
from simreg_core.storage.opening import UnusableFile

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(params=["disk", "store"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A results folder on this machine, or an empty bucket."""
    if request.param == "store":
        found: Path = request.getfixturevalue("bucket")
        return found
    (tmp_path / "study").mkdir()
    return tmp_path / "study"


def test_files_are_read_and_large_ones_refused(folder: Path) -> None:
    path = folder / "deep" / "a.json"
    write_text(path, '{"a": "±"}')
    assert read_json_inside(path, folder) == {"a": "±"}
    with open_inside(path, folder) as stream:
        assert stream.read() == '{"a": "±"}'.encode()
    with pytest.raises(UnusableFile, match="11 bytes; allowed: at most 10"):
        read_text_inside(path, folder, 10)
    with pytest.raises(FileNotFoundError):
        read_text_inside(folder / "absent", folder)


def test_links_are_followed_inside_the_folder_only(tmp_path: Path) -> None:
    folder, outside = tmp_path / "study", tmp_path / "outside"
    for place in (folder / "own", outside):
        write_text(place / "a.txt", place.name)
    (folder / "file").symlink_to("own/a.txt")
    (folder / "folder").symlink_to(folder / "own")
    (folder / "out").symlink_to(outside)
    (folder / "out.txt").symlink_to(outside / "a.txt")
    (folder / "up.txt").symlink_to("own/../../outside/a.txt")
    (folder / "circle").symlink_to("circle")
    (tmp_path / "link").symlink_to(folder)
    for root in (folder, tmp_path / "link"):
        for name in ("file", "folder/a.txt"):
            assert read_text_inside(root / name, root) == "own"
        for name in ("out/a.txt", "out.txt", "up.txt", "own/../../outside/a.txt"):
            with pytest.raises(UnusableFile, match="a link that leads out of the folder"):
                read_text_inside(root / name, root)
        with pytest.raises(OSError, match="circle"):
            read_text_inside(root / "circle", root)


@pytest.mark.parametrize("kind", ["pipe", "socket", "folder", "device"])
def test_only_regular_files_are_opened(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "socket":
            with socket.socket(socket.AF_UNIX) as bound:
                bound.bind(str(path))
        case "folder":
            path.mkdir()
        case "device":
            path = Path("/dev/zero")
    with pytest.raises(UnusableFile, match="not a regular file"):
        read_text_inside(path, path.parent)
    assert Storage().read_heartbeat(path) == {}


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "NaN", "[-Infinity]", "1e999", "-1e999", "9223372036854775808", "1" * 5000),
        *('"\\ud800"', '{"\\udfff": 0}', "[" * 101 + "]" * 101, "[" * 100_000, '{"a":' * 9_000),
    ],
    ids=lambda text: text[:12],
)
def test_json_is_strict(text: str) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        parse_json(text)
    assert len(str(error.value)) < 200


def test_json_types() -> None:
    text = '{"a": [1, -2.5e3, true, null, "\\ud83d\\ude00", 9223372036854775807]}'
    assert parse_json(text) == {"a": [1, -2500.0, True, None, "😀", 2**63 - 1]}
    assert parse_json("[" * 99 + "1" + "]" * 99)
