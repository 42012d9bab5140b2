from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.results.load import (
    ResultsError,
    load_results,
    load_started,
    load_table,
    require_finite,
)
from simreg_core.errors import ConfigError
from simreg_core.results.schema import TABLES
from tests.analysis_tests.result_rows import (
    baseline_curves,
    complete_row,
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


def test_large_integers_and_lists_beside_nulls_stay_exact(tmp_path: Path) -> None:
    write_part(tmp_path, "curves", "a.parquet", [{"seed": 2**53 + 1}, {"seed": None}])
    assert load_table(tmp_path, "curves")["seed"].iloc[0] == 2**53 + 1
    write_part(tmp_path, "epochs", "a.parquet", [{"gamma": [0.25, 0.75]}, {"gamma": None}])
    gamma = load_table(tmp_path, "epochs")["gamma"]
    assert (list(gamma.iloc[0]), gamma.iloc[1]) == ([0.25, 0.75], None)


def test_rows_come_in_order_of_the_trials_number(tmp_path: Path) -> None:
    write_part(tmp_path, "trials", "a.parquet", [complete_row(7, 0.9, 0.5)])
    write_part(tmp_path, "trials", "b.parquet", [complete_row(2, 0.9, 0.5)])
    write_part(tmp_path, "curves", "a.parquet", [])
    assert load_results(tmp_path).trials["trial"].tolist() == [2, 7]


def test_equals_sign_in_a_folder_name_adds_no_column(tmp_path: Path) -> None:
    folder = write_results(tmp_path / "seed=5", [complete_row(0, 0.9, 0.5)])
    assert load_table(folder, "trials")["seed"].tolist() == [0]


def test_unreadable_table_is_an_error_of_the_results(results: Path) -> None:
    (results / "trials" / "00005.parquet").write_bytes(b"PAR1")
    with pytest.raises(ConfigError, match=r"00005\.parquet"):
        load_table(results, "trials")


def test_missing_folder_is_refused(tmp_path: Path) -> None:
    for load in (load_results, load_started):
        with pytest.raises(ConfigError, match="nowhere"):
            load(tmp_path / "nowhere")


def test_search_without_trials_is_started_but_has_no_results(tmp_path: Path) -> None:
    write_part(tmp_path, "trials", "empty.parquet", [])
    assert load_started(tmp_path).trials.empty
    with pytest.raises(ResultsError, match="no trials yet"):
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


def test_name_is_recorded_even_if_it_changed_or_else_the_folders(tmp_path: Path) -> None:
    for number, (name, expected) in enumerate(((None, "here"), ("demo", "demo, later"))):
        folder = write_results(
            tmp_path / str(number) / "here", [complete_row(0, 0.9, 0.5, study=name)]
        )
        if name:
            write_part(folder, "trials", "x.parquet", [complete_row(3, 0.9, 0.5, study="later")])
        assert load_results(folder).study == expected


def test_rows_of_some_trials_and_of_none(tmp_path: Path) -> None:
    write_part(tmp_path, "epochs", "a.parquet", [{"trial": n} for n in (0, 1, None, 2)])
    found = load_table(tmp_path, "epochs", {1, 7})["trial"]
    assert found.dropna().tolist() == [1]
    assert len(found) == 2
