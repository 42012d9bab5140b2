"""The Pareto front of configurations that were each measured with the noise of one training.

The best of many noisy values are lucky ones, so a front of raw values promises more than its
configurations keep. Where models of the metrics (:class:`NoisyModel`) explain something, the front
is that of the modelled means over seeds. Otherwise it is the front of the raw values.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simreg_core.statistics.noisy_model import Array, Estimate, NoisyModel
from simreg_core.statistics.pareto import front_among, hypervolume

MIN_MODELLED = 12
"""With fewer distinct configurations, the front is that of the raw values."""
MAX_MODELLED = 1000
"""Most measurements that models are conditioned on, drawn at random."""
MOST_SHOWN = 8
"""Entries of a front that tables show."""

Mask = NDArray[np.bool_]


class NoisyFront(NamedTuple):
    """The front among n measurements of M metrics."""

    mean: Array
    """(n, M), modelled means over seeds; the measurements themselves if they are not modelled."""
    low: Array
    """(n, M), lower ends of 95 % intervals of the means; NaN without models."""
    high: Array
    """(n, M), upper ends."""
    violation: Array
    """(n,), by how much the modelled means miss the constraints in total; measured without models.
    """
    feasible: Array
    """(n,), probability that the mean over seeds meets a constraint, the least of all constraints;
    0 or 1 without models."""
    on_front: Mask
    """(n,), feasible with a probability of 0.5 or more, and not dominated by another such row."""
    r2: tuple[float, ...]
    """(M,), R2 of the models' leave-one-out predictions; empty if there are none."""
    problem: str
    """Why the front is not modelled, as a clause; empty if it is."""

    @property
    def is_modelled(self) -> bool:
        """Whether the front is that of the modelled means."""
        return not self.problem


def noisy_front(
    points: Array,
    measured: Array,
    names: Sequence[str],
    *,
    is_accuracy: Sequence[bool],
    maximize: Sequence[bool],
    violations: Array | None = None,
) -> NoisyFront:
    """The front of measurements, modelled if the models explain every metric.

    Args:
        points: (n, d) in [0, 1], of the configurations; several networks of a configuration are
            equal points.
        measured: (n, M), finite.
        names: (M,), of the metrics, for :attr:`NoisyFront.problem`.
        is_accuracy: (M,), whether a metric is in [0, 1].
        maximize: (M,), False if smaller is better.
        violations: (n, K), by how much constraints are missed; 0 or less if they are met.
    """
    limits = np.empty((len(points), 0)) if violations is None else violations
    num_distinct = len(np.unique(points, axis=0)) if points.shape[1] else 1
    if num_distinct < MIN_MODELLED:
        problem = f"{num_distinct} configurations are too few for a model (at least {MIN_MODELLED})"
        return _raw_front(measured, limits, maximize, problem)
    models = [
        _model(points, column, is_accuracy=share)
        for column, share in zip(measured.T, is_accuracy, strict=True)
    ]
    r2 = tuple(model.surface.leave_one_out.r2 for model in models)
    varies = np.ptp(measured, axis=0) > 0  # otherwise the metric is known
    unexplained = [
        name
        for name, model, does_vary in zip(names, models, varies, strict=True)
        if does_vary and not model.surface.explains
    ]
    if unexplained:
        problem = f"the parameters do not predict {' and '.join(unexplained)}"
        return _raw_front(measured, limits, maximize, problem)._replace(r2=r2)
    found = [
        model.estimate(points) if does_vary else Estimate(column, column, column)
        for model, does_vary, column in zip(models, varies, measured.T, strict=True)
    ]
    mean = np.column_stack([estimate.mean for estimate in found])
    violation, feasible = np.zeros(len(points)), np.ones(len(points))
    for column in limits.T:
        missed, probability = _constraint(points, column)
        violation, feasible = violation + missed.clip(min=0), np.minimum(feasible, probability)
    return NoisyFront(
        mean,
        np.column_stack([estimate.low for estimate in found]),
        np.column_stack([estimate.high for estimate in found]),
        violation,
        feasible,
        front_among(mean, feasible >= 0.5, maximize),
        r2,
        "",
    )


def modelled_means(points: Array, measured: Array, *, is_accuracy: bool) -> Array | None:
    """Modelled means over seeds (n,) of a metric; None if its model explains nothing.

    Args:
        points: (n, d) in [0, 1].
        measured: (n,); None is returned if one is not finite.
        is_accuracy: Whether the metric is in [0, 1].
    """
    if not np.isfinite(measured).all():
        return None
    model = _model(points, measured, is_accuracy=is_accuracy)
    return model.estimate(points).mean if model.surface.explains else None


def _constraint(points: Array, violations: Array) -> tuple[Array, Array]:
    """Means over seeds (n,) of the violations, and probabilities (n,) that they are 0 or less."""
    model = _model(points, violations, is_accuracy=False)
    if model.surface.explains:
        return model.estimate(points).mean, model.probability_below(points)
    # A guess that is the same everywhere would allow all or nothing.
    _, group, sizes = np.unique(points, axis=0, return_inverse=True, return_counts=True)
    group = group.reshape(-1)
    means: Array = (np.bincount(group, violations) / sizes)[group]
    return means, (means <= 0).astype(np.float64)


def _model(points: Array, measured: Array, *, is_accuracy: bool) -> NoisyModel:
    if len(points) > MAX_MODELLED:
        rng = np.random.default_rng(0)
        used = np.sort(rng.choice(len(points), MAX_MODELLED, replace=False))
        points, measured = points[used], measured[used]
    return _kept_model(points.tobytes(), len(points), measured.tobytes(), is_accuracy)


@lru_cache(maxsize=64)  # tables, charts and served pages need the models of the same rows
def _kept_model(points: bytes, number: int, measured: bytes, is_accuracy: bool) -> NoisyModel:
    inputs = np.frombuffer(points).reshape(number, -1)
    return NoisyModel.fitted(inputs, np.frombuffer(measured), is_accuracy=is_accuracy)


def _raw_front(
    measured: Array, limits: Array, maximize: Sequence[bool], problem: str
) -> NoisyFront:
    unknown = np.full(measured.shape, np.nan)
    meets: Mask = np.all(limits <= 0, axis=1)
    on_front = front_among(measured, meets, maximize)
    missed, feasible = limits.clip(min=0).sum(axis=1), meets.astype(np.float64)
    return NoisyFront(measured, unknown, unknown, missed, feasible, on_front, (), problem)


def most_hypervolume(
    values: Array, maximize: Sequence[bool], number: int = MOST_SHOWN
) -> NDArray[np.int64]:
    """Rows (at most ``number``) that add most hypervolume, chosen greedily, in this order.

    The reference point is somewhat worse than the worst of the values.

    Args:
        values: (n, M), finite.
        maximize: (M,), False if smaller is better.
        number: How many rows to choose.
    """
    if not len(values):
        return np.empty(0, dtype=np.int64)
    gains = np.where(maximize, values, -values)
    reference = gains.min(axis=0) - np.maximum(0.1 * np.ptp(gains, axis=0), 1e-9)
    chosen: list[int] = []
    while len(chosen) < min(number, len(gains)):
        left = [row for row in range(len(gains)) if row not in chosen]
        volumes = [
            hypervolume(gains[[*chosen, row]], reference, [True] * gains.shape[1]) for row in left
        ]
        chosen.append(left[int(np.argmax(volumes))])
    return np.array(chosen, dtype=np.int64)
