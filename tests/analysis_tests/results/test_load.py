from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.results.load import (
    NoTrialsError,
    ResultsError,
    load_results,
    load_started,
    load_table,
    require_finite,
)
from simreg_core.results.schema import SCHEMA_VERSION, TABLES, arrow_schema
from tests.analysis_tests.result_rows import (
    baseline_curves,
    complete_row,
    confirmation_rows,
    ended_row,
    table_schema,
    write_part,
    write_results,
)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return write_results(tmp_path / "demo", [complete_row(0, 0.9, 0.5), complete_row(1, 0.8, 0.6)])


@pytest.mark.parametrize("table", TABLES)
def test_every_table_has_the_columns_of_the_schema(table: str, tmp_path: Path) -> None:
    write_part(tmp_path, table, "a.parquet", [{}])
    loaded = load_table(tmp_path, table)
    assert list(loaded.columns) == [column.name for column in TABLES[table]]
    assert len(loaded) == 1


def test_nulls_keep_the_types_of_columns(results: Path) -> None:
    curves = load_table(results, "curves")
    assert curves["trial"].dtype == pd.Int64Dtype()
    assert curves["trial"].isna().all()
    assert curves["seed"].tolist()[0] == 101
    assert curves["is_reference"].dtype == pd.BooleanDtype()


def test_large_integers_beside_nulls_stay_exact(tmp_path: Path) -> None:
    write_part(tmp_path, "curves", "a.parquet", [{"seed": 2**53 + 1}, {"seed": None}])
    assert load_table(tmp_path, "curves")["seed"].iloc[0] == 2**53 + 1


def test_lists_come_back(tmp_path: Path) -> None:
    write_part(tmp_path, "epochs", "a.parquet", [{"gamma": [0.25, 0.75]}, {"gamma": None}])
    gamma = load_table(tmp_path, "epochs")["gamma"]
    assert list(gamma.iloc[0]) == [0.25, 0.75]
    assert gamma.iloc[1] is None


def test_rows_come_in_order_of_the_trials_number(tmp_path: Path) -> None:
    write_part(tmp_path, "trials", "a.parquet", [complete_row(7, 0.9, 0.5)])
    write_part(tmp_path, "trials", "b.parquet", [complete_row(2, 0.9, 0.5)])
    write_part(tmp_path, "curves", "a.parquet", [])
    assert load_results(tmp_path).trials["trial"].tolist() == [2, 7]


def test_the_loader_reads_what_pandas_reads(results: Path) -> None:
    ours = load_table(results, "trials")
    theirs = pd.read_parquet(results / "trials")
    assert ours["validation.clean_accuracy"].tolist() == [0.9, 0.8]
    assert theirs["validation.clean_accuracy"].tolist() == [0.9, 0.8]


@pytest.mark.parametrize("name", [".00009.parquet", "_00009.parquet", "00009.parquet.tmp"])
def test_files_being_written_are_ignored(results: Path, name: str) -> None:
    (results / "trials" / name).write_bytes(b"PAR1 half a file")
    assert len(load_table(results, "trials")) == 2


def test_equals_sign_in_a_folder_name_adds_no_column(tmp_path: Path) -> None:
    folder = write_results(tmp_path / "seed=5", [complete_row(0, 0.9, 0.5)])
    assert load_table(folder, "trials")["seed"].tolist() == [0]


def test_absent_confirmation_is_an_empty_table(results: Path) -> None:
    confirmation = load_results(results).confirmation
    assert confirmation.empty
    assert list(confirmation.columns) == [column.name for column in TABLES["confirmation"]]


def test_confirmation_is_read(results: Path) -> None:
    write_part(results, "confirmation", "a.parquet", confirmation_rows(1, {5: (0.8, 0.6)}))
    assert load_results(results).confirmation["seed"].tolist() == [5]


def rewrite(folder: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Replace the file of trial 1 by a changed one that keeps its schema version."""
    path = folder / "trials" / "00001.parquet"
    table = change(pq.read_table(path))
    pq.write_table(table.replace_schema_metadata(table_schema("trials").metadata), path)


def with_type(table: pa.Table, column: str, kind: pa.DataType) -> pa.Table:
    index = table.schema.get_field_index(column)
    return table.set_column(index, column, table.column(column).cast(kind))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop_columns(["host"]), r"00001\.parquet: columns are missing: host"),
        (
            lambda t: t.append_column("surprise", pa.array([1])),
            r"00001\.parquet: unknown columns: surprise",
        ),
        (
            lambda t: with_type(t, "validation.clean_accuracy", pa.string()),
            r"validation\.clean_accuracy is string; allowed: double",
        ),
        (
            lambda t: with_type(t, "trial", pa.float64()),
            r"00001\.parquet: trial is double; allowed: int64",
        ),
        (lambda t: t.append_column("host", t.column("host")), "a column occurs twice"),
    ],
    ids=["missing", "unknown", "number as text", "integer as float", "twice"],
)
def test_wrong_columns_are_refused(
    results: Path, change: Callable[[pa.Table], pa.Table], message: str
) -> None:
    rewrite(results, change)
    with pytest.raises(ResultsError, match=message):
        load_table(results, "trials")


@pytest.mark.parametrize("version", ["999", "", None], ids=["future", "empty", "none"])
def test_unknown_schema_version_is_refused(results: Path, version: str | None) -> None:
    write_part(results, "trials", "00002.parquet", [complete_row(2, 0.9, 0.5)], version=version)
    found = "none" if version is None else version
    with pytest.raises(ResultsError, match=f"00002.*version {found}; allowed: {SCHEMA_VERSION}"):
        load_table(results, "trials")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not parquet at all"], ids=repr)
def test_unreadable_file_is_named(results: Path, content: bytes) -> None:
    (results / "trials" / "00005.parquet").write_bytes(content)
    with pytest.raises(ResultsError, match=r"00005\.parquet: not a readable Parquet file"):
        load_table(results, "trials")


def test_truncated_file_is_named(results: Path) -> None:
    path = results / "trials" / "00001.parquet"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ResultsError, match=r"00001\.parquet: not a readable"):
        load_table(results, "trials")


def test_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="nowhere: no such folder"):
        load_results(tmp_path / "nowhere")


@pytest.mark.parametrize("table", ["trials", "curves"])
def test_folder_without_a_table_is_refused(results: Path, table: str) -> None:
    for path in (results / table).iterdir():
        path.unlink()
    (results / table).rmdir()
    with pytest.raises(ResultsError, match=f"demo: no {table}/ in it"):
        load_results(results)


def test_no_trials_yet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "trials").mkdir()
    with pytest.raises(ResultsError, match="trials: no trials yet"):
        load_results(tmp_path)


def test_trial_files_without_rows_are_refused(tmp_path: Path) -> None:
    write_part(tmp_path, "trials", "a.parquet", [])
    with pytest.raises(ResultsError, match="no rows"):
        load_results(tmp_path)


def test_unknown_table_is_refused(results: Path) -> None:
    with pytest.raises(ResultsError, match="'trails'; allowed: trials, curves"):
        load_table(results, "trails")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"status": "done"}, "trial 3 has status 'done'; allowed: complete, pruned, failed"),
        ({"status": None}, "trial 3 has status null"),
        ({"trial": None}, "no trial number"),
        ({"trial": 1}, "trial 1 occurs twice"),
    ],
    ids=["unknown status", "null status", "no number", "twice"],
)
def test_inconsistent_trials_are_refused(
    results: Path, changes: dict[str, Any], message: str
) -> None:
    write_part(results, "trials", "x.parquet", [complete_row(3, 0.9, 0.5) | changes])
    with pytest.raises(ResultsError, match=message):
        load_results(results)


@pytest.mark.parametrize(
    ("value", "found"), [(None, "null or NaN"), (np.nan, "null or NaN"), (np.inf, "inf")], ids=repr
)
def test_number_that_is_needed_must_be_finite(
    tmp_path: Path, value: float | None, found: str
) -> None:
    row = complete_row(4, 0.9, 0.5) | {"validation.clean_accuracy": value}
    trials = load_results(write_results(tmp_path, [row], baseline_curves())).trials
    with pytest.raises(ResultsError, match=f"trial 4 .* validation.clean_accuracy is {found}"):
        require_finite(trials, ["seed", "validation.clean_accuracy"], tmp_path)


def test_renamed_study_keeps_both_names(results: Path) -> None:
    write_part(results, "trials", "x.parquet", [complete_row(3, 0.9, 0.5, study="later")])
    assert load_results(results).study == "demo, later"


def test_study_without_a_name_is_called_as_its_folder(tmp_path: Path) -> None:
    folder = write_results(tmp_path / "here", [complete_row(0, 0.9, 0.5, study=None)])
    assert load_results(folder).study == "here"


def test_failed_trials_may_lack_everything(tmp_path: Path) -> None:
    folder = write_results(tmp_path, [ended_row(0, "failed", "loss is not finite")])
    assert load_results(folder).trials["reason"].tolist() == ["loss is not finite"]


def test_schema_has_no_more_than_the_columns() -> None:
    assert arrow_schema("curves").names == [column.name for column in TABLES["curves"]]


def test_rows_of_some_trials_and_of_none(tmp_path: Path) -> None:
    write_part(tmp_path, "epochs", "a.parquet", [{"trial": n} for n in (0, 1, None, 2)])
    found = load_table(tmp_path, "epochs", {1, 7})["trial"]
    assert found.dropna().tolist() == [1]
    assert len(found) == 2


def test_a_search_without_trials_is_started(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text("name: demo\n")
    assert load_started(tmp_path).trials.empty
    (tmp_path / "trials").mkdir()
    assert load_started(tmp_path).trials.empty
    with pytest.raises(NoTrialsError, match="no trials yet"):
        load_results(tmp_path)


def test_a_folder_of_nothing_is_not_started(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="expected the folder of a search"):
        load_started(tmp_path)
