"""Models of metrics that are measured with the noise of one training, and draws from them.

One training of a configuration is one noisy measurement. A Gaussian process per metric
(:mod:`simreg_core.statistics.gaussian_process`) pools neighbouring configurations and tells what
the mean over seeds is, and how uncertain it is. Accuracies are modelled as logits, so that
predictions stay in [0, 1] and a collapsed network counts less.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtr

from simreg_core.statistics.gaussian_process import Surface, fit, posterior

Array = NDArray[np.float64]

WIDEN = 1.3
"""Factor of half-widths of intervals: the hyperparameters are estimated too, not known."""
_LOWEST, _HIGHEST = 0.005, 0.9975  # logits of accuracies outside are too far away
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(9)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()
_Z = 1.959963984540054  # half width of a 95 % interval
_PIECE = 500  # points whose covariance is computed at once
_JITTER = 1e-7  # of the largest variance


class Estimate(NamedTuple):
    """What other seeds of N configurations would give."""

    mean: Array
    """(N,), mean over seeds."""
    low: Array
    """(N,), lower end of its 95 % interval."""
    high: Array
    """(N,), upper end."""


@dataclass(frozen=True)
class NoisyModel:
    """A model of one metric over d parameters."""

    is_accuracy: bool
    """Whether the values are in [0, 1] and modelled as logits."""
    points: Array
    """(n, d) in [0, 1], of the measurements."""
    values: Array
    """(n,), as modelled."""
    surface: Surface
    """The fit at ``points``."""

    @classmethod
    def fitted(
        cls, points: Array, measured: Array, *, is_accuracy: bool, seed: int = 0
    ) -> NoisyModel:
        """Fit a model to measurements.

        Args:
            points: (n, d) in [0, 1]; several networks of one configuration are equal points.
            measured: (n,), finite.
            is_accuracy: Whether the values are in [0, 1].
            seed: Seed of the restarts of the fit.
        """
        values = logit(measured.clip(_LOWEST, _HIGHEST)) if is_accuracy else measured
        return cls(is_accuracy, points, values, fit(points, values, seed=seed))

    def given(self, rows: NDArray[np.int64]) -> NoisyModel:
        """The model given only some of the measurements, with unchanged hyperparameters."""
        chosen = self.surface._replace(mean=self.surface.mean[rows], std=self.surface.std[rows])
        return replace(self, points=self.points[rows], values=self.values[rows], surface=chosen)

    @property
    def means(self) -> Array:
        """Noise-free values (n,) at ``points``, in the metric's units."""
        return self._back(self.surface.mean)

    def draws(self, at: Array, pending: Array, number: int, rng: np.random.Generator) -> Array:
        """Joint draws (S, m) of the noise-free metric at points (m, d), in its own units.

        Args:
            at: Points (m, d).
            pending: Points (p, d) of running trials; their predictions count as measurements.
            number: S.
            rng: Generator.
        """
        points, values = self.points, self.values
        if len(pending):
            mean, _ = posterior(self.surface, points, values, pending)
            points, values = np.concatenate([points, pending]), np.concatenate([values, mean])
        mean, covariance = posterior(self.surface, points, values, at)
        drawn = mean + rng.standard_normal((number, len(at))) @ _root(covariance).T
        return self._back(drawn)

    def estimate(self, at: Array) -> Estimate:
        """The mean over seeds at points (m, d), with its interval."""
        mean, variance = self._marginals(at)
        noise = self.surface.noise_std**2 if np.isfinite(self.surface.noise_std) else 0.0
        half = _Z * WIDEN * np.sqrt(variance)
        return Estimate(
            self._over_seeds(mean, variance + noise),
            self._over_seeds(mean - half, noise),
            self._over_seeds(mean + half, noise),
        )

    def probability_below(self, at: Array, bound: float = 0.0) -> Array:
        """Probability (m,) that the noise-free metric at points (m, d) is at most ``bound``.

        Of metrics that are not accuracies, the noise-free value is the mean over seeds.
        """
        mean, variance = self._marginals(at)
        found: Array = ndtr((bound - mean) / np.sqrt(variance.clip(min=1e-24)))
        return found

    def _marginals(self, at: Array) -> tuple[Array, Array]:
        """Mean and variance (m,) of the noise-free values as modelled, at points (m, d)."""
        means, variances = [np.empty(0)], [np.empty(0)]
        for start in range(0, len(at), _PIECE):
            piece = at[start : start + _PIECE]
            mean, covariance = posterior(self.surface, self.points, self.values, piece)
            means.append(mean)
            variances.append(covariance.diagonal().clip(min=0.0))
        return np.concatenate(means), np.concatenate(variances)

    def _over_seeds(self, mean: Array, variance: Array | float) -> Array:
        """Mean over normal noise, in the metric's units."""
        spread = np.sqrt(variance) * np.ones_like(mean)
        found: Array = self._back(mean[:, None] + spread[:, None] * _NODES) @ _WEIGHTS
        return found

    def _back(self, values: Array) -> Array:
        found: Array = expit(values) if self.is_accuracy else values
        return found


def _root(covariance: Array) -> Array:
    """Cholesky factor of a covariance (m, m), which rounding errors may have made indefinite."""
    jitter = _JITTER * max(float(covariance.diagonal().max()), 1e-12)
    diagonal = np.eye(len(covariance))
    while True:  # without noise, rounding errors exceed the variances that are left
        try:
            factor = np.linalg.cholesky(covariance + jitter * diagonal)
            return np.asarray(factor, dtype=np.float64)
        except np.linalg.LinAlgError:
            jitter *= 10
            if not np.isfinite(jitter):
                raise
