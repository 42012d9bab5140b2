from __future__ import annotations

import math

from simreg_core.registry import METRICS


def test_metrics_have_a_direction_but_for_the_ratio() -> None:
    directions = {name: metric.direction for name, metric in METRICS.own.items()}
    assert [name for name, found in directions.items() if found is None] == ["tradeoff_ratio"]
    assert [name for name, found in directions.items() if found == "minimize"] == ["accuracy_cost"]


def test_worst_values_are_finite_where_given() -> None:
    assert all(m.worst is None or math.isfinite(m.worst) for m in METRICS.own.values())
