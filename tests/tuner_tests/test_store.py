from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from simreg_core.records import SCHEMA_VERSION, TABLES, VERSION_KEY, arrow_schema
from tuner.store import ResultStore

ROOT = Path(__file__).parents[2]
# Writes parts of 300 rows as fast as it can, until it is killed; prints a line for every part.
WRITE_LOOP = """
import itertools, sys
from pathlib import Path
from tuner.store import ResultStore

store = ResultStore(Path(sys.argv[1]))
for number in itertools.count():
    rows = [{"role": "trial", "trial": number, "epsilon": float(i)} for i in range(300)]
    store.write("curves", f"part-{number % 5}", rows)
    print(number, flush=True)
"""


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    store = ResultStore(tmp_path)
    store.create()
    return store


@pytest.mark.parametrize("table", TABLES)
def test_columns_are_those_of_the_records(table: str) -> None:
    schema = arrow_schema(table)
    assert [(field.name, str(field.type)) for field in schema] == [
        (column.name, {"float64": "double", "list<float64>": "list<item: double>"}.get(
            column.dtype, column.dtype
        ))
        for column in TABLES[table]
    ]  # fmt: skip


def test_parts_carry_schema_version_and_descriptions(store: ResultStore) -> None:
    store.write("trials", "00000", [{"trial": 0}])
    schema = pq.read_schema(store.folder / "trials" / "00000.parquet")
    assert schema.metadata[VERSION_KEY] == str(SCHEMA_VERSION).encode()
    assert schema.field("status").metadata[b"description"].startswith(b"complete")


@pytest.mark.parametrize("table", TABLES)
def test_empty_table_is_readable_and_has_its_columns(table: str, store: ResultStore) -> None:
    frame = pd.read_parquet(store.folder / table)
    assert list(frame.columns) == [column.name for column in TABLES[table]]
    assert len(frame) == 0
    assert store.read(table) == []


def test_rows_come_back_as_they_were_written(store: ResultStore) -> None:
    row: dict[str, Any] = dict.fromkeys(column.name for column in TABLES["epochs"])
    row |= {"trial": 3, "role": "trial", "task_loss": 0.1, "gamma": [0.5, 1 / 3]}
    store.write("epochs", "trial-00003", [row])
    assert store.read("epochs") == [row]


def test_rows_are_read_in_order_of_part_names(store: ResultStore) -> None:
    for number in (10, 2, 7):
        store.write("trials", f"{number:05d}", [{"trial": number}])
    assert [row["trial"] for row in store.read("trials")] == [2, 7, 10]


def test_writing_a_part_again_replaces_it(store: ResultStore) -> None:
    store.write("trials", "00000", [{"trial": 0, "status": "failed"}])
    store.write("trials", "00000", [{"trial": 0, "status": "complete"}])
    assert [row["status"] for row in store.read("trials")] == ["complete"]


def test_part_exists_once_it_is_written(store: ResultStore) -> None:
    assert not store.has("trials", "00000")
    store.write("trials", "00000", [{"trial": 0}])
    assert store.has("trials", "00000")


def test_columns_that_are_null_everywhere_keep_their_type(store: ResultStore) -> None:
    # The first part says nothing of these columns; a guessed type would be null, and the folder
    # unreadable as soon as another part has numbers.
    store.write("trials", "00000", [{"trial": 0, "status": "failed"}])
    store.write("trials", "00001", [{"trial": 1, "validation.clean_accuracy": 0.5, "seed": 4}])
    schema = pq.read_schema(store.folder / "trials" / "00000.parquet")
    assert schema.field("validation.clean_accuracy").type == pa.float64()
    frame = pd.read_parquet(store.folder / "trials")
    assert sorted(frame["validation.clean_accuracy"].dropna()) == [0.5]


def test_unknown_column_is_refused_by_name(store: ResultStore) -> None:
    with pytest.raises(ValueError, match="table curves has no columns acuracy"):
        store.write("curves", "trial-00000", [{"role": "trial", "acuracy": 0.5}])
    assert not store.has("curves", "trial-00000")


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(object(), id="object"),
        pytest.param("0.5", id="text-for-a-number"),
        pytest.param([0.5], id="list-for-a-number"),
    ],
)
def test_failed_write_leaves_nothing_behind(value: object, store: ResultStore) -> None:
    before = sorted(store.folder.rglob("*"))
    with pytest.raises((pa.ArrowException, TypeError)):
        store.write("curves", "trial-00000", [{"accuracy": value}])
    assert sorted(store.folder.rglob("*")) == before


def test_failed_write_keeps_the_part_that_was_there(store: ResultStore) -> None:
    store.write("curves", "trial-00000", [{"accuracy": 0.5}])
    with pytest.raises(pa.ArrowException):
        store.write("curves", "trial-00000", [{"accuracy": "much"}])
    assert [row["accuracy"] for row in store.read("curves")] == [0.5]


def test_damaged_part_is_an_error_when_read(store: ResultStore) -> None:
    (store.folder / "trials" / "00000.parquet").write_bytes(b"PAR1 cut off")
    with pytest.raises(pa.ArrowInvalid):
        store.read("trials")


def test_file_that_is_still_being_written_is_not_read(store: ResultStore) -> None:
    store.write("trials", "00000", [{"trial": 0}])
    (store.folder / "trials" / ".00001.parquet.77.tmp").write_bytes(b"PAR1 half")
    assert len(store.read("trials")) == len(pd.read_parquet(store.folder / "trials")) == 1


@pytest.mark.slow  # Arrow is imported anew by every process that is killed
def test_kill_at_any_moment_of_writing_leaves_whole_parts(store: ResultStore) -> None:
    for kill in range(8):
        command = [sys.executable, "-c", WRITE_LOOP, str(store.folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "0\n"
            time.sleep(0.05 + 0.0017 * kill)  # a write takes a few milliseconds
            process.send_signal(signal.SIGKILL)
        parts = [p for p in (store.folder / "curves").iterdir() if p.suffix == ".parquet"]
        assert len(parts) > 1
        for part in parts:
            assert len(pq.read_table(part)) == (0 if part.stem == "empty" else 300)
        assert len(pd.read_parquet(store.folder / "curves")) == len(store.read("curves"))
