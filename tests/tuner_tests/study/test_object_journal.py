from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage

from simreg_core.storage.atomic import write_text
from tests.object_stores import bucket, make_bucket, s3_server
from tuner.study.object_journal import ObjectJournalBackend, batched

__all__ = ["bucket", "make_bucket", "s3_server"]


def line(number: int) -> dict[str, Any]:
    return {"op_code": 2, "number": number, "text": "±"}


def journal(folder: Path) -> ObjectJournalBackend:
    return ObjectJournalBackend(folder / "study.journal")


def numbers(folder: Path) -> list[int]:
    return [log["number"] for log in journal(folder).read_logs(0)]


def objects(folder: Path) -> list[str]:
    return sorted(place.name for place in (folder / "study.journal").iterdir())


def test_lines_are_in_the_store_when_the_append_returns(bucket: Path) -> None:
    writer = journal(bucket)
    assert numbers(bucket) == []
    writer.append_logs([line(0)])
    assert numbers(bucket) == [0]
    writer.append_logs([line(1), line(2)])
    assert numbers(bucket) == [0, 1, 2]
    assert list(writer.read_logs(1)) == [line(1), line(2)]


def test_batch_is_one_object_when_it_ends(bucket: Path) -> None:
    writer = journal(bucket)
    with writer.batch():
        writer.append_logs([line(0)])
        writer.append_logs([line(1), line(2)])
        assert [log["number"] for log in writer.read_logs(0)] == [0, 1, 2]
        assert numbers(bucket) == []
    with writer.batch():
        pass
    writer.append_logs([line(3)])
    assert numbers(bucket) == [0, 1, 2, 3]
    assert objects(bucket) == ["0000000000.jsonl", "0000000003.jsonl"]


@pytest.mark.parametrize("count", [1, 2])
def test_second_writer_cannot_continue_the_same_journal(count: int, bucket: Path) -> None:
    first, second = journal(bucket), journal(bucket)
    first.append_logs([line(0)])
    with pytest.raises(FileExistsError):
        second.append_logs([line(number) for number in range(7, 7 + count)])
    with pytest.raises(FileExistsError):  # nothing follows a failed append
        second.append_logs([line(9)])
    assert numbers(bucket) == [0]


def test_append_whose_answer_was_lost_is_not_an_error(bucket: Path) -> None:
    writer = journal(bucket)
    write_text(bucket / "study.journal" / "0000000000.jsonl", '{"number":0}\n')
    writer.append_logs([{"number": 0}])
    assert numbers(bucket) == [0]


def test_missing_line_is_an_error(bucket: Path) -> None:
    writer = journal(bucket)
    for number in range(3):
        writer.append_logs([line(number)])
    (bucket / "study.journal" / "0000000001.jsonl").unlink()
    with pytest.raises(OSError, match="line 1 of the study's journal is missing"):
        journal(bucket)


def test_study_reads_as_it_was_written(bucket: Path) -> None:
    def storage() -> JournalStorage:
        return JournalStorage(journal(bucket))

    study = optuna.create_study(
        storage=storage(), study_name="s", directions=["maximize", "minimize"]
    )
    for number in range(6):
        with batched(study):
            trial = study.ask()
            x = trial.suggest_float("x", 0, 1)
        found = optuna.load_study(study_name="s", storage=storage()).trials[-1]
        assert found.params == {"x": x}  # before a worker could be given it
        with batched(study):
            study.tell(trial, [x, 1 - x])
        assert len(objects(bucket)) == 1 + 2 * (number + 1)
    again = optuna.load_study(study_name="s", storage=storage())
    assert again.trials == study.trials
