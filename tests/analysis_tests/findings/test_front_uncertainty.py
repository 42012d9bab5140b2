from __future__ import annotations

import numpy as np
import pytest

from analysis.findings.front_uncertainty import (
    attainment,
    expected_maximum,
    front_probability,
    num_draws,
    t_half_widths,
    wilson,
)
from simreg_core.statistics.pareto import non_dominated

UP = (True, True)


def test_wilson_interval_of_90_in_100() -> None:
    bounds = wilson(np.array([0.9]), np.array([100]))
    assert bounds[:, 0] == pytest.approx([0.82563, 0.94477], abs=1e-5)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_wilson_interval_stays_in_range(share: float) -> None:
    low, high = wilson(np.array([share]), np.array([50]))[:, 0]
    assert -1e-12 <= low < high <= 1 + 1e-12


def test_t_interval_of_three() -> None:
    assert t_half_widths([3, 2]) == pytest.approx([4.302653, 12.706205], abs=1e-6)
    assert np.isnan(t_half_widths(1))


def test_expected_maximum_of_two_normal_numbers() -> None:
    assert expected_maximum(1) == 0.0
    assert expected_maximum(2) == pytest.approx(1 / np.sqrt(np.pi), abs=0.03)


def test_probability_without_noise_is_the_front() -> None:
    points = np.array([[0.9, 0.5], [0.8, 0.7], [0.7, 0.4]])
    found = front_probability(points, np.full((3, 2), np.nan), UP, 20)
    assert found.tolist() == [1.0, 1.0, 0.0]


def test_probability_of_two_equal_noisy_points() -> None:
    """Each is dominated by the other with probability 1/4."""
    found = front_probability(np.zeros((2, 2)), np.ones((2, 2)), UP, 4000)
    assert found == pytest.approx([0.75, 0.75], abs=0.03)


@pytest.mark.parametrize(("is_maximized", "first"), [(True, 0.8413), (False, 0.1587)])
def test_probability_in_one_metric_is_that_of_the_difference(
    is_maximized: bool, first: float
) -> None:
    """Means 1 and 0, deviations 0.6 and 0.8: the difference is normal, 1 with SD 1."""
    points, noise = np.array([[1.0], [0.0]]), np.array([[0.6], [0.8]])
    found = front_probability(points, noise, [is_maximized], 5000)
    assert found == pytest.approx([first, 1 - first], abs=0.025)


def test_leaving_hopeless_points_out_changes_nothing() -> None:
    points, noise = np.random.default_rng(0).normal(size=(60, 2)), np.full((60, 2), 0.2)
    rng = np.random.default_rng(1)
    counts = np.zeros(60)
    for _ in range(500):
        counts += non_dominated(points + noise * rng.normal(size=points.shape), UP)
    assert front_probability(points, noise, UP, 2000) == pytest.approx(counts / 500, abs=0.1)


def test_draws_are_repeatable() -> None:
    points, noise = np.random.default_rng(1).random((20, 2)), np.full((20, 2), 0.1)
    first = front_probability(points, noise, UP, 50)
    assert (front_probability(points, noise, UP, 50) == first).all()
    assert num_draws(points, noise, UP) == 1000


def test_attained_area_beyond_the_baseline_without_noise() -> None:
    points = np.array([[0.94, 0.52], [0.96, 0.50], [0.80, 0.90]])
    baseline = np.array([0.92, 0.42]), np.zeros(2)
    found = attainment(points, np.zeros((3, 2)), UP, baseline, 3)
    # 0.02 x 0.10 and, right of it, 0.02 x 0.08.
    assert found.areas == pytest.approx([0.0036] * 3)
    at = {round(float(x), 4): float(y) for x, y in zip(found.grid, found.quantiles[1], strict=True)}
    assert at[0.8] == 0.9
    assert at[0.96] == 0.5


def test_attainment_of_a_smaller_is_better_metric() -> None:
    points = np.array([[0.1, 0.5], [0.3, 0.8]])
    found = attainment(
        points, np.zeros((2, 2)), (False, True), (np.array([0.2, 0.3]), np.zeros(2)), 2
    )
    assert found.areas == pytest.approx([0.1 * 0.2] * 2)
    assert (np.diff(found.grid) > 0).all()
    assert found.quantiles[1][-1] == 0.8


def test_nothing_is_attained_beyond_the_best() -> None:
    points = np.array([[0.5, 0.5]])
    found = attainment(points, np.zeros((1, 2)), UP, (np.array([0.9, 0.1]), np.zeros(2)), 2)
    assert np.isnan(found.quantiles[:, -1]).all()
    assert found.areas.tolist() == [0.0, 0.0]
