from __future__ import annotations

import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.tuner_tests.drivers import Driver, report
from tests.tuner_tests.spaces import make_space
from tuner.study.file_journal import FileJournalBackend, repair_journal
from tuner.study.study import open_study, read_study

RECORDS = [{"op_code": 4, "worker_id": "w", "number": number} for number in range(3)]
LINE = len(json.dumps(RECORDS[0], separators=(",", ":"))) + 1


@contextmanager
def full_disk(path: Path, room: int) -> Iterator[None]:
    """No file grows beyond the size of this one and ``room`` bytes; a write stops there."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + room, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "study.journal"


@pytest.mark.parametrize("room", [0, 1, LINE - 1, LINE, LINE + 5])
def test_failed_append_leaves_whole_lines_and_is_the_last(room: int, path: Path) -> None:
    journal = FileJournalBackend(path)
    journal.append_logs(RECORDS[:1])
    before = path.read_bytes()
    with full_disk(path, room), pytest.raises(OSError, match="File too large"):
        journal.append_logs(RECORDS[1:])
    assert path.read_bytes() == before
    with pytest.raises(OSError, match="File too large"):  # also now that there is room
        journal.append_logs(RECORDS[1:])
    assert path.read_bytes() == before
    FileJournalBackend(path).append_logs(RECORDS[1:])
    assert list(FileJournalBackend(path).read_logs(0)) == RECORDS
    assert os.listdir(path.parent) == [path.name]  # no lock is left


def test_interrupted_append_leaves_whole_lines(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = FileJournalBackend(path)
    journal.append_logs(RECORDS[:1])
    before = path.read_bytes()

    def interrupt(_: int) -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        journal.append_logs(RECORDS[1:])
    assert path.read_bytes() == before


def test_part_of_a_line_by_another_program_is_cut_before_the_next_line(path: Path) -> None:
    journal = FileJournalBackend(path)
    journal.append_logs(RECORDS[:1])
    with path.open("a") as stream:
        stream.write('{"op_code":4,')
    journal.append_logs(RECORDS[1:])
    assert list(FileJournalBackend(path).read_logs(0)) == RECORDS


@pytest.mark.parametrize(
    "tail",
    [b'{"op_code":4,"wor', b'{"op_code":4,"wor\n', b"\0" * 512, b'{"a\n{"b', b"\n", b"7\n"],
    ids=["part", "part-and-break", "zeros", "two", "empty-line", "no-record"],
)
def test_what_follows_the_last_whole_line_is_cut_on_opening(tail: bytes, path: Path) -> None:
    FileJournalBackend(path).append_logs(RECORDS)
    whole = path.read_bytes()
    path.write_bytes(whole + tail)
    repair_journal(path)
    assert path.read_bytes() == whole


def test_nothing_is_cut_from_a_file_without_any_record(path: Path) -> None:
    path.write_text("no journal\nat all\n")
    repair_journal(path)
    assert path.read_text() == "no journal\nat all\n"


def test_search_on_a_disk_that_is_full_for_a_moment_can_be_resumed(
    tmp_path: Path, path: Path
) -> None:
    space = make_space(tmp_path)
    driver = Driver(tmp_path, space)
    for name in ("a", "b"):
        driver.ask(name)
    before = path.read_bytes()
    with full_disk(path, 20):
        driver.searcher.on_trial_complete("a", report())
    assert isinstance(driver.searcher.error, OSError)
    assert driver.searcher.is_lost("b", {})
    driver.searcher.on_trial_complete("b", report())
    driver.searcher.fail("b", "worker lost")
    assert path.read_bytes() == before
    assert [outcome.number for outcome in driver.outcomes] == [0]
    open_study(tmp_path, space)
    assert [trial.state.name for trial in read_study(tmp_path, space).trials] == ["RUNNING"] * 2
