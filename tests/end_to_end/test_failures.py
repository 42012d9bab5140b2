"""Searches in which trials fail."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from tests.end_to_end.searches import Search, assert_all_tables_readable, choices, run, trials

pytestmark = [pytest.mark.slow]


@pytest.fixture(scope="module")
def mixed(good: Search, cluster: list[str], output: Path) -> Search:
    """Two models, and a trial that diverges; on a cluster that is there already."""
    return run(
        output,
        "mixed",
        *choices("model.scale", 1.0, 3.0),
        *choices("regularizer.alpha", 0.1, 1.0e30),
        *trials(
            {"model.scale": 1.0, "regularizer.alpha": 0.1},
            {"model.scale": 1.0, "regularizer.alpha": 1.0e30},
            {"model.scale": 3.0, "regularizer.alpha": 0.1},
        ),
        *cluster,
    )


def test_search_goes_on_after_a_trial_that_fails(mixed: Search) -> None:
    assert mixed.code == 0, mixed.errors
    assert mixed.states == ["COMPLETE", "FAIL", "COMPLETE"]
    assert_all_tables_readable(mixed)


def test_failed_trial_is_recorded_with_its_reason_and_configuration(mixed: Search) -> None:
    row = mixed.row(1)
    assert row["status"] == "failed"
    assert row["reason"].startswith("task loss ")
    assert row["reason"] == mixed.study.trials[1].user_attrs["reason"]
    assert row["regularizer.alpha"] == 1.0e30
    assert row["validation.clean_accuracy"] is None
    assert f"trial 1 failed: {row['reason']}" in mixed.errors.splitlines()


def test_every_model_is_compared_with_baselines_of_its_own(mixed: Search) -> None:
    rows = {number: mixed.row(number) for number in (0, 2)}
    digests = {row["baseline_digest"] for row in rows.values()}
    assert len(digests) == 2
    baselines = [row for row in mixed.rows("curves") if row["role"] == "baseline"]
    assert {row["baseline_digest"] for row in baselines} == digests
    for row in rows.values():
        clean = {
            point["seed"]: point["accuracy"]
            for point in baselines
            if point["baseline_digest"] == row["baseline_digest"]
            and (point["split"], point["epsilon"]) == ("validation", 0)
        }
        assert row["validation.baseline_clean_accuracy"] == statistics.fmean(clean.values())


def test_search_in_which_all_trials_fail_says_so(
    good: Search, cluster: list[str], output: Path
) -> None:
    alphas = choices("regularizer.alpha", 1.0e30, 1.0e31)
    search = run(output, "failing", *alphas, "--max-concurrent", "1", *cluster)
    assert search.code == 1
    assert search.states == ["FAIL", "FAIL"]
    assert set(search.table("trials")["status"]) == {"failed"}
    assert search.errors.splitlines()[-1].startswith(
        "tuner.run: no trial is complete: 2 trials failed"
    )
    assert search.printed == ""
