from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage

from simreg_core.storage import location
from simreg_core.storage.atomic import write_text
from tests.object_stores import bucket, make_bucket, s3_server
from tuner.study import object_journal
from tuner.study.object_journal import ObjectJournalBackend

__all__ = ["bucket", "make_bucket", "s3_server"]


def line(number: int) -> dict[str, Any]:
    return {"op_code": 2, "number": number, "text": "±"}


def journal(folder: Path, *, merges: bool = False) -> ObjectJournalBackend:
    return ObjectJournalBackend(folder / "study.journal", merges=merges)


def numbers(folder: Path) -> list[int]:
    return [log["number"] for log in journal(folder).read_logs(0)]


def objects(folder: Path) -> list[str]:
    return sorted(place.name for place in (folder / "study.journal").iterdir())


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Merges come often, and objects are full soon."""
    monkeypatch.setattr(object_journal, "_MERGE_AT", 4)
    monkeypatch.setattr(object_journal, "_FULL", 10)


def test_journal_that_is_not_there_is_empty(bucket: Path) -> None:
    assert numbers(bucket) == []


def test_lines_are_in_the_store_when_the_append_returns(bucket: Path) -> None:
    writer = journal(bucket, merges=True)
    writer.append_logs([line(0)])
    assert numbers(bucket) == [0]
    writer.append_logs([line(1), line(2)])
    assert numbers(bucket) == [0, 1, 2]
    assert list(writer.read_logs(1)) == [line(1), line(2)]


def test_lines_stay_in_order_through_merges(bucket: Path, small: None) -> None:
    rng, written = random.Random(0), 0
    writer = journal(bucket, merges=True)
    for step in range(40):
        count = rng.randint(1, 3)
        writer.append_logs([line(number) for number in range(written, written + count)])
        written += count
        if step % 7 == 0:
            writer = journal(bucket, merges=True)
        assert len(objects(bucket)) <= 4 + written // 10
    assert numbers(bucket) == list(range(written))


def test_opening_for_writing_merges_and_reading_does_not(bucket: Path) -> None:
    writer = journal(bucket, merges=True)
    for number in range(5):
        writer.append_logs([line(number)])
    numbers(bucket)
    assert len(objects(bucket)) == 5
    journal(bucket, merges=True)
    assert objects(bucket) == ["0000000000-0000000004.jsonl"]


def test_merge_that_was_cut_short_reads_the_same(
    bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = journal(bucket, merges=True)
    for number in range(5):
        writer.append_logs([line(number)])
    with monkeypatch.context() as patch:
        patch.setattr(location, "remove", lambda places: None)  # killed before it removes
        journal(bucket, merges=True)
    assert len(objects(bucket)) == 6
    assert numbers(bucket) == [0, 1, 2, 3, 4]
    writer = journal(bucket, merges=True)
    writer.append_logs([line(5)])
    assert numbers(bucket) == [0, 1, 2, 3, 4, 5]


def test_reader_looks_again_when_a_merge_was_faster(
    bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = journal(bucket, merges=True)
    for number in range(3):
        writer.append_logs([line(number)])
    read, calls = location.read_all, []

    def late(found: list[Path]) -> Any:
        calls.append(len(found))
        if len(calls) == 1:
            writer._merge()
        return read(found)

    monkeypatch.setattr(location, "read_all", late)
    assert numbers(bucket) == [0, 1, 2]
    assert calls == [3, 1]


def test_second_writer_cannot_replace_a_line(bucket: Path) -> None:
    first, second = journal(bucket, merges=True), journal(bucket, merges=True)
    first.append_logs([line(0)])
    with pytest.raises(FileExistsError):
        second.append_logs([line(7)])
    assert numbers(bucket) == [0]


def test_append_whose_answer_was_lost_is_not_an_error(bucket: Path) -> None:
    writer = journal(bucket, merges=True)
    write_text(bucket / "study.journal" / "0000000000-0000000000.jsonl", '{"number":0}\n')
    writer.append_logs([{"number": 0}])
    assert numbers(bucket) == [0]


def test_missing_line_is_an_error(bucket: Path) -> None:
    writer = journal(bucket, merges=True)
    for number in range(3):
        writer.append_logs([line(number)])
    (bucket / "study.journal" / "0000000001-0000000001.jsonl").unlink()
    with pytest.raises(OSError, match="line 1 of the study's journal is missing"):
        journal(bucket)


def test_study_reads_as_it_was_written(bucket: Path, small: None) -> None:
    def storage(*, merges: bool) -> JournalStorage:
        return JournalStorage(journal(bucket, merges=merges))

    study = optuna.create_study(
        storage=storage(merges=True), study_name="s", directions=["maximize", "minimize"]
    )
    for _ in range(6):
        trial = study.ask()
        x = trial.suggest_float("x", 0, 1)
        found = optuna.load_study(study_name="s", storage=storage(merges=False)).trials[-1]
        assert found.params == {"x": x}  # before a worker could be given it
        study.tell(trial, [x, 1 - x])
    again = optuna.load_study(study_name="s", storage=storage(merges=True))
    assert again.trials == study.trials
