"""Searches as a user starts them: real processes, real Ray, real training of tiny networks."""

from __future__ import annotations

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

pytestmark = [pytest.mark.slow]


def cache_of(search: Search) -> dict[str, int]:
    files = (search.folder.parent / "baselines").iterdir()
    return {path.name: path.stat().st_mtime_ns for path in files if path.suffix != ".lock"}


# a search that succeeds


def test_good_search_succeeds_with_a_row_and_a_complete_trial_each(good: Search) -> None:
    assert good.code == 0, good.errors
    assert_all_tables_readable(good)
    rows = good.table("trials")
    assert sorted(rows["trial"]) == [0, 1, 2]
    assert set(rows["status"]) == {"complete"}
    assert set(rows["study"]) == {"good"}
    assert rows["reason"].isna().all()
    for split in SPLITS:
        for name in ("clean_accuracy", "robust_accuracy", "tradeoff_score", "accuracy_cost"):
            assert rows[f"{split}.{name}"].notna().all()
    files = {path.name for path in (good.folder / "trials").iterdir()}
    assert files == {"empty.parquet", "00000-00199.parquet"}
    assert good.states == ["COMPLETE"] * 3
    names = ["clean_accuracy", "robust_accuracy"]
    assert good.study.metric_names == names
    for trial in good.study.trials:
        row = good.row(trial.number)
        assert trial.values == [row[f"validation.{name}"] for name in names]
        assert trial.params.items() <= row.items()


def test_curves_and_epochs_have_every_network(good: Search) -> None:
    curves, epochs = good.table("curves"), good.table("epochs")
    for split in SPLITS:
        rows = curves[curves["split"] == split]
        networks = rows.drop_duplicates(["role", "trial", "seed"])
        assert sorted(networks["role"]) == ["baseline"] * 2 + ["surrogate"] + ["trial"] * 3
    baselines = curves[curves["role"] == "baseline"]
    assert set(baselines["seed"]) == {101, 102}
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


def test_output_is_progress_the_pareto_set_and_the_location_of_the_results(good: Search) -> None:
    lines = good.errors.splitlines()
    expected = [
        f"{kind} {number}/3" for kind in ("baseline networks", "trials") for number in (1, 2, 3)
    ]
    assert [line.partition(",")[0] for line in lines] == expected
    assert all(" elapsed" in line for line in lines)
    title, split, heading, *rows, why, empty, results, report = good.printed.splitlines()
    assert title.startswith("Pareto front of 3 trials")
    assert "validation" in split
    assert "too few for a model" in why
    assert heading.split()[:3] == ["trial", "clean_accuracy", "robust_accuracy"]
    best = sorted(good.study.best_trials, key=lambda trial: -trial.values[0])
    assert [int(row.split()[0]) for row in rows] == [trial.number for trial in best]
    assert empty == ""
    assert results.endswith(f" {good.folder}")
    assert report.endswith(f" {good.folder}")


# the same again


def test_same_seed_gives_the_same_results_with_cached_baselines(
    good: Search, cluster: list[str], output: Path
) -> None:
    cache = cache_of(good)
    flags = ["--num-trials", "3", "--seed", "7", "--max-concurrent", "1"]
    again = run(output, "again", *flags, *cluster)
    assert again.code == 0, again.errors
    for table in ("trials", "curves", "epochs"):
        first, second = (
            frame.drop(columns=CLOCK_COLUMNS & set(frame.columns))
            for frame in (good.table(table), again.table(table))
        )
        pd.testing.assert_frame_equal(first, second, check_exact=True)
    networks = {name.split("-")[0] for name in cache if name.endswith(".pt")}
    assert networks == {"baseline", "surrogate"}
    # Other searches may have added networks of their own.
    assert cache.items() <= cache_of(again).items()


# confirmation, after what looks at the folder as the search leaves it


@pytest.fixture(scope="module")
def confirmed(good: Search, cluster: list[str]) -> Search:
    """The best of the good search, with two fresh seeds."""
    arguments = [str(good.folder), "--top", "1", "--seeds", "2", "--max-concurrent", "1", *cluster]
    return finished(start("tuner.confirm", *arguments), good.folder)


@pytest.mark.long
def test_search_can_be_confirmed_later(confirmed: Search) -> None:
    assert confirmed.code == 0, confirmed.errors
    assert confirmed.printed.startswith("Confirmed on test, mean ± 95 % interval over 2 fresh")
    first, *lines = [line.partition(",")[0] for line in confirmed.errors.splitlines()]
    assert first.startswith("connecting to the Ray cluster")
    assert lines == [f"confirmation networks {number}/4" for number in (1, 2, 3, 4)]
    rows = confirmed.table("confirmation")
    assert sorted(rows["role"]) == ["baseline", "baseline", "trial", "trial"]
    assert set(rows["seed"]) == {1_000_000, 1_000_001}
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
