"""How far noise moves a front: intervals, probabilities and attainment; numpy arrays in and out.

N points, M objectives, D draws. A draw adds independent normal noise to every value. The values
carry noise already, so draws are spread more widely than the truth, and results are cautious.
Networks that are judged on the same images share part of their noise, which adds to the caution.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.results.load import Array
from simreg_core.statistics.pareto import non_dominated

Z95 = 1.959963984540054
"""Half the width of a 95 % interval of a normal distribution, in standard deviations."""
_SEED = 0  # of the draws
_FAR = 3.0  # standard errors by which a point that cannot matter is behind
_MANY = 1000  # points that may matter; of more, fewer draws are made


class Attainment(NamedTuple):
    """The best second objective that a front reaches together with each value of the first."""

    grid: Array
    """(G,), ascending values of the first objective."""
    quantiles: Array
    """(3, G), 5 %, 50 % and 95 % of the draws of the best second objective; NaN: none."""
    areas: Array
    """(D,), the area of each draw beyond the (drawn) baseline in both objectives."""


def wilson(share: Array, n: NDArray[np.int64]) -> Array:
    """Ends (2, N) of 95 % Wilson intervals of binomial shares (N,) of ``n`` (N,) images."""
    z2 = Z95**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * np.sqrt(share * (1 - share) / n + z2 / (4 * n**2))
    return np.stack([middle - half, middle + half])


def t_half_widths(n: ArrayLike) -> Array:
    """Half the widths of 95 % intervals of means of ``n`` numbers, in standard errors; 1: NaN."""
    from scipy import stats  # slow to import

    return np.asarray(stats.t.ppf(0.975, np.asarray(n) - 1))


def expected_maximum(n: int) -> float:
    """Mean of the largest of ``n`` standard normal numbers (Blom's approximation)."""
    from scipy import stats

    return float(stats.norm.ppf((n - 0.375) / (n + 0.25))) if n > 1 else 0.0


def num_draws(points: Array, noise: Array, maximize: Sequence[bool]) -> int:
    """How many draws :func:`front_probability` makes: 1000, or 200 where many points compete."""
    return 1000 if int(_may_matter(points, noise, maximize).sum()) <= _MANY else 200


def front_probability(points: Array, noise: Array, maximize: Sequence[bool], draws: int) -> Array:
    """Share of draws in which each point is on the front, (N,).

    Args:
        points: (N, M), finite.
        noise: (N, M), standard errors; NaN counts as 0.
        maximize: (M,), False where smaller is better.
        draws: Number of draws.
    """
    candidates = _may_matter(points, noise, maximize)
    counts = np.zeros(int(candidates.sum()))
    for drawn in _draws(points[candidates], noise[candidates], draws):
        counts += non_dominated(drawn, maximize)
    probability = np.zeros(len(points))
    probability[candidates] = counts / draws
    return probability


def attainment(
    points: Array,
    noise: Array,
    maximize: Sequence[bool],
    baseline: tuple[Array, Array],
    draws: int,
) -> Attainment:
    """The attainment surface of two objectives under noise, and the area beyond the baseline.

    Args:
        points: (N, 2), N >= 1, finite.
        noise: (N, 2), standard errors; NaN counts as 0.
        maximize: False where smaller is better.
        baseline: Mean (2,) and its standard error (2,).
        draws: Number of draws.
    """
    sign = np.where(maximize, 1.0, -1.0)
    candidates = _may_matter(points, noise, maximize)
    signed = points[candidates] * sign
    ends = [*signed[:, 0], baseline[0][0] * sign[0]]
    grid = np.linspace(min(ends), max(ends), 81)
    base_rng = np.random.default_rng([_SEED, 1])
    reached, areas = [], []
    for drawn in _draws(signed, noise[candidates], draws):
        order = np.argsort(drawn[:, 0])
        best = np.maximum.accumulate(drawn[order[::-1], 1])[::-1]
        place = np.searchsorted(drawn[order, 0], grid)
        reached.append(np.append(best, -np.inf)[place])
        corner = baseline[0] * sign + base_rng.normal(size=2) * np.nan_to_num(baseline[1])
        areas.append(_area_beyond(drawn[order, 0], best, corner))
    quantiles = np.quantile(np.array(reached), [0.05, 0.5, 0.95], axis=0, method="nearest")
    quantiles[~np.isfinite(quantiles)] = np.nan
    if not maximize[1]:
        quantiles = -quantiles[::-1]
    grid = grid * sign[0]
    order = np.argsort(grid)
    return Attainment(grid[order], quantiles[:, order], np.array(areas))


def _area_beyond(x: Array, best: Array, corner: Array) -> float:
    """Area under the best second objective at each ascending ``x``, beyond a corner in both."""
    widths = np.diff(x.clip(min=corner[0]), prepend=corner[0])
    return float(widths @ (best - corner[1]).clip(min=0))


def _may_matter(points: Array, noise: Array, maximize: Sequence[bool]) -> NDArray[np.bool_]:
    """Points that are not behind another one by several standard errors in every objective."""
    sign = np.where(maximize, 1.0, -1.0)
    spread = _FAR * np.nan_to_num(noise)
    pessimistic, optimistic = points * sign - spread, points * sign + spread
    up = [True] * points.shape[1]
    strong = pessimistic[non_dominated(pessimistic, up)]
    keep = np.ones(len(points), dtype=np.bool_)
    for rival in strong:
        keep &= ~(rival > optimistic).all(axis=1)
    return keep


def _draws(points: Array, noise: Array, draws: int) -> Iterator[Array]:
    rng = np.random.default_rng(_SEED)
    for _ in range(draws):
        yield points + rng.normal(size=points.shape) * np.nan_to_num(noise)
