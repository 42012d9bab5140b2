from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simreg_core.results.tradeoff import BaselineAccuracy, baseline_accuracy, tradeoff

accuracies = st.floats(0, 1)
BASELINE = BaselineAccuracy(0.9, 0.5, None, None)


@pytest.mark.parametrize(
    ("clean", "robust", "weight", "expected"),
    [
        pytest.param(0.85, 0.7, 1.0, (0.05, 0.2, 0.15, 0.25), id="costs-and-gains"),
        pytest.param(0.85, 0.7, 2.0, (0.05, 0.2, 0.1, 0.25), id="cost-weighs-twice"),
        pytest.param(0.85, 0.7, 0.0, (0.05, 0.2, 0.2, 0.25), id="cost-is-free"),
        pytest.param(0.95, 0.7, 1.0, (-0.05, 0.2, 0.25, None), id="better-in-both"),
        pytest.param(0.85, 0.4, 1.0, (0.05, -0.1, -0.15, None), id="worse-in-both"),
        pytest.param(0.95, 0.4, 1.0, (-0.05, -0.1, -0.05, None), id="cleaner-and-weaker"),
        pytest.param(0.9, 0.7, 1.0, (0.0, 0.2, 0.2, None), id="gain-without-cost"),
        pytest.param(0.85, 0.5, 1.0, (0.05, 0.0, -0.05, None), id="cost-without-gain"),
    ],
)
def test_values_computed_by_hand(
    clean: float, robust: float, weight: float, expected: tuple[float | None, ...]
) -> None:
    names = ("accuracy_cost", "robustness_gain", "tradeoff_score", "tradeoff_ratio")
    found = tradeoff(clean, robust, BASELINE, weight)
    assert found == pytest.approx(dict(zip(names, expected, strict=True)))


@given(accuracies, accuracies, st.floats(0, 10))
def test_baseline_scores_exactly_zero(clean: float, robust: float, weight: float) -> None:
    figures = tradeoff(clean, robust, BaselineAccuracy(clean, robust, None, None), weight)
    assert figures["tradeoff_score"] == 0
    assert figures["tradeoff_ratio"] is None


def test_baseline_is_mean_and_sample_deviation_over_seeds() -> None:
    clean, robust = [0.9, 0.8, 0.94], [0.5, 0.3, 0.4]
    baseline = baseline_accuracy(clean, robust)
    assert baseline == pytest.approx((0.88, 0.4, statistics.stdev(clean), statistics.stdev(robust)))
    assert baseline_accuracy([0.9], [0.5]) == (0.9, 0.5, None, None)
