from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from simreg_core.statistics.noisy_front import (
    MIN_MODELLED,
    NoisyFront,
    most_hypervolume,
    noisy_front,
)
from simreg_core.statistics.pareto import hypervolume, non_dominated

NAMES = ("clean_accuracy", "robust_accuracy")


def front(
    points: np.ndarray, values: np.ndarray, violations: np.ndarray | None = None
) -> NoisyFront:
    both = (True, True)
    return noisy_front(
        points, values, NAMES, is_accuracy=both, maximize=both, violations=violations
    )


def truth(points: np.ndarray) -> np.ndarray:
    """A tradeoff over the first input: one metric falls where the other rises."""
    x = points[:, 0]
    return np.column_stack([0.98 - 0.3 * x**2, 0.4 + 0.3 * x])


def measured(points: np.ndarray, seed: int, spread: float = 0.03) -> np.ndarray:
    noise = spread * np.random.default_rng(seed).standard_normal((len(points), 2))
    return np.clip(truth(points) + noise, 0, 1)


def test_modelled_means_are_closer_to_the_truth_than_measurements_and_do_not_flatter() -> None:
    errors, raw_errors, luck, raw_luck, inside = [], [], [], [], []
    for seed in range(12):
        points = np.random.default_rng([seed, 1]).random((30, 2))
        values = measured(points, seed)
        found = front(points, values)
        assert found.is_modelled
        np.testing.assert_array_equal(found.on_front, non_dominated(found.mean, (True, True)))
        known, raw = truth(points), non_dominated(values, (True, True))
        errors.append(np.abs(found.mean - known).mean())
        raw_errors.append(np.abs(values - known).mean())
        luck.append((found.mean - known)[found.on_front].mean())
        raw_luck.append((values - known)[raw].mean())
        inside.append(((found.low <= known) & (known <= found.high)).mean())
    assert np.mean(errors) < 0.6 * np.mean(raw_errors)
    assert abs(np.mean(luck)) < 0.3 * np.mean(raw_luck)
    assert np.mean(inside) > 0.9


def test_several_networks_of_a_configuration_have_one_estimate() -> None:
    points = np.repeat(np.linspace(0, 1, 15)[:, None], 2, axis=0)
    found = front(points, measured(points, 3))
    np.testing.assert_allclose(found.mean[::2], found.mean[1::2])
    np.testing.assert_array_equal(found.on_front[::2], found.on_front[1::2])


@pytest.mark.parametrize(
    ("points", "values", "problem"),
    [
        (np.linspace(0, 1, MIN_MODELLED - 1)[:, None], None, "11 configurations are too few"),
        (np.empty((20, 0)), None, "1 configurations are too few"),
        (np.linspace(0, 1, 20)[:, None], "noise", "the parameters do not predict robust_accuracy"),
    ],
)
def test_raw_values_where_no_model_is_trusted(
    points: np.ndarray, values: str, problem: str
) -> None:
    found_values = np.random.default_rng(6).uniform(0.4, 0.6, (len(points), 2))
    if values == "noise":  # a metric that is explained, and one that is not
        found_values[:, 0] = truth(points)[:, 0]
    violations = np.where(np.arange(len(points)) == np.argmax(found_values[:, 1]), 1.0, -1.0)
    found = front(points, found_values, violations[:, None])
    assert found.problem.startswith(problem)
    np.testing.assert_array_equal(found.mean, found_values)
    assert np.isnan(found.low).all()
    meets = violations <= 0
    expected = np.zeros(len(points), dtype=bool)
    expected[meets] = non_dominated(found_values[meets], (True, True))
    np.testing.assert_array_equal(found.on_front, expected)


def test_constraints_are_judged_by_the_modelled_metric() -> None:
    points = np.linspace(0, 1, 40)[:, None]
    values = measured(points, 1)
    violations = 0.85 - values[:, :1]  # clean accuracy of at least .85
    found = front(points, values, violations)
    meets = truth(points)[:, 0] >= 0.85
    assert (found.feasible[meets] > 0.5).mean() > 0.9
    assert (found.feasible[~meets] < 0.5).mean() > 0.8
    assert not found.on_front[found.feasible < 0.5].any()


def test_constraint_that_nothing_predicts_is_judged_as_measured() -> None:
    points = np.linspace(0, 1, 40)[:, None]
    values, rng = measured(points, 1), np.random.default_rng(1)
    violations = np.where(rng.random(40) < 0.4, -1.0, 1.0) * rng.uniform(0.9, 1.1, 40)
    found = front(points, values, violations[:, None])
    assert found.is_modelled
    np.testing.assert_array_equal(found.feasible, violations <= 0)
    assert found.on_front.any()


def test_metric_that_never_changes_is_known() -> None:
    points = np.linspace(0, 1, 30)[:, None]
    values = measured(points, 1)
    values[:, 0] = 0.9
    found = front(points, values)
    assert found.is_modelled
    np.testing.assert_allclose(found.mean[:, 0], 0.9)
    assert found.on_front.sum() == 1


def test_most_hypervolume_of_two_is_the_best_greedy_choice() -> None:
    values = np.random.default_rng(2).random((9, 2))
    reference = values.min(axis=0) - 0.1 * np.ptp(values, axis=0)

    def volume(rows: tuple[int, ...]) -> float:
        return hypervolume(values[list(rows)], reference, (True, True))

    first, second = most_hypervolume(values, (True, True), 2)
    assert first == max(range(9), key=lambda row: volume((row,)))
    best = max((pair for pair in combinations(range(9), 2) if first in pair), key=volume)
    assert {first, second} == set(best)
    minimized = most_hypervolume(-values, (False, False), 20)
    assert sorted(minimized) == list(range(9))
    np.testing.assert_array_equal(minimized[:2], [first, second])
    assert len(most_hypervolume(values[:0], (True, True))) == 0
