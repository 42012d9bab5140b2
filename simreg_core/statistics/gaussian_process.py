"""A smooth model of a noisy figure over the searched parameters: Gaussian-process regression.

The prior is a constant of wide variance, plus a Matern process of smoothness 5/2 with a length
scale per input, plus white noise: what varies between networks of the same configuration.
scikit-learn's ``GaussianProcessRegressor`` finds the hyperparameters by marginal likelihood times
weak priors, without which a dozen values in four inputs are explained whatever they are; what
follows from them is closed form (Rasmussen and Williams, *Gaussian Processes for Machine Learning*,
2006: equations 2.23, 2.24 and 5.12). N points, d inputs.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

MIN_POINTS = 5
"""Of fewer values there is no model but their mean."""
MAX_FITTED = 250
"""Points, drawn at random of more, that the hyperparameters are fitted on: the cost is cubic."""
MAX_POINTS = 1000
"""Points, drawn at random of more, that the model rests on."""
RESTARTS = 2
_MEAN_VARIANCE = 10.0  # of the constant, in variances of the values: next to nothing is known of it
_SIGNAL_BOUNDS = (1e-3, 1e2)
_NOISE_BOUNDS = (1e-6, 4.0)
_LENGTH_BOUNDS = (0.1, 30.0)  # inputs are in [0, 1]: not shorter than what points can show
# Normal priors of logarithms, in variances of the values: mean and standard deviation.
_SIGNAL_PRIOR = (0.0, 1.0)
_NOISE_PRIOR = (-2.0, 2.0)
_LENGTH_PRIOR = (0.0, 1.0)  # and half the logarithm of d more: distances grow with its root
_Z = 1.959963984540054  # of a 95 % interval

Vector = NDArray[np.float64]


class LeaveOneOut(NamedTuple):
    """Every value predicted from all others, with the hyperparameters of all."""

    mean: Vector
    """(N,), NaN where there is no value or the model does not rest on it."""
    std: Vector
    """(N,), of a new value (noise included) around ``mean``."""
    num_points: int
    """Values that were left out in turn."""
    mean_absolute_error: float
    """In units of the values; NaN for fewer than two."""
    r2: float
    """1 - (squared errors) / (squared errors of the mean of the others). At most the share of the
    variance that is no noise; 0 or less: the parameters explain nothing. The hyperparameters have
    seen all values, so that it is slightly above 0 for every third or so set of pure noise. NaN for
    equal values."""
    coverage: float
    """Share of values within their 95 % interval."""


class Hyperparameters(NamedTuple):
    """Of the prior, in units of the values; inputs are in [0, 1]."""

    mean_variance: float
    signal_variance: float
    length_scales: Vector
    """(d,)."""
    noise_variance: float
    """Beside the known part."""


class Surface(NamedTuple):
    """A fitted model at the points that it was given."""

    mean: Vector
    """(N,), of the figure without noise; also where the value is missing."""
    std: Vector
    """(N,), how uncertain ``mean`` is, hyperparameters taken as known; NaN for a single value."""
    noise_std: float
    """Of one value around the surface: root of the mean noise variance; NaN for a single value."""
    leave_one_out: LeaveOneOut
    hyperparameters: Hyperparameters | None
    """None where the model is the values' mean: fewer than :data:`MIN_POINTS`, all equal, or no
    inputs."""

    @property
    def explains(self) -> bool:
        """Whether the parameters predict values that the model has not seen better than a mean."""
        return self.hyperparameters is not None and self.leave_one_out.r2 > 0


def fit(
    points: ArrayLike, values: ArrayLike, noise_variance: ArrayLike = 0.0, seed: int = 0
) -> Surface:
    """The model of values over points; equal arguments give equal models.

    Args:
        points: (N, d) in [0, 1], d >= 0; equal points are welcome, they show the noise.
        values: (N,); NaN where there is none: such points are predicted, and teach nothing.
        noise_variance: The part of the noise's variance that is known, () or (N,), >= 0, in
            squared units of the values. The fit finds what comes on top.
        seed: Of the restarts, and of the choice among more than :data:`MAX_POINTS` points.

    Raises:
        ValueError: wrong shapes, points outside of [0, 1], infinite values, no value at all.
    """
    inputs, targets, known = _checked(points, values, noise_variance)
    used = np.flatnonzero(~np.isnan(targets))
    if len(used) == 0:
        raise ValueError("values has no number to fit a model to")
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
    scaled, floor = (targets - center) / scale, known / scale**2
    signal, lengths, noise = _fit_prior(inputs[some], scaled[some], floor[some], seed)
    prior = Hyperparameters(_MEAN_VARIANCE * scale**2, signal * scale**2, lengths, noise * scale**2)
    return _condition(prior, inputs, targets, known, used, center)


def pooled_variance(values: ArrayLike, groups: ArrayLike) -> float:
    """Variance within groups, as several networks of each configuration show it.

    Args:
        values: (N,), finite.
        groups: (N,), whose group each value is in.

    Returns:
        In squared units of the values; 0 if no group has two.
    """
    numbers = np.asarray(values, dtype=np.float64)
    _, group, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    freedom = int((sizes - 1).sum())
    if freedom == 0:
        return 0.0
    means = np.bincount(group, numbers) / sizes
    return float(((numbers - means[group]) ** 2).sum() / freedom)


def _checked(
    points: ArrayLike, values: ArrayLike, noise_variance: ArrayLike
) -> tuple[Vector, Vector, Vector]:
    inputs = np.asarray(points, dtype=np.float64)
    targets = np.asarray(values, dtype=np.float64)
    known = np.asarray(noise_variance, dtype=np.float64)
    if inputs.ndim != 2 or targets.shape != inputs.shape[:1]:
        raise ValueError(
            f"points and values must have shapes (N, d) and (N,), got {inputs.shape} and "
            f"{targets.shape}"
        )
    if known.shape not in ((), targets.shape):
        raise ValueError(f"noise_variance must have shape () or (N,), got {known.shape}")
    if not ((inputs >= 0) & (inputs <= 1)).all():
        raise ValueError("points must be in [0, 1]")
    if np.isinf(targets).any():
        raise ValueError("values must be finite, or NaN where there is none")
    if not ((known >= 0) & np.isfinite(known)).all():
        raise ValueError("noise_variance must be finite and not negative")
    return inputs, targets, np.broadcast_to(known, targets.shape)


def _fit_prior(
    inputs: Vector, values: Vector, floor: Vector, seed: int
) -> tuple[float, Vector, float]:
    """Signal variance, length scales and noise variance of greatest posterior density.

    Args:
        inputs: (N, d) in [0, 1].
        values: (N,), standardised.
        floor: (N,), the known noise variance in their units.
        seed: Of the restarts.
    """
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    num_inputs = inputs.shape[1]
    process = ConstantKernel(1.0, _SIGNAL_BOUNDS) * Matern(
        np.full(num_inputs, 0.5), _LENGTH_BOUNDS, nu=2.5
    )
    kernel: Any = (
        process + WhiteKernel(0.3, _NOISE_BOUNDS) + ConstantKernel(_MEAN_VARIANCE, "fixed")
    )
    model = GaussianProcessRegressor(
        kernel,
        alpha=floor + 1e-10,
        optimizer=_most_probable,
        n_restarts_optimizer=RESTARTS,
        random_state=seed,
    )
    with warnings.catch_warnings():
        # A length scale at its bound is an input without influence: expected, not a problem.
        warnings.simplefilter("ignore")
        model.fit(inputs, values)
    found = np.exp(model.kernel_.theta)  # signal, length scales, noise
    return (
        float(found[0]),
        np.asarray(found[1 : 1 + num_inputs], dtype=np.float64),
        float(found[-1]),
    )


def _most_probable(objective: Any, start: Vector, bounds: Vector) -> tuple[Vector, float]:
    """An optimizer for scikit-learn that adds the priors to the marginal likelihood.

    Args:
        objective: Minus the log likelihood and its gradient at logarithms of hyperparameters.
        start: Of these logarithms: signal variance, length scales, noise variance.
        bounds: Their least and greatest values, (d + 2, 2).
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
    """The posterior at all points, and every used value predicted from the others."""
    from scipy.linalg import cho_factor, cho_solve, solve_triangular

    residuals = targets[used] - center
    noise = prior.noise_variance + known[used]
    total = _covariance(prior, inputs[used], inputs[used]) + np.diag(
        noise + 1e-10 * prior.mean_variance
    )
    factor = cho_factor(total, lower=True)
    weights = cho_solve(factor, residuals)
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
        _leave_one_out(targets, used, left_out, np.sqrt(1 / inverse)),
        prior,
    )


def _covariance(prior: Hyperparameters, first: Vector, second: Vector) -> Vector:
    """Of the constant and the Matern process between two sets of points, (n, m)."""
    from scipy.spatial.distance import cdist

    distance = np.sqrt(5.0) * cdist(first / prior.length_scales, second / prior.length_scales)
    matern = (1 + distance + distance**2 / 3) * np.exp(-distance)
    return np.asarray(prior.mean_variance + prior.signal_variance * matern, dtype=np.float64)


def _constant(targets: Vector, used: NDArray[np.int64]) -> Surface:
    """The mean of the values as their model."""
    values, number = targets[used], len(used)
    spread = float(values.std(ddof=1)) if number > 1 else np.nan
    mean = float(values.mean())
    # Of one point fewer, the mean is this much further from the point left out.
    left_out = values - (values - mean) * number / (number - 1) if number > 1 else values * np.nan
    of_new = spread * np.sqrt(1 + 1 / (number - 1)) if number > 1 else np.nan
    return Surface(
        np.full(len(targets), mean),
        np.full(len(targets), spread / np.sqrt(number)),
        spread,
        _leave_one_out(targets, used, left_out, np.full(number, of_new)),
        None,
    )


def _leave_one_out(
    targets: Vector, used: NDArray[np.int64], mean: Vector, std: Vector
) -> LeaveOneOut:
    values, number = targets[used], len(used)
    everywhere = np.full((2, len(targets)), np.nan)
    everywhere[:, used] = mean, std
    if number < 2:
        return LeaveOneOut(everywhere[0], everywhere[1], number, np.nan, np.nan, np.nan)
    errors = values - mean
    by_mean = (values - values.mean()) * number / (number - 1)
    spread = float((by_mean**2).sum())
    tiny = number * (1e-12 * max(1.0, float(np.abs(values).max()))) ** 2
    return LeaveOneOut(
        everywhere[0],
        everywhere[1],
        number,
        float(np.abs(errors).mean()),
        1 - float((errors**2).sum()) / spread if spread > tiny else np.nan,
        float((np.abs(errors) <= _Z * std + np.sqrt(tiny)).mean()),
    )
