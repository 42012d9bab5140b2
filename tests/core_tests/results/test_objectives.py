from __future__ import annotations

import math
from typing import Any

import pytest

from simreg_core.registry import METRICS
from simreg_core.results.objectives import (
    BestTrial,
    best_trial,
    described_by,
    directions,
    objective,
    objective_values,
    ranked_trials,
)


def test_directions_are_those_of_the_metrics() -> None:
    names = ["clean_accuracy", "accuracy_cost", "robust_accuracy.gaussian"]
    assert directions(names) == ["maximize", "minimize", "maximize"]
    own = {name: metric.direction for name, metric in METRICS.own.items()}
    assert [name for name, found in own.items() if found is None] == ["tradeoff_ratio"]
    assert [name for name, found in own.items() if found == "minimize"] == ["accuracy_cost"]
    allowed = [name for name, found in own.items() if found is not None]
    assert len(directions(allowed)) == len(allowed)
    assert all(m.worst is None or math.isfinite(m.worst) for m in METRICS.own.values())


def test_values_are_those_of_the_validation_split_as_floats_in_the_order_asked() -> None:
    columns = {"validation.clean_accuracy": 1, "validation.robust_accuracy": 0.6}
    columns |= {"test.clean_accuracy": 0.1, "test.robust_accuracy": 0.2}
    found = objective_values(columns, ["robust_accuracy", "clean_accuracy"])
    assert found == [0.6, 1.0]
    assert all(isinstance(value, float) for value in found)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None, "0.5"])
def test_value_that_is_missing_or_no_finite_number_is_refused_by_name(value: Any) -> None:
    columns = {"validation.clean_accuracy": 0.9, "test.robust_accuracy": 0.1}
    if value is not None:
        columns["validation.robust_accuracy"] = value
    with pytest.raises(ValueError, match=f"robust_accuracy is {value!r}, not a finite"):
        objective_values(columns, ["clean_accuracy", "robust_accuracy"])


# the ranking of trials

PAIR = ["clean_accuracy", "robust_accuracy"]


def rows_of(metric: str, *values: float | None, **more: float) -> list[dict[str, Any]]:
    others = {f"validation.{name}": value for name, value in more.items()}
    return [
        {"trial": number, "status": "complete", f"validation.{metric}": value, **others}
        for number, value in enumerate(values)
    ]


def order(
    rows: list[dict[str, Any]], objectives: list[str], constraints: list[str] | None = None
) -> list[int]:
    return [row["trial"] for row in ranked_trials(rows, objectives, constraints or [])]


def test_accuracy_under_a_corruption_needs_no_description_and_no_import() -> None:
    with described_by(dict):
        found = objective("robust_accuracy.corruption:contrast")
    assert (found.direction, found.worst) == ("maximize", 0)


def test_single_objective_ranks_by_itself_in_its_direction() -> None:
    values = (0.5, 0.2, 0.8)
    assert order(rows_of("clean_accuracy", *values), ["clean_accuracy"]) == [2, 0, 1]
    assert order(rows_of("accuracy_cost", *values), ["accuracy_cost"]) == [1, 0, 2]


def test_several_objectives_rank_by_the_tradeoff_score_and_equals_by_number() -> None:
    assert order(rows_of("tradeoff_score", 0.1, 0.4, 0.1, -0.2), PAIR) == [1, 0, 2, 3]


def test_only_complete_trials_with_finite_values_are_ranked() -> None:
    rows = rows_of("tradeoff_score", math.inf, 0.1, math.nan, None, 0.3, 0.2)
    rows[4]["status"] = "pruned"
    assert order(rows, PAIR) == [5, 1]


def test_feasible_trials_come_first_and_the_others_by_their_violation() -> None:
    rows = rows_of("tradeoff_score", 0.9, 0.5, 0.1, 0.2)
    for row, clean in zip(rows, (0.1, 0.4, 0.6, 0.7), strict=True):
        row["validation.clean_accuracy"] = clean
    assert order(rows, PAIR, ["clean_accuracy >= 0.5"]) == [3, 2, 1, 0]
    assert order(rows, PAIR, ["clean_accuracy >= 0.9"]) == [3, 2, 1, 0]


def test_other_split_does_not_decide() -> None:
    rows = rows_of("tradeoff_score", 0.2, 0.1)
    rows[1]["test.tradeoff_score"] = 1.0
    best = best_trial(rows, PAIR, [])
    assert best is not None
    assert best["trial"] == 0
    assert best_trial([], PAIR, []) is None


def test_summary_of_the_best_trial_says_what_it_is_best_in() -> None:
    (row,) = rows_of("tradeoff_score", 0.0625, clean_accuracy=0.4)
    assert str(BestTrial.measured(row, PAIR, [])) == "measured tradeoff score +0.062 (trial 0)"
    missed = BestTrial.measured(row, PAIR, ["clean_accuracy >= 0.5"])
    assert not missed.is_feasible
    assert "misses" in str(missed)
    assert (
        str(BestTrial.measured(row, ["clean_accuracy"], []))
        == "measured clean accuracy 0.400 (trial 0)"
    )
