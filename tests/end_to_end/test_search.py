"""Searches as a user starts them: real processes, real Ray, real training of tiny networks."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
import torch

from simreg_core.data.task import load_task
from simreg_core.networks.checkpoint import load_weights
from simreg_core.results.schema import SPLITS, TABLES
from tests.end_to_end.searches import (
    CLOCK_COLUMNS,
    Search,
    assert_all_tables_readable,
    finished,
    run,
    start,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def cache_of(search: Search) -> dict[str, int]:
    """Files of cached reference networks with the time of their writing."""
    files = (search.folder.parent / "references").iterdir()
    return {path.name: path.stat().st_mtime_ns for path in files if path.suffix != ".lock"}


@pytest.fixture(scope="module")
def cache_after_good(good: Search) -> dict[str, int]:
    return cache_of(good)


@pytest.fixture(scope="module")
def repeated(
    good: Search, cache_after_good: dict[str, int], cluster: list[str], output: Path
) -> Search:
    """The good search once more, under another name and on a cluster that is there already."""
    flags = ["--num-trials", "3", "--seed", "7", "--max-concurrent", "1"]
    return run(output, "again", *flags, *cluster)


# a search that succeeds


def test_good_search_succeeds(good: Search) -> None:
    assert good.code == 0, good.errors


def test_tables_have_the_columns_of_the_records(good: Search) -> None:
    assert_all_tables_readable(good)


def test_every_trial_has_one_row(good: Search) -> None:
    rows = good.table("trials")
    assert sorted(rows["trial"]) == [0, 1, 2]
    assert set(rows["status"]) == {"complete"}
    assert set(rows["study"]) == {"good"}
    assert rows["reason"].isna().all()
    files = {path.name for path in (good.folder / "trials").iterdir()}
    assert files == {"empty.parquet", "00000-00199.parquet"}


def test_study_has_a_complete_trial_per_row(good: Search) -> None:
    assert good.states == ["COMPLETE"] * 3


def test_study_and_table_agree_on_parameters_and_objectives(good: Search) -> None:
    assert good.study.metric_names == ["clean_accuracy", "robust_accuracy"]
    for trial in good.study.trials:
        row = good.row(trial.number)
        assert trial.values == [
            row["validation.clean_accuracy"],
            row["validation.robust_accuracy"],
        ]
        for key, value in trial.params.items():
            assert row[key] == value


def test_figures_of_both_splits_are_there(good: Search) -> None:
    rows = good.table("trials")
    for split in SPLITS:
        for name in ("clean_accuracy", "robust_accuracy", "tradeoff_score", "accuracy_cost"):
            assert rows[f"{split}.{name}"].notna().all()


def test_curves_have_every_network_on_both_splits(good: Search) -> None:
    curves = good.table("curves")
    for split in SPLITS:
        rows = curves[curves["split"] == split]
        networks = rows.drop_duplicates(["role", "trial", "seed"])
        assert sorted(networks["role"]) == ["baseline"] * 2 + ["surrogate"] + ["trial"] * 3
    baselines = curves[curves["role"] == "baseline"]
    assert set(baselines["seed"]) == {101, 102}


def test_epochs_have_every_epoch_of_every_network(good: Search) -> None:
    epochs = good.table("epochs")
    counts = epochs.groupby(["role", "seed", epochs["trial"].fillna(-1)])["epoch"].apply(sorted)
    assert len(counts) == 6
    assert all(numbers == [0, 1] for numbers in counts)


def test_weights_reproduce_the_recorded_clean_accuracy(good: Search) -> None:
    for number in range(3):
        model = load_weights(good.folder / "checkpoints" / f"{number:05d}" / "weights.pt")
        params = good.space.decode(good.study.trials[number].params)
        data = load_task(good.space.trial_config(params).task)
        for split in SPLITS:
            images, labels = data.split(split)
            with torch.no_grad():
                predicted = model(images.float() / 255).argmax(dim=1)
            accuracy = float((predicted == labels).double().mean())
            assert accuracy == good.row(number)[f"{split}.clean_accuracy"]


def test_nothing_but_results_is_left_in_the_folder(good: Search) -> None:
    names = {path.name for path in good.folder.iterdir()}
    lock = {"heartbeat.json", ".heartbeat.json.lock"}
    assert names == {*TABLES, *lock, "checkpoints", "space.yaml", "study.journal"}
    checkpoints = {path.name for path in (good.folder / "checkpoints").rglob("*.pt")}
    assert checkpoints == {"weights.pt"}


def test_errors_are_only_the_lines_of_progress(good: Search) -> None:
    time_text = r"\d+:\d\d elapsed(, about \d+:\d\d left)?"
    expected = [rf"reference networks {number}/3, {time_text}" for number in (1, 2, 3)]
    expected += [
        rf"trials {number}/3, best tradeoff score [+-]\d\.\d{{3}} \(trial \d\), {time_text}"
        for number in (1, 2, 3)
    ]
    lines = good.errors.splitlines()
    assert len(lines) == len(expected), good.errors
    for line, pattern in zip(lines, expected, strict=True):
        assert re.fullmatch(pattern, line)


def test_output_is_the_pareto_set_and_the_place_of_the_results(good: Search) -> None:
    title, heading, *rows, empty, results, picture = good.printed.splitlines()
    assert title.startswith("Pareto set of 3 trials (validation split, one seed each)")
    assert heading.split()[:3] == ["trial", "clean_accuracy", "robust_accuracy"]
    assert [int(row.split()[0]) for row in rows] == [
        trial.number for trial in sorted(good.study.best_trials, key=lambda trial: -trial.values[0])
    ]
    assert empty == ""
    assert results == f"results: {good.folder}"
    assert picture == f"picture: python -m analysis.pareto {good.folder}"


# the same again


@pytest.mark.parametrize("table", ["trials", "curves", "epochs"])
def test_same_seed_gives_the_same_results(table: str, good: Search, repeated: Search) -> None:
    assert repeated.code == 0, repeated.errors

    def results(search: Search) -> pd.DataFrame:
        frame = search.table(table)
        return frame.drop(columns=CLOCK_COLUMNS & set(frame.columns))

    pd.testing.assert_frame_equal(results(good), results(repeated), check_exact=True)


def test_references_are_trained_once_for_all_searches_of_an_output(
    cache_after_good: dict[str, int], repeated: Search
) -> None:
    networks = {name.split("-")[0] for name in cache_after_good if name.endswith(".pt")}
    assert networks == {"baseline", "surrogate"}
    assert cache_of(repeated) == cache_after_good


def test_dry_run_writes_nothing(tmp_path: Path) -> None:
    search = run(tmp_path / "output", "dry", "--dry-run")
    assert search.code == 0
    assert search.printed.startswith("search       dry: 2 trials")
    assert search.errors == ""
    assert list(tmp_path.iterdir()) == []


# confirmation, after what looks at the folder as the search leaves it


@pytest.fixture(scope="module")
def confirmed(good: Search, cluster: list[str]) -> Search:
    """The best of the good search, with two fresh seeds."""
    arguments = [str(good.folder), "--top", "1", "--seeds", "2", "--max-concurrent", "1", *cluster]
    return finished(start("tuner.confirm", *arguments), good.folder)


@pytest.mark.long
def test_search_can_be_confirmed_later(confirmed: Search) -> None:
    assert confirmed.code == 0, confirmed.errors
    rows = confirmed.table("confirmation")
    assert sorted(rows["role"]) == ["baseline", "baseline", "trial", "trial"]
    assert set(rows["seed"]) == {1000, 1001}
    front = [confirmed.row(trial.number) for trial in confirmed.study.best_trials]
    best = max(front, key=lambda row: row["validation.tradeoff_score"])
    assert set(rows["trial"].dropna()) == {best["trial"]}


@pytest.mark.long
def test_named_trial_is_confirmed_beside_those_before(
    confirmed: Search, cluster: list[str]
) -> None:
    before = confirmed.table("confirmation")
    (other,) = {0, 1} - set(before["trial"].dropna())
    arguments = [str(confirmed.folder), "--trials", str(other), "--seeds", "2", *cluster]
    again = finished(start("tuner.confirm", *arguments), confirmed.folder)
    assert again.code == 0, again.errors
    rows = again.table("confirmation")
    assert sorted(rows["trial"].dropna()) == [0, 0, 1, 1]
    assert len(rows) == len(before) + 2


@pytest.mark.long
def test_confirmation_prints_its_table_and_plain_lines(confirmed: Search) -> None:
    assert confirmed.printed.startswith("Confirmed on test, mean ± 95 % interval over 2 fresh")
    lines = confirmed.errors.splitlines()
    assert [line.partition(",")[0] for line in lines] == [
        f"confirmation networks {number}/4" for number in (1, 2, 3, 4)
    ]
