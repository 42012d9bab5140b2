from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from simreg_core.errors import ConfigError
from simreg_core.results.schema import SCHEMA_VERSION, TABLES, VERSION_KEY, arrow_schema, metrics_in
from simreg_core.results.tables import ResultStore, read_table

ROOT = Path(__file__).parents[3]
# Writes trials of 300 rows as fast as it can, until it is killed; prints a line for every trial.
WRITE_LOOP = """
import itertools, sys
from pathlib import Path
from simreg_core.results.tables import ResultStore

store = ResultStore(Path(sys.argv[1]))
for number in itertools.count():
    rows = [{"role": "trial", "trial": number, "epsilon": float(i)} for i in range(300)]
    store.write_trial("curves", number, rows)
    print(number, flush=True)
"""


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    store = ResultStore(tmp_path)
    store.create()
    return store


@pytest.mark.parametrize("table", TABLES)
def test_empty_table_is_readable_and_has_its_columns(table: str, store: ResultStore) -> None:
    names = {"float64": "double", "list<float64>": "list<item: double>"}
    columns = [(column.name, names.get(column.dtype, column.dtype)) for column in TABLES[table]]
    assert [(field.name, str(field.type)) for field in arrow_schema(table)] == columns
    frame = pd.read_parquet(store.folder / table)
    assert list(frame.columns) == [name for name, _ in columns]
    assert store.read(table) == []


def test_rows_come_back_as_they_were_written_in_order_of_part_names(store: ResultStore) -> None:
    row: dict[str, Any] = dict.fromkeys(column.name for column in TABLES["epochs"])
    row |= {"role": "trial", "task_loss": 0.1, "gamma": [0.5, 1 / 3]}
    for number in (10, 2, 7):
        store.write("epochs", f"{number:05d}", [{**row, "trial": number}])
    assert store.read("epochs") == [{**row, "trial": number} for number in (2, 7, 10)]


def test_writing_a_part_again_replaces_it(store: ResultStore) -> None:
    assert not store.has("trials", "00000")
    for status in ("failed", "complete"):
        store.write("trials", "00000", [{"trial": 0, "status": status}])
        assert store.has("trials", "00000")
        assert [row["status"] for row in store.read("trials")] == [status]


def test_parts_carry_the_schema_and_the_types_of_columns_that_are_null_everywhere(
    store: ResultStore,
) -> None:
    # A type that is guessed from the first part would make the folder unreadable after the second.
    store.write("trials", "00000", [{"trial": 0, "status": "failed"}])
    store.write("trials", "00001", [{"trial": 1, "validation.clean_accuracy": 0.5, "seed": 4}])
    schema = pq.read_schema(store.folder / "trials" / "00000.parquet")
    assert schema.metadata[VERSION_KEY] == str(SCHEMA_VERSION).encode()
    assert schema.field("status").metadata[b"description"].startswith(b"complete")
    assert schema.field("validation.clean_accuracy").type == pa.float64()
    frame = pd.read_parquet(store.folder / "trials")
    assert sorted(frame["validation.clean_accuracy"].dropna()) == [0.5]


def test_unknown_column_is_refused_by_name(store: ResultStore) -> None:
    with pytest.raises(ValueError, match="table curves has no columns acuracy"):
        store.write("curves", "trial-00000", [{"role": "trial", "acuracy": 0.5}])
    assert not store.has("curves", "trial-00000")


@pytest.mark.parametrize("value", [object(), "0.5", [0.5]], ids=["object", "text", "list"])
def test_failed_write_keeps_the_part_that_was_there_and_leaves_no_other(
    value: object, store: ResultStore
) -> None:
    store.write("curves", "trial-00000", [{"accuracy": 0.5}])
    before = sorted(store.folder.rglob("*"))
    for part in ("trial-00000", "trial-00001"):
        with pytest.raises((pa.ArrowException, TypeError)):
            store.write("curves", part, [{"accuracy": value}])
    assert sorted(store.folder.rglob("*")) == before
    assert [row["accuracy"] for row in store.read("curves")] == [0.5]


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1 cut off", b"not parquet"], ids=repr)
def test_damaged_file_is_named_when_it_is_read(content: bytes, store: ResultStore) -> None:
    (store.folder / "trials" / "00000.parquet").write_bytes(content)
    with pytest.raises(ConfigError, match=r"trials/00000\.parquet"):
        store.read("trials")


def with_type(table: pa.Table, column: str, kind: pa.DataType) -> pa.Table:
    index = table.schema.get_field_index(column)
    return table.set_column(index, column, table.column(column).cast(kind))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda t: t.drop_columns(["host"]), "host"),
        (lambda t: t.append_column("surprise", pa.array([1])), "surprise"),
        (lambda t: with_type(t, "validation.clean_accuracy", pa.string()), "clean_accuracy"),
        (lambda t: with_type(t, "trial", pa.float64()), "trial is double"),
        (lambda t: t.append_column("host", t.column("host")), "twice"),
        (lambda t: t.replace_schema_metadata({VERSION_KEY: b"999"}), "version 999"),
        (lambda t: t.replace_schema_metadata(None), "version none"),
    ],
    ids=["missing", "unknown", "number as text", "integer as float", "twice", "version", "none"],
)
def test_file_of_another_schema_is_refused(
    change: Callable[[pa.Table], pa.Table], named: str, store: ResultStore
) -> None:
    store.write("trials", "00000", [{"trial": 0}])
    path = store.folder / "trials" / "00000.parquet"
    pq.write_table(change(pq.ParquetFile(path).read()), path)
    with pytest.raises(ConfigError, match=rf"00000\.parquet: .*{named}"):
        store.read("trials")


def test_folder_or_table_that_is_missing_is_refused(store: ResultStore) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        read_table(store.folder / "nowhere", "trials")
    shutil.rmtree(store.folder / "curves")
    with pytest.raises(ConfigError, match="curves"):
        read_table(store.folder, "curves")


def test_some_columns_and_trials_are_read_alone(store: ResultStore) -> None:
    rows = [{"trial": number, "epoch": 2} for number in (0, 1, None, 2)]
    store.write("epochs", "a", rows)
    found = read_table(store.folder, "epochs", columns=["epoch", "trial"], trials={1, 7})
    assert found.to_pylist() == [{"epoch": 2, "trial": 1}, {"epoch": 2, "trial": None}]


STRIPES, UNIFORM = "validation.robust_accuracy.my:stripes", "test.robust_accuracy.uniform"


def test_tables_with_and_without_optional_columns_are_read_together(store: ResultStore) -> None:
    store.write("trials", "a", [{"trial": 0, "seed": 1}])
    store.write("trials", "b", [{"trial": 1, STRIPES: 0.25}])
    store.write("trials", "c", [{"trial": 2, UNIFORM: 0.5, STRIPES: None}])
    found = {row["trial"]: (row[STRIPES], row[UNIFORM]) for row in store.read("trials")}
    assert found == {0: (None, None), 1: (0.25, None), 2: (None, 0.5)}
    table = read_table(store.folder, "trials")
    assert table.schema.names == [*arrow_schema("trials").names, STRIPES, UNIFORM]
    assert {STRIPES.partition(".")[2], UNIFORM.partition(".")[2]} <= set(metrics_in(table.schema))
    absent = "test.robust_accuracy.none"
    some = read_table(store.folder, "trials", columns=["trial", UNIFORM, absent])
    assert some["trial"].to_pylist() == [0, 1, 2]
    assert some[UNIFORM].to_pylist() == [None, None, 0.5]
    assert absent not in some.schema.names
    whole = pq.read_schema(store.folder / "trials" / "b.parquet")
    assert whole.metadata == arrow_schema("trials").metadata


def test_trials_of_one_block_have_optional_columns_of_their_own(store: ResultStore) -> None:
    for number, row in enumerate(({}, {STRIPES: 0.25}, {UNIFORM: 0.5}, {})):
        store.write_trial("trials", number, [{"trial": number, **row}])
    store.write_trial("trials", 1, [{"trial": 1, STRIPES: 0.75}])
    rows = [(row["trial"], row[STRIPES], row[UNIFORM]) for row in store.read("trials")]
    assert rows == [(0, None, None), (1, 0.75, None), (2, None, 0.5), (3, None, None)]


def test_file_that_is_still_being_written_is_not_read(store: ResultStore) -> None:
    store.write("trials", "00000", [{"trial": 0}])
    (store.folder / "trials" / ".00001.parquet.77.tmp").write_bytes(b"PAR1 half")
    assert len(store.read("trials")) == len(pd.read_parquet(store.folder / "trials")) == 1


# blocks of trials


def names(store: ResultStore, table: str) -> list[str]:
    return sorted(path.name for path in (store.folder / table).iterdir())


def curves_of(number: int, *accuracies: float) -> list[dict[str, Any]]:
    return [{"role": "trial", "trial": number, "accuracy": value} for value in accuracies]


def pairs_of(frame: pd.DataFrame) -> list[tuple[int, float]]:
    return list(zip(frame["trial"], frame["accuracy"], strict=True))


def test_rows_are_those_written_last_whatever_the_order(store: ResultStore) -> None:
    """Against a dictionary, with trials that end out of order, again, and with other rows."""
    rng = random.Random(0)
    store.write("curves", "baseline-a-1", [{"role": "baseline", "accuracy": 2.0}])
    expected: dict[int, list[float]] = {}
    for _ in range(40):
        number = rng.choice([0, 1, 2, 50, 198, 199, 200, 201, 450])
        expected[number] = [rng.random() for _ in range(rng.randrange(4))]
        # A process of its own now and then: none rests on what it has written before.
        writer = store if rng.random() < 0.5 else ResultStore(store.folder)
        writer.write_trial("curves", number, curves_of(number, *expected[number]))
        frame = pd.read_parquet(store.folder / "curves")
        assert list(frame[frame["trial"].isna()]["accuracy"]) == [2.0]
        assert pairs_of(frame.dropna(subset="trial")) == [
            (number, value) for number in sorted(expected) for value in expected[number]
        ]


def test_damaged_block_is_named_and_left_alone(store: ResultStore) -> None:
    store.write_trial("trials", 3, [{"trial": 3}])
    path = store.folder / "trials" / "00000-00199.parquet"
    damaged = path.read_bytes()[:-20]
    path.write_bytes(damaged)
    with pytest.raises(ConfigError, match=f"^{path}: not a readable Parquet file: [^\n]*$"):
        store.write_trial("trials", 4, [{"trial": 4}])
    assert path.read_bytes() == damaged


@pytest.mark.parametrize("other", [4, None])
def test_rows_of_another_trial_are_refused(other: int | None, store: ResultStore) -> None:
    with pytest.raises(ValueError, match="table curves: a row is not of trial 3"):
        store.write_trial("curves", 3, [{"trial": 3}, {"trial": other}])
    assert names(store, "curves") == ["empty.parquet"]


def test_blocks_are_written_and_read_in_an_object_store(bucket: Path) -> None:
    store = ResultStore(bucket / "search")
    store.create()
    for number in (200, 1, 0, 1):
        store.write_trial("curves", number, curves_of(number, 0.1, 0.2))
    blocks = ["00000-00199", "00200-00399", "empty"]
    assert names(store, "curves") == [f"{block}.parquet" for block in blocks]
    rows = [(row["trial"], row["accuracy"]) for row in store.read("curves")]
    assert rows == [(n, value) for n in (0, 1, 200) for value in (0.1, 0.2)]


@pytest.mark.slow  # Arrow is imported anew by every process that is killed
def test_kill_at_any_moment_of_writing_leaves_whole_trials(store: ResultStore) -> None:
    for kill in range(8):
        command = [sys.executable, "-c", WRITE_LOOP, str(store.folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "0\n"
            while_written = pd.read_parquet(store.folder / "curves")
            assert process.stdout.readline() == "1\n"
            time.sleep(0.05 + 0.0017 * kill)  # a write takes a few milliseconds
            process.send_signal(signal.SIGKILL)
            done = [0, 1, *(int(line) for line in process.stdout.read().split())]
        after = pd.read_parquet(store.folder / "curves")
        for frame in (while_written, after):
            assert set(frame.groupby("trial")["epsilon"].agg(tuple)) == {tuple(range(300))}
        assert set(done) <= set(after["trial"])
        assert len(after) == len(store.read("curves"))
