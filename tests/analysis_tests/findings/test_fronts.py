from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.charts.wording import counts_text
from analysis.findings.fronts import Axis, NoCompleteTrialsError, reference_point
from analysis.results.load import ResultsError
from simreg_core.registry import METRICS, Metric
from tests.analysis_tests.result_rows import (
    Row,
    alpha_rows,
    complete_row,
    confirmation_rows,
    ended_row,
    info_of,
    write_part,
)

TRIALS = [*alpha_rows(), complete_row(3, 0.8, 0.7, **{"regularizer.alpha": 20.0})]  # equals 1


def test_points_front_and_baseline(tmp_path: Path) -> None:
    info = info_of(tmp_path, TRIALS)
    assert info.points.tolist() == [[0.9, 0.5], [0.8, 0.7], [0.7, 0.4], [0.8, 0.7]]
    assert info.on_front.tolist() == [True, True, False, True]
    assert info.table["on_front"].tolist() == [True, True, False, True]
    (baseline,) = info.baselines
    assert [*baseline.mean, *baseline.std] == pytest.approx([0.92, 0.42, 0.02, 0.02])


def test_table_has_what_varies_and_every_metric_of_the_split(tmp_path: Path) -> None:
    table = info_of(tmp_path, TRIALS, split="test").table
    attacks = ("robust_accuracy.gaussian", "robust_accuracy.uniform")
    metrics = [f"test.{name}" for name in (*METRICS.own, *attacks)]
    assert list(table.columns) == [
        *("trial", "on_front", "feasible", "regularizer.alpha"),
        *metrics,
        *("seed", "num_seeds"),
    ]
    assert table["test.clean_accuracy"].tolist() == pytest.approx([0.89, 0.79, 0.69, 0.79])


def test_failed_and_pruned_trials_are_counted_and_left_out(tmp_path: Path) -> None:
    ended = [ended_row(4, "failed", "no memory"), ended_row(5, "pruned", "below the median")]
    info = info_of(tmp_path, [*TRIALS, *ended, ended_row(6, "pruned", "below the median")])
    assert info.counts == {"complete": 4, "pruned": 2, "failed": 1}
    assert len(info.points) == 4


@pytest.mark.parametrize(
    ("x", "y", "num_trials", "reference", "hypervolume"),
    [
        ("clean_accuracy", "robust_accuracy", 4, (0.0, 0.0), 0.9 * 0.5 + 0.8 * 0.2),
        ("accuracy_cost", "robustness_gain", 1, (1.0, -1.0), (1 - 0.02) * (0.08 + 1)),
        # Scores, by hand: 0.08 - 0.02, 0.28 - 0.12, -0.02 - 0.22; the worst is the reference.
        ("tradeoff_score", "robust_accuracy", 4, (-0.24, 0.0), (0.16 + 0.24) * 0.7),
    ],
)
def test_hypervolume_and_its_reference(
    x: str,
    y: str,
    num_trials: int,
    reference: tuple[float, float],
    hypervolume: float,
    tmp_path: Path,
) -> None:
    info = info_of(tmp_path, TRIALS[:num_trials], x, y)
    assert info.reference == pytest.approx(reference)
    assert info.hypervolume == pytest.approx(hypervolume)


def test_errors_of_accuracies_are_binomial(tmp_path: Path) -> None:
    trials = [TRIALS[0], TRIALS[1] | {"num_validation": 400}]
    info = info_of(tmp_path, trials)
    assert info.num_images == (100, 400)
    assert info.standard_errors[0] == pytest.approx([0.03, 0.05])
    assert info.standard_errors[1, 0] == pytest.approx(0.02)
    errors = info_of(tmp_path, x="accuracy_cost").standard_errors
    assert np.isnan(errors).all(axis=0).tolist() == [True, False]


@pytest.mark.parametrize("split", ["test", "validation"])
def test_confirmed_trials_are_those_of_the_test_split(split: str, tmp_path: Path) -> None:
    failed = {"role": "trial", "trial": 1, "status": "failed", "config_digest": "x"}
    rows = [*confirmation_rows(1, {5: (0.8, 0.6)}), failed]
    write_part(tmp_path, "confirmation", "a.parquet", rows)
    info = info_of(tmp_path, TRIALS, split=split)
    assert [group.name for group in info.confirmed] == ["1"]
    assert info.confirmed[0].points.tolist() == [[0.8, 0.6]]
    assert info.num_failed_confirmations == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"x": "accuracy"}, "x: unknown metric 'accuracy'; allowed: clean_accuracy, robust"),
        ({"y": "tradeoff_ratio"}, "y: tradeoff_ratio has no direction"),
        ({"y": "clean_accuracy"}, "x and y are both 'clean_accuracy'"),
        ({"split": "train"}, "unknown split 'train'; allowed: validation, test"),
        ({"color": "alpha"}, "unknown parameter 'alpha'"),
        (
            {"x": "boundary_distance"},
            r"no complete trial has a value of validation\.boundary_distance; "
            "metrics with values: clean_accuracy, robust_accuracy, .*gaussian",
        ),
    ],
    ids=["metric", "direction", "same", "split", "color", "no values"],
)
def test_options_that_are_refused(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=message):
        info_of(tmp_path, **options)


@pytest.mark.parametrize(
    "change",
    [
        {"validation.robust_accuracy": None},
        {"validation.robust_accuracy": np.inf},
        {"num_validation": None},
    ],
)
def test_complete_trial_without_a_number_is_left_out(change: Row, tmp_path: Path) -> None:
    info = info_of(tmp_path, [TRIALS[0], TRIALS[1] | change])
    assert (info.table["trial"].tolist(), info.points.tolist()) == ([0], [[0.9, 0.5]])
    assert info.num_left_out == 1
    assert "1 without finite values" in counts_text(info)


def test_no_trial_with_both_figures_is_refused(tmp_path: Path) -> None:
    lacks = [{"validation.clean_accuracy": None}, {"validation.robust_accuracy": None}]
    with pytest.raises(ResultsError, match="no complete trial has finite validation"):
        info_of(tmp_path, [row | lack for row, lack in zip(TRIALS, lacks, strict=False)])


def test_missing_number_that_is_not_drawn_is_no_error(tmp_path: Path) -> None:
    info = info_of(tmp_path, [TRIALS[0], TRIALS[1] | {"validation.accuracy_cost": None}])
    assert len(info.points) == 2


@pytest.mark.parametrize(
    ("reasons", "message"),
    [
        (
            ["no memory", "loss is\nnot finite", "loss is\nnot finite", None],
            r"none of 5 trials is complete \(4 failed, 1 pruned\); "
            r"most frequent reason \(2 x\): loss is not finite",
        ),
        ([None, None], r"\(2 x\): none recorded"),
    ],
)
def test_no_complete_trial_names_the_most_frequent_reason(
    reasons: list[str | None], message: str, tmp_path: Path
) -> None:
    trials = [ended_row(i, "failed", reason) for i, reason in enumerate(reasons)]
    with pytest.raises(NoCompleteTrialsError, match=message):
        info_of(tmp_path, [*trials, ended_row(9, "pruned", "slow")])


def test_worst_value_that_was_seen_follows_the_direction() -> None:
    down = Axis(Metric(name="a", function=float, direction="minimize"), "test")
    up = Axis(Metric(name="b", function=float, direction="maximize"), "test")
    found = reference_point((down, up), np.array([[1.0, 2.0], [3.0, 4.0]]))
    assert found.tolist() == [3.0, 2.0]
