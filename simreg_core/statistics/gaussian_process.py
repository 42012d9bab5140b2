"""Gaussian-process regression of noisy values over the searched parameters.

The prior is the sum of a constant with a wide variance, a Matern-5/2 process with one length scale
per input, and white noise, which is the variation between networks of one configuration.
scikit-learn's ``GaussianProcessRegressor`` maximizes the marginal likelihood times weak priors of
the hyperparameters. Without these priors, the model would explain any dozen values in four inputs.
The posterior is in closed form (Rasmussen and Williams, *Gaussian Processes for Machine Learning*,
2006, equations 2.23, 2.24 and 5.12). N points, d inputs.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

MIN_POINTS = 5
"""With fewer values, the model is their mean."""
MAX_FITTED = 150
"""Most points that the hyperparameters are fitted to, drawn at random; the cost is cubic."""
MAX_POINTS = 1000
"""Most points that the model is conditioned on, drawn at random."""
RESTARTS = 2
_MEAN_VARIANCE = 10.0  # of the constant, in variances of the values: almost uninformative
_SIGNAL_BOUNDS = (1e-3, 1e2)
_NOISE_BOUNDS = (1e-6, 4.0)
_LENGTH_BOUNDS = (0.1, 30.0)  # inputs are in [0, 1]; points cannot resolve shorter scales
# Mean and standard deviation of the logarithms; the values have variance 1.
_SIGNAL_PRIOR = (0.0, 1.0)
_NOISE_PRIOR = (-2.0, 2.0)
_LENGTH_PRIOR = (0.0, 1.0)  # plus log(d) / 2, because distances grow with the root of d
_Z = 1.959963984540054  # half width of a 95 % interval

Vector = NDArray[np.float64]


class LeaveOneOut(NamedTuple):
    """Errors of leave-one-out predictions, with the hyperparameters fitted to all values."""

    mean_absolute_error: float
    """In units of the values; NaN for fewer than two values."""
    r2: float
    """1 - (squared errors) / (squared errors of the mean of the other values). At most the share of
    the variance that is not noise; 0 or less if the parameters explain nothing; NaN for equal
    values. About a third of pure noise scores slightly above 0, because the hyperparameters are
    fitted to all values."""
    coverage: float
    """Share of the values within their 95 % intervals."""


class Hyperparameters(NamedTuple):
    """Parameters of the prior. Variances are in squared units of the values."""

    mean_variance: float
    signal_variance: float
    length_scales: Vector
    """(d,), for inputs in [0, 1]."""
    noise_variance: float
    """Without the known part of the noise."""


class Surface(NamedTuple):
    """A fitted model, evaluated at its points."""

    mean: Vector
    """(N,), predictions without noise, also for points without a value."""
    std: Vector
    """(N,), uncertainty of ``mean`` at fixed hyperparameters; NaN for a single value."""
    noise_std: float
    """Root of the mean noise variance of one value; NaN for a single value."""
    leave_one_out: LeaveOneOut
    hyperparameters: Hyperparameters | None
    """None if the model is the mean: fewer than :data:`MIN_POINTS` values, all equal, or d = 0."""

    @property
    def explains(self) -> bool:
        """Whether left-out values are predicted better than by the mean."""
        return self.hyperparameters is not None and self.leave_one_out.r2 > 0


def fit(
    points: ArrayLike, values: ArrayLike, noise_variance: ArrayLike = 0.0, seed: int = 0
) -> Surface:
    """Fit a model of values over points; deterministic for equal arguments.

    Args:
        points: (N, d) in [0, 1], d >= 0. Repeated points help to estimate the noise.
        values: (N,), at least one of them finite; NaN at points that are only to be predicted.
        noise_variance: () or (N,), >= 0, the known part of the noise variance in squared units of
            the values. The fit estimates the rest.
        seed: Seed of the restarts and of the choice of points.
    """
    inputs, targets = (np.asarray(array, dtype=np.float64) for array in (points, values))
    known = np.broadcast_to(np.asarray(noise_variance, dtype=np.float64), targets.shape)
    used = np.flatnonzero(~np.isnan(targets))
    rng = np.random.default_rng(seed)
    if len(used) > MAX_POINTS:
        used = np.sort(rng.choice(used, MAX_POINTS, replace=False))
    center, scale = float(targets[used].mean()), float(targets[used].std())
    is_constant = scale <= 1e-12 * max(1.0, abs(center))
    if len(used) < MIN_POINTS or is_constant or inputs.shape[1] == 0:
        return _constant(targets, used)
    some = used
    if len(used) > MAX_FITTED:
        some = np.sort(rng.choice(used, MAX_FITTED, replace=False))
    scaled, floor = (targets[some] - center) / scale, known[some] / scale**2
    with threadpool_limits(1):  # small matrices: more threads only wait for each other
        signal, *lengths, noise = _fit_prior(inputs[some], scaled, floor, seed)
    unit = scale**2
    prior = Hyperparameters(_MEAN_VARIANCE * unit, signal * unit, np.array(lengths), noise * unit)
    return _condition(prior, inputs, targets, known, used, center)


def posterior(
    surface: Surface, points: Vector, values: Vector, at: Vector
) -> tuple[Vector, Vector]:
    """Mean (m,) and covariance (m, m) of the noise-free process at points ``at`` (m, d).

    Args:
        surface: A fit, whose hyperparameters and noise are used.
        points: (n, d), of the values.
        values: (n,), finite.
        at: (m, d).
    """
    from scipy.linalg import cho_solve

    center, prior = float(values.mean()), surface.hyperparameters
    if prior is None:  # the mean of the values, with the same error everywhere
        variance = float(values.var()) / len(values)
        return np.full(len(at), center), np.full((len(at), len(at)), variance)
    factor = _factor(prior, points, np.full(len(points), prior.noise_variance))
    cross = _covariance(prior, at, points)
    mean = center + cross @ cho_solve(factor, values - center)
    covariance = _covariance(prior, at, at) - cross @ cho_solve(factor, cross.T)
    return mean, covariance


def pooled_variance(values: ArrayLike, groups: ArrayLike) -> float:
    """Variance within groups, in squared units of the values; 0 if no group has two values.

    Args:
        values: (N,), finite.
        groups: (N,), label of the group of each value.
    """
    numbers = np.asarray(values, dtype=np.float64)
    _, group, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    freedom = int((sizes - 1).sum())
    if freedom == 0:
        return 0.0
    means = np.bincount(group, numbers) / sizes
    return float(((numbers - means[group]) ** 2).sum() / freedom)


def _fit_prior(inputs: Vector, values: Vector, floor: Vector, seed: int) -> list[float]:
    """Signal variance, d length scales and noise variance of greatest posterior density.

    ``values`` are standardised; ``floor`` is the known noise variance in their units.
    """
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    matern = Matern(np.full(inputs.shape[1], 0.5), _LENGTH_BOUNDS, nu=2.5)
    noise, constant = WhiteKernel(0.3, _NOISE_BOUNDS), ConstantKernel(_MEAN_VARIANCE, "fixed")
    kernel: Any = ConstantKernel(1.0, _SIGNAL_BOUNDS) * matern + noise + constant
    model = GaussianProcessRegressor(
        kernel,
        alpha=floor + 1e-10,
        optimizer=_most_probable,
        n_restarts_optimizer=RESTARTS,
        random_state=seed,
    )
    with warnings.catch_warnings():
        # A length scale at its bound is normal: the input has no influence.
        warnings.simplefilter("ignore")
        model.fit(inputs, values)
    return [float(value) for value in np.exp(model.kernel_.theta)]


def _most_probable(objective: Any, start: Vector, bounds: Vector) -> tuple[Vector, float]:
    """An optimizer for scikit-learn that adds the priors to the marginal likelihood.

    ``objective`` returns minus the log likelihood and its gradient at the logarithms of signal
    variance, length scales and noise variance, whose ``bounds`` are (d + 2, 2).
    """
    from scipy.optimize import minimize

    num_inputs = len(start) - 2
    lengths = (_LENGTH_PRIOR[0] + 0.5 * np.log(num_inputs), _LENGTH_PRIOR[1])
    means, spreads = np.array([_SIGNAL_PRIOR, *[lengths] * num_inputs, _NOISE_PRIOR]).T

    def penalised(logs: Vector) -> tuple[float, Vector]:
        value, gradient = objective(logs, eval_gradient=True)
        away = (logs - means) / spreads
        return value + 0.5 * float(away @ away), gradient + away / spreads

    found = minimize(penalised, start, method="L-BFGS-B", jac=True, bounds=bounds)
    return found.x, float(found.fun)


def _condition(
    prior: Hyperparameters,
    inputs: Vector,
    targets: Vector,
    known: Vector,
    used: NDArray[np.int64],
    center: float,
) -> Surface:
    """The posterior at all points and the leave-one-out predictions of the used values."""
    from scipy.linalg import cho_solve, solve_triangular

    noise = prior.noise_variance + known[used]
    factor = _factor(prior, inputs[used], noise)
    weights = cho_solve(factor, targets[used] - center)
    cross = _covariance(prior, inputs, inputs[used])
    mean = center + cross @ weights
    explained = (solve_triangular(factor[0], cross.T, lower=True) ** 2).sum(axis=0)
    variance = prior.mean_variance + prior.signal_variance - explained
    inverse = np.diag(cho_solve(factor, np.eye(len(used))))
    left_out = targets[used] - weights / inverse
    return Surface(
        mean,
        np.sqrt(np.maximum(variance, 0.0)),
        float(np.sqrt(noise.mean())),
        _leave_one_out(targets[used], left_out, np.sqrt(1 / inverse)),
        prior,
    )


def _factor(prior: Hyperparameters, points: Vector, noise: Vector) -> tuple[Vector, bool]:
    """Cholesky factor of the covariance of values at points with these noise variances (n,)."""
    from scipy.linalg import cho_factor

    jitter = 1e-10 * prior.mean_variance
    total = _covariance(prior, points, points) + np.diag(noise + jitter)
    factor: tuple[Vector, bool] = cho_factor(total, lower=True)
    return factor


def _covariance(prior: Hyperparameters, first: Vector, second: Vector) -> Vector:
    """Covariance (n, m) of the constant and the Matern process between two sets of points."""
    from scipy.spatial.distance import cdist

    distance = np.sqrt(5.0) * cdist(first / prior.length_scales, second / prior.length_scales)
    matern = (1 + distance + distance**2 / 3) * np.exp(-distance)
    return np.asarray(prior.mean_variance + prior.signal_variance * matern, dtype=np.float64)


def _constant(targets: Vector, used: NDArray[np.int64]) -> Surface:
    """A model that is the mean of the values."""
    values, number = targets[used], len(used)
    spread, others = (float(values.std(ddof=1)), number - 1) if number > 1 else (np.nan, np.nan)
    mean = float(values.mean())
    # The mean of the other values is further away from the left-out value by this factor.
    left_out = values - (values - mean) * number / others
    of_new = spread * np.sqrt(1 + 1 / others)
    return Surface(
        np.full(len(targets), mean),
        np.full(len(targets), spread / np.sqrt(number)),
        spread,
        _leave_one_out(values, left_out, np.full(number, of_new)),
        None,
    )


def _leave_one_out(values: Vector, mean: Vector, std: Vector) -> LeaveOneOut:
    """Errors of the predictions of new values, whose ``std`` includes the noise."""
    number = len(values)
    if number < 2:
        return LeaveOneOut(np.nan, np.nan, np.nan)
    errors = values - mean
    by_mean = (values - values.mean()) * number / (number - 1)
    spread = float((by_mean**2).sum())
    tiny = number * (1e-12 * max(1.0, float(np.abs(values).max()))) ** 2
    r2 = 1 - float((errors**2).sum()) / spread if spread > tiny else np.nan
    coverage = float((np.abs(errors) <= _Z * std + np.sqrt(tiny)).mean())
    return LeaveOneOut(float(np.abs(errors).mean()), r2, coverage)
