from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.results.load import Results, ResultsError, load_results
from analysis.results.seed_groups import (
    SeedGroup,
    baseline_groups,
    confirmed_groups,
    fresh_baselines,
    num_failed_confirmations,
)
from tests.analysis_tests.result_rows import (
    Row,
    baseline_curves,
    complete_row,
    confirmation_rows,
    write_part,
    write_results,
)

ACCURACIES = ("clean_accuracy", "robust_accuracy")
COLUMNS = ("test.clean_accuracy", "test.robust_accuracy")
ONE_TRIAL = (complete_row(0, 0.9, 0.5),)


def loaded(
    folder: Path, trials: Sequence[Row] = ONE_TRIAL, curves: Sequence[Row] | None = None
) -> Results:
    return load_results(write_results(folder, trials, curves))


def groups(
    results: Results, metrics: tuple[str, str] = ACCURACIES, split: str = "validation"
) -> tuple[SeedGroup, ...]:
    return baseline_groups(results, results.trials, metrics, split)


@pytest.mark.parametrize(
    ("metric", "seeds", "mean", "std"),
    [
        ("clean_accuracy", [0.90, 0.92, 0.94], 0.92, 0.02),
        ("robust_accuracy", [0.40, 0.44, 0.42], 0.42, 0.02),
        ("robust_accuracy.gaussian", [0.42, 0.46, 0.44], 0.44, 0.02),
        ("accuracy_cost", [0.02, 0.0, -0.02], 0.0, 0.02),
        ("robustness_gain", [-0.02, 0.02, 0.0], 0.0, 0.02),
        ("tradeoff_score", [-0.04, 0.02, 0.02], 0.0, 0.0012**0.5),
    ],
)
def test_metrics_of_a_baseline(
    metric: str, seeds: list[float], mean: float, std: float, tmp_path: Path
) -> None:
    (group,) = groups(loaded(tmp_path), (metric, "clean_accuracy"))
    assert group.seeds == (101, 102, 103)
    assert group.points[:, 0] == pytest.approx(seeds, abs=1e-12)
    assert group.mean[0] == pytest.approx(mean, abs=1e-12)
    assert group.std[0] == pytest.approx(std, abs=1e-12)


def test_score_of_a_baseline_uses_the_trials_weight(tmp_path: Path) -> None:
    trial = ONE_TRIAL[0] | {"robustness.tradeoff_weight": 3.0}
    (group,) = groups(loaded(tmp_path, [trial]), ("tradeoff_score", "clean_accuracy"))
    assert group.points[:, 0] == pytest.approx([-0.08, 0.02, 0.06], abs=1e-12)


def test_single_seed_has_no_spread(tmp_path: Path) -> None:
    (group,) = groups(loaded(tmp_path, curves=baseline_curves(seeds={7: (0.9, 0.4)})))
    assert np.isnan(group.std).all()
    assert group.mean.tolist() == pytest.approx([0.9, 0.4])


@pytest.mark.parametrize("role", ["trial", "surrogate"])
def test_other_networks_are_no_baselines(role: str, tmp_path: Path) -> None:
    curves = [row | {"role": role} for row in baseline_curves()]
    assert groups(loaded(tmp_path, curves=curves)) == ()


def test_splits_are_kept_apart(tmp_path: Path) -> None:
    curves = baseline_curves()
    for row in curves:
        if row["split"] == "test":
            row["accuracy"] = 0.25
    results = loaded(tmp_path, curves=curves)
    assert groups(results, split="test")[0].mean.tolist() == [0.25, 0.25]
    assert groups(results)[0].mean.tolist() == pytest.approx([0.92, 0.42])


def test_rows_written_twice_count_once_and_a_missing_metric_gives_no_group(tmp_path: Path) -> None:
    results = loaded(tmp_path, curves=[*baseline_curves(), *baseline_curves()])
    (group,) = groups(results)
    assert group.points[:, 1] == pytest.approx([0.40, 0.44, 0.42])
    assert groups(results, ("robust_accuracy.salt_pepper", "clean_accuracy")) == ()


def test_one_group_per_baseline_that_differs_and_that_trials_refer_to(tmp_path: Path) -> None:
    digests = ("b", "base0", "again")
    trials = [complete_row(n, 0.9, 0.5, baseline_digest=name) for n, name in enumerate(digests)]
    curves = [
        *(row for name in ("base0", "again") for row in baseline_curves(name)),
        *baseline_curves("b", {1: (0.8, 0.3)}),
        *baseline_curves("unused", {1: (0.1, 0.1)}),
    ]
    assert [group.name for group in groups(loaded(tmp_path, trials, curves))] == ["b", "base0"]


def confirmed(folder: Path, rows: Sequence[dict[str, Any]]) -> Results:
    write_part(folder, "confirmation", "a.parquet", rows)
    return loaded(folder)


def test_confirmed_trials_are_grouped(tmp_path: Path) -> None:
    rows = confirmation_rows(12, {9: (0.8, 0.6)}) + confirmation_rows(
        3, {8: (0.9, 0.5), 7: (0.7, 0.3)}
    )
    first, second = confirmed_groups(confirmed(tmp_path, rows), COLUMNS)
    assert (first.name, first.seeds) == ("3", (7, 8))
    assert first.points.tolist() == [[0.7, 0.3], [0.9, 0.5]]
    assert (second.name, second.seeds) == ("12", (9,))


def test_failed_runs_and_baselines_are_no_confirmed_points(tmp_path: Path) -> None:
    rows = confirmation_rows(3, {8: (0.9, 0.5)})
    failed = {"role": "trial", "trial": 3, "status": "failed"}
    rows.append(failed | {"config_digest": "3-9"})
    rows.append(failed | {"config_digest": "3-8"})  # the first attempt at seed 8
    rows.append(rows[0] | {"role": "baseline", "trial": None})
    results = confirmed(tmp_path, rows)
    assert [group.seeds for group in confirmed_groups(results, COLUMNS)] == [(8,)]
    assert num_failed_confirmations(results) == 1


def test_confirmed_run_without_a_number_is_refused(tmp_path: Path) -> None:
    rows = [row | {"test.clean_accuracy": None} for row in confirmation_rows(3, {8: (0.9, 0.5)})]
    with pytest.raises(ResultsError, match=r"confirmation: trial 3 .* test\.clean_accuracy"):
        confirmed_groups(confirmed(tmp_path, rows), COLUMNS)


def test_fresh_baselines_are_grouped_apart_from_the_confirmed_trials(tmp_path: Path) -> None:
    trial = confirmation_rows(3, {8: (0.9, 0.5)})
    baseline = [
        row | {"role": "baseline", "trial": None, "regularizer.alpha": 0.0}
        for row in confirmation_rows(0, {9: (0.8, 0.4), 8: (0.7, 0.3)})
    ]
    (group,) = fresh_baselines(confirmed(tmp_path, [*trial, *baseline]), COLUMNS)
    assert group.seeds == (8, 9)
    assert group.points.tolist() == [[0.7, 0.3], [0.8, 0.4]]


def test_run_without_its_baseline_has_accuracies_but_no_gain(tmp_path: Path) -> None:
    unpaired = dict.fromkeys(
        f"test.{name}" for name in ("accuracy_cost", "robustness_gain", "tradeoff_score")
    )
    first, second = confirmation_rows(3, {8: (0.9, 0.5), 9: (0.8, 0.4)})
    results = confirmed(tmp_path, [first, second | unpaired])
    (group,) = confirmed_groups(results, COLUMNS)
    assert group.seeds == (8, 9)
    (group,) = confirmed_groups(results, ("test.accuracy_cost", "test.robustness_gain"))
    assert group.seeds == (8,)
