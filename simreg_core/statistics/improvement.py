"""Expected hypervolume improvement over joint draws of noise-free values."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simreg_core.statistics.pareto import non_dominated

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


def hypervolume_gains(front: Array, candidates: Array) -> Array:
    """Exact volume (C,) that each candidate alone adds to a set of points.

    Args:
        front: (n, M), n >= 0, M >= 1. All values are gains over the reference point, larger is
            better; points that are not above 0 everywhere are ignored.
        candidates: (C, M).
    """
    candidates = candidates.clip(min=0.0)
    last = candidates[:, -1]
    if front.shape[1] == 1:
        gains: Array = (last - front.max(initial=0.0)).clip(min=0.0)
        return gains
    front = front[(front > 0).all(axis=1)]
    levels = np.unique(front[:, -1])[::-1]
    # Slabs from the top: above the highest level there is only the candidate.
    gains = (last - levels.max(initial=0.0)).clip(min=0.0) * candidates[:, :-1].prod(axis=1)
    for level, lower in zip(levels, np.append(levels, 0.0)[1:], strict=True):
        height = (last.clip(max=level) - lower).clip(min=0.0)
        above = front[front[:, -1] >= level, :-1]
        gains += height * hypervolume_gains(above, candidates[:, :-1])
    return gains


def expected_gains(known: Array, candidates: Array, known_ok: Mask, candidates_ok: Mask) -> Array:
    """Mean gain (C,) of each candidate over S joint draws, times its probability to be feasible.

    The probability counts twice, because infeasible candidates gain nothing in the mean. Otherwise,
    hopes that are improbable but great would draw most trials to where a constraint is missed.

    If no known point is feasible in any draw, the share of draws in which a candidate is feasible
    counts instead.

    Args:
        known: (S, K, M), gains over the reference point.
        candidates: (S, C, M).
        known_ok: bool (S, K), whether the constraints are met.
        candidates_ok: bool (S, C).
    """
    probability: Array = candidates_ok.mean(axis=0)
    if not known_ok.any():
        return probability
    total = np.zeros(candidates.shape[1])
    for points, feasible, options, allowed in zip(
        known, known_ok, candidates, candidates_ok, strict=True
    ):
        points = points[feasible]
        front = points[non_dominated(points, [True] * points.shape[1])]
        total += np.where(allowed, hypervolume_gains(front, options), 0.0)
    return total / len(known) * probability
