from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from simreg_core.statistics import gaussian_process
from simreg_core.statistics.gaussian_process import Hyperparameters, fit, pooled_variance

Array = NDArray[np.float64]


def smooth(points: Array) -> Array:
    return np.asarray(np.sin(3 * points[:, 0]) + points[:, 1] ** 2, dtype=np.float64)


def points_of(number: int, seed: int = 0, inputs: int = 2) -> Array:
    return np.random.default_rng(seed).uniform(size=(number, inputs))


def noisy(number: int, noise: float, seed: int = 0) -> tuple[Array, Array]:
    points = points_of(number, seed)
    return points, smooth(points) + np.random.default_rng(seed + 1).normal(0, noise, number)


def predicted(
    prior: Hyperparameters, points: Array, values: Array, noise: Array, at: Array, center: float
) -> tuple[float, float]:
    """Mean and standard deviation at one point, element by element, by solving one system."""

    def covariance(first: Array, second: Array) -> float:
        squares = ((a - b) / s for a, b, s in zip(first, second, prior.length_scales, strict=True))
        distance = math.sqrt(5 * sum(float(square) ** 2 for square in squares))
        matern = (1 + distance + distance**2 / 3) * math.exp(-distance)
        return prior.mean_variance + prior.signal_variance * matern

    matrix = np.array([[covariance(a, b) for b in points] for a in points]) + np.diag(noise)
    cross = np.array([covariance(at, point) for point in points])
    weights = np.linalg.solve(matrix, cross)
    variance = covariance(at, at) - float(weights @ cross)
    return center + float(weights @ (values - center)), math.sqrt(max(variance, 0.0))


# what follows from given hyperparameters


@pytest.mark.parametrize("known", [0.0, 0.02], ids=["unknown noise", "partly known noise"])
def test_posterior_and_leave_one_out_are_those_computed_element_by_element(known: float) -> None:
    points, values = noisy(20, 0.2)
    variances = np.linspace(0, known, 20)
    surface = fit(points, values, variances)
    prior = surface.hyperparameters
    assert prior is not None
    noise, center = prior.noise_variance + variances, float(values.mean())
    means, stds = [], []
    for place in range(20):
        mean, std = predicted(prior, points, values, noise, points[place], center)
        assert surface.mean[place] == pytest.approx(mean, abs=1e-6)
        assert surface.std[place] == pytest.approx(std, abs=1e-5)
        rest = np.arange(20) != place
        mean, std = predicted(prior, points[rest], values[rest], noise[rest], points[place], center)
        means.append(mean)
        stds.append(math.hypot(std, math.sqrt(noise[place])))
    found = surface.leave_one_out
    errors = [value - mean for value, mean in zip(values, means, strict=True)]
    by_mean = [v - (values.sum() - v) / 19 for v in values]
    ratio = sum(e**2 for e in errors) / sum(e**2 for e in by_mean)
    assert found.r2 == pytest.approx(1 - ratio, abs=1e-6)
    assert found.mean_absolute_error == pytest.approx(sum(map(abs, errors)) / 20, abs=1e-6)
    inside = [abs(e) <= 1.959964 * s for e, s in zip(errors, stds, strict=True)]
    assert found.coverage == pytest.approx(sum(inside) / 20)


# what the fit finds


def test_smooth_function_without_noise_is_recovered() -> None:
    points = points_of(40)
    surface = fit(points, smooth(points))
    assert np.abs(surface.mean - smooth(points)).max() < 0.01
    assert surface.leave_one_out.r2 > 0.99
    assert surface.noise_std < 0.02


def test_mean_is_nearer_to_the_truth_than_the_values_are() -> None:
    points, values = noisy(60, 0.3)
    surface = fit(points, values)
    truth = smooth(points)
    error = math.sqrt(((surface.mean - truth) ** 2).mean())
    assert error < 0.5 * math.sqrt(((values - truth) ** 2).mean())
    assert surface.noise_std == pytest.approx(0.3, rel=0.25)
    assert np.mean(np.abs(surface.mean - truth) <= 1.96 * surface.std) > 0.8


def test_input_without_influence_gets_the_longer_scale() -> None:
    points = points_of(50, inputs=3)
    values = smooth(points[:, :2]) + np.random.default_rng(3).normal(0, 0.05, 50)
    prior = fit(points, values).hyperparameters
    assert prior is not None
    assert prior.length_scales[2] > 2 * prior.length_scales[:2].max()


def test_pure_noise_is_rarely_taken_for_a_pattern() -> None:
    shares = [
        fit(points_of(24, seed), np.random.default_rng(99 - seed).normal(size=24)).leave_one_out.r2
        for seed in range(10)
    ]
    assert np.median(shares) < 0.05
    assert max(shares) < 0.5


def test_known_noise_is_not_fitted_away() -> None:
    points, values = noisy(12, 0.05)
    assert fit(points, values, 0.3**2).noise_std >= 0.3
    values[0] += 3
    surface = fit(points, values, np.where(np.arange(12) == 0, 9.0, 0.0))
    assert abs(surface.mean[0] - smooth(points)[0]) < 0.4


def test_scale_and_offset_of_the_values_do_not_matter_and_the_model_is_reproducible() -> None:
    points, values = noisy(20, 0.2)
    surface, other = fit(points, values), fit(points, 1000 + 0.01 * values)
    assert np.array_equal(fit(points, values).mean, surface.mean)
    assert other.mean == pytest.approx(1000 + 0.01 * surface.mean, abs=1e-5)
    assert other.std == pytest.approx(0.01 * surface.std, rel=1e-2)
    assert other.leave_one_out.r2 == pytest.approx(surface.leave_one_out.r2, abs=1e-3)


# what there is no model of


def test_single_value_is_its_own_mean() -> None:
    surface = fit([[0.5]], [0.7])
    assert surface.mean.tolist() == [0.7]
    assert surface.hyperparameters is None
    assert math.isnan(surface.std[0])
    assert math.isnan(surface.leave_one_out.r2)
    assert not surface.explains


@pytest.mark.parametrize("number", [2, 3])
def test_few_values_have_their_mean_as_model(number: int) -> None:
    values = np.array([0.1, 0.4, 0.3])[:number]
    surface = fit(points_of(number), values)
    assert surface.mean == pytest.approx([values.mean()] * number)
    assert surface.std == pytest.approx([values.std(ddof=1) / math.sqrt(number)] * number)
    errors = [value - (values.sum() - value) / (number - 1) for value in values]
    assert surface.leave_one_out.mean_absolute_error == pytest.approx(np.abs(errors).mean())
    assert surface.leave_one_out.r2 == pytest.approx(0)
    assert not surface.explains
    without_inputs = fit(np.empty((6, 0)), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    assert without_inputs.mean == pytest.approx([3.5] * 6)


def test_equal_values_are_a_constant_without_noise() -> None:
    surface = fit(points_of(10), np.full(10, 0.3))
    assert surface.mean == pytest.approx([0.3] * 10)
    assert surface.noise_std == pytest.approx(0, abs=1e-12)
    assert math.isnan(surface.leave_one_out.r2)
    assert surface.leave_one_out.coverage == 1
    assert not surface.explains


# missing values, many values


def test_point_without_a_value_is_predicted_and_teaches_nothing() -> None:
    points, values = noisy(20, 0.1)
    gaps = values.copy()
    gaps[[2, 11]] = np.nan
    surface = fit(points, gaps)
    without = fit(np.delete(points, [2, 11], axis=0), np.delete(values, [2, 11]))
    assert np.delete(surface.mean, [2, 11]) == pytest.approx(without.mean, abs=1e-9)
    assert np.abs(surface.mean[[2, 11]] - smooth(points[[2, 11]])).max() < 0.4
    assert surface.leave_one_out == pytest.approx(without.leave_one_out, abs=1e-9)


def test_more_points_than_a_model_can_rest_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gaussian_process, "MAX_POINTS", 40)
    monkeypatch.setattr(gaussian_process, "MAX_FITTED", 30)
    points, values = noisy(200, 0.1)
    surface = fit(points, values)
    assert np.isfinite(surface.mean).all()
    assert math.sqrt(((surface.mean - smooth(points)) ** 2).mean()) < 0.1


# variance within groups


def test_pooled_variance_is_that_within_the_groups() -> None:
    # Deviations -1, 1 and -2, 0, 2: squares 10, three degrees of freedom; the lone one adds none.
    assert pooled_variance([1, 3, 10, 12, 14, 99], [0, 0, 5, 5, 5, 7]) == pytest.approx(10 / 3)
    assert pooled_variance([1.0, 2.0], [0, 1]) == 0
    assert pooled_variance([], []) == 0
