"""Pareto fronts and hypervolumes of N points with M objectives.

A point dominates another one if it is at least as good in every objective and better in one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


def non_dominated(values: ArrayLike, maximize: Sequence[bool]) -> NDArray[np.bool_]:
    """Mask (N,) of the points that no other point dominates. Equal points do not dominate.

    The cost is O(N log N) for two objectives, else O(F N M) for F points on the front. Integers
    are compared exactly.

    Args:
        values: (N, M), N >= 0, M >= 1; infinities are allowed, NaN is not.
        maximize: (M,), False if smaller is better.

    Raises:
        ValueError: a value is NaN.
    """
    points = np.asarray(values)
    if np.isnan(points).any():
        raise ValueError("values hold NaN, which cannot be compared")
    ranks = _ranks(points, maximize)
    return _two_objectives(ranks) if ranks.shape[1] == 2 else _any_objectives(ranks)


def front_among(
    values: ArrayLike, allowed: NDArray[np.bool_], maximize: Sequence[bool]
) -> NDArray[np.bool_]:
    """Which of the points (N, M) are on the front of the allowed ones, (N,)."""
    on_front = np.zeros(len(allowed), dtype=np.bool_)
    on_front[allowed] = non_dominated(np.asarray(values)[allowed], maximize)
    return on_front


def hypervolume(values: ArrayLike, reference: ArrayLike, maximize: Sequence[bool]) -> float:
    """Exact volume between the points and the reference point, in the product of the units.

    Points that are not better than the reference point in every objective are ignored. The cost
    grows with (size of the front) ** (M - 1).

    Args:
        values: (N, M), N >= 0, M >= 1.
        reference: (M,), a point worse than those of interest.
        maximize: (M,), False if smaller is better.

    Raises:
        ValueError: a value is not finite.
    """
    points, corner = (np.asarray(array, dtype=np.float64) for array in (values, reference))
    if not (np.isfinite(points).all() and np.isfinite(corner).all()):
        raise ValueError("hypervolume needs finite values and a finite reference")
    gains = np.where(maximize, points - corner, corner - points)
    gains = gains[(gains > 0).all(axis=1)]
    return _volume(gains[non_dominated(gains, [True] * gains.shape[1])])


def _ranks(points: NDArray[np.generic], maximize: Sequence[bool]) -> NDArray[np.int64]:
    """Rank of each value among the distinct values of its objective; larger is better.

    Ranks can be negated, unlike unsigned integers.
    """
    ranks = np.empty(points.shape, dtype=np.int64)
    for column, larger_is_better in enumerate(maximize):
        rank = np.unique(points[:, column], return_inverse=True)[1]
        ranks[:, column] = rank if larger_is_better else -rank
    return ranks


def _two_objectives(ranks: NDArray[np.int64]) -> NDArray[np.bool_]:
    order = np.lexsort((-ranks[:, 1], -ranks[:, 0]))
    first, second = ranks[order].T
    starts_group = np.r_[True, first[1:] != first[:-1]][: len(first)]
    group_start = np.maximum.accumulate(np.where(starts_group, np.arange(len(first)), 0))
    # A group of equal first objectives starts with its best second objective.
    is_best_of_group = second == second[group_start]
    best_so_far = np.r_[np.iinfo(np.int64).min, np.maximum.accumulate(second)]
    beats_better_groups = second > best_so_far[group_start]
    mask = np.empty(len(ranks), dtype=np.bool_)
    mask[order] = is_best_of_group & beats_better_groups
    return mask


def _any_objectives(ranks: NDArray[np.int64]) -> NDArray[np.bool_]:
    mask = np.zeros(len(ranks), dtype=np.bool_)
    # The point with the largest sum is not dominated. Remove it, its equals and what it dominates.
    remaining = np.argsort(-ranks.sum(axis=1), kind="stable")
    while len(remaining):
        best, others = ranks[remaining[0]], ranks[remaining]
        mask[remaining[(others == best).all(axis=1)]] = True
        remaining = remaining[(others > best).any(axis=1)]
    return mask


def _volume(gains: NDArray[np.float64]) -> float:
    """Volume of the union of the boxes from the origin to each row of ``gains`` (N, M) > 0."""
    if len(gains) == 0:
        return 0.0
    if gains.shape[1] == 1:
        return float(gains.max())
    if gains.shape[1] == 2:
        first, second = gains[np.argsort(-gains[:, 0])].T
        return float(-np.diff(first, append=0.0) @ np.maximum.accumulate(second))
    levels = np.unique(gains[:, -1])
    areas = [_volume(gains[gains[:, -1] >= level, :-1]) for level in levels]
    return float(sum(h * a for h, a in zip(np.diff(levels, prepend=0.0), areas, strict=True)))
