from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from simreg_core.statistics.noisy_model import NoisyModel


def _noisy(number: int, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points, accuracies whose logits have normal noise, and the logits without it."""
    rng = np.random.default_rng(seed)
    points = rng.random((number, 2))
    latent = 1.5 * np.sin(3 * points[:, 0]) + points[:, 1]
    return points, expit(latent + noise * rng.standard_normal(number)), latent


def test_draws_have_the_mean_and_the_spread_of_the_posterior() -> None:
    points, values, _ = _noisy(30, 0.3, seed=0)
    model = NoisyModel.fitted(points, values, is_accuracy=False)
    at, none = np.random.default_rng(1).random((6, 2)), np.empty((0, 2))
    drawn = model.draws(at, none, 20000, np.random.default_rng(2))
    inside = model.estimate(at)
    np.testing.assert_allclose(drawn.mean(axis=0), inside.mean, atol=0.01)
    half = (inside.high - inside.low) / 2
    np.testing.assert_allclose(1.3 * 1.96 * drawn.std(axis=0), half, rtol=0.05)


def test_pending_points_lower_the_uncertainty_there_but_not_the_mean() -> None:
    points, values, _ = _noisy(20, 0.2, seed=3)
    model = NoisyModel.fitted(points, values, is_accuracy=False)
    at = np.array([[0.95, 0.95]])
    without = model.draws(at, np.empty((0, 2)), 20000, np.random.default_rng(0))
    with_it = model.draws(at, np.repeat(at, 8, axis=0), 20000, np.random.default_rng(0))
    assert with_it.std() < 0.9 * without.std()
    assert with_it.mean() == pytest.approx(without.mean(), abs=0.02)


def test_accuracies_stay_in_range_and_equal_the_mean_over_seeds() -> None:
    points, values, latent = _noisy(60, 0.5, seed=4)
    model = NoisyModel.fitted(points, values, is_accuracy=True)
    found = model.estimate(points)
    assert ((found.low > 0) & (found.low < found.mean)).all()
    assert ((found.mean < found.high) & (found.high < 1)).all()
    noise = 0.5 * np.random.default_rng(5).standard_normal(20000)
    truth = expit(latent[:, None] + noise).mean(axis=1)
    assert np.abs(found.mean - truth).mean() < 0.5 * np.abs(values - truth).mean()
    assert ((found.low <= truth) & (truth <= found.high)).mean() > 0.9


def test_equal_values_give_their_mean() -> None:
    model = NoisyModel.fitted(
        np.random.default_rng(0).random((7, 1)), np.full(7, 0.9), is_accuracy=True
    )
    found = model.estimate(np.array([[0.5]]))
    assert found.mean.tolist() == pytest.approx([0.9])
