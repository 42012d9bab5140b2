from __future__ import annotations

import math

import pytest

from simreg_core.registry import METRICS


def test_ratio_is_no_objective() -> None:
    assert [name for name, metric in METRICS.own.items() if metric.direction is None] == [
        "tradeoff_ratio"
    ]


@pytest.mark.parametrize(
    ("name", "direction"),
    [
        ("clean_accuracy", "maximize"),
        ("robust_accuracy", "maximize"),
        ("tradeoff_score", "maximize"),
        ("robustness_gain", "maximize"),
        ("accuracy_cost", "minimize"),
    ],
)
def test_metric_has_its_direction(name: str, direction: str) -> None:
    assert METRICS.own[name].direction == direction


def test_worst_values_are_finite_where_given() -> None:
    assert all(m.worst is None or math.isfinite(m.worst) for m in METRICS.own.values())
