"""How much a hypervolume depends on single trials: the bootstrap over the trials of a search.

As many trials as a study has are drawn from it with replacement, and the hypervolume of each such
sample is computed; the interval holds the middle 95 % of them. A wide one means that a few lucky
trials carry the front.

It is no confidence interval for what the search would find with more trials or another seed of its
sampler: a sample holds no point that the study does not have, so the interval ends at or below the
study's own hypervolume. It takes trials to be independent, which those of a sampler that learns are
not. A difference of two studies resamples both independently; their shortfalls largely cancel if
they have about as many trials.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from analysis.results.load import Array

NUM_RESAMPLES = 2000
COVERAGE = 0.95
SEED = 0
_CELLS = 2_000_000  # of a block of resamples: bounds the memory


class Interval(NamedTuple):
    """A percentile interval; NaN if it does not exist."""

    low: float
    high: float


def resampled_hypervolumes(
    points: ArrayLike,
    reference: ArrayLike,
    maximize: Sequence[bool],
    rng: np.random.Generator,
    num_resamples: int = NUM_RESAMPLES,
) -> Array:
    """Hypervolumes of samples of as many trials, drawn with replacement; exact.

    Args:
        points: (N, 2), N >= 1, finite; points that are to add nothing may lie at the reference.
        reference: The corner that bounds the volume, (2,).
        maximize: (2,), False where smaller is better.
        rng: Draws the samples.
        num_resamples: Number of samples.

    Returns:
        (num_resamples,), each at least 0 and at most the hypervolume of all points.
    """
    values, corner = np.asarray(points, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    gains = np.clip(np.where(maximize, values - corner, corner - values), 0.0, None)
    order = np.argsort(-gains[:, 0], kind="stable")
    widths, heights = gains[order].T
    # From the widest point down: between two widths, the volume is as high as the highest so far.
    steps = -np.diff(widths, append=0.0)
    num_points = len(values)
    block = max(1, _CELLS // num_points)
    volumes = []
    for start in range(0, num_resamples, block):
        size = min(block, num_resamples - start)
        drawn = rng.integers(0, num_points, (size, num_points))
        is_drawn = np.zeros((size, num_points), dtype=np.bool_)
        is_drawn[np.arange(size)[:, None], drawn] = True
        volumes.append(np.maximum.accumulate(is_drawn[:, order] * heights, axis=1) @ steps)
    return np.concatenate(volumes)


def percentile_interval(samples: Array) -> Interval:
    """The middle 95 % of the samples."""
    tail = (1 - COVERAGE) / 2
    low, high = np.quantile(samples, (tail, 1 - tail))
    return Interval(float(low), float(high))
