from __future__ import annotations

import math
from typing import Any

import pytest

from simreg_core.results.objectives import directions, objective_values
from simreg_core.results.schema import METRICS


def test_directions_are_those_of_the_metrics() -> None:
    names = ["clean_accuracy", "accuracy_cost", "robust_accuracy.gaussian"]
    assert directions(names) == ["maximize", "minimize", "maximize"]


def test_every_metric_with_a_direction_can_be_an_objective() -> None:
    names = [name for name, metric in METRICS.items() if metric.direction is not None]
    assert len(directions(names)) == len(names)


def test_values_are_those_of_the_validation_split_in_the_order_asked() -> None:
    columns = {
        "validation.clean_accuracy": 0.9,
        "validation.robust_accuracy": 0.6,
        "test.clean_accuracy": 0.1,
        "test.robust_accuracy": 0.2,
    }
    assert objective_values(columns, ["robust_accuracy", "clean_accuracy"]) == [0.6, 0.9]


def test_whole_numbers_become_floats() -> None:
    (value,) = objective_values({"validation.clean_accuracy": 1}, ["clean_accuracy"])
    assert isinstance(value, float)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None, "0.5"])
def test_value_that_is_no_finite_number_is_refused_by_name(value: Any) -> None:
    columns = {"validation.clean_accuracy": 0.9, "validation.robust_accuracy": value}
    with pytest.raises(ValueError, match=f"robust_accuracy is {value!r}, not a finite"):
        objective_values(columns, ["clean_accuracy", "robust_accuracy"])


def test_missing_value_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="tradeoff_score is None"):
        objective_values({"test.tradeoff_score": 0.1}, ["tradeoff_score"])
