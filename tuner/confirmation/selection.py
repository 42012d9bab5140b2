"""Which trials a confirmation takes: the best by their figures, or by a model of these.

The figure of a trial of one network holds its seed's luck. The model, of every metric that decides
over the searched parameters (:mod:`simreg_core.statistics.gaussian_process`), is fitted on all
complete trials, and its means take the figures' place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simreg_core.results.objectives import SEARCH_SPLIT, directions, total_violation
from simreg_core.results.schema import METRICS
from simreg_core.statistics.gaussian_process import Surface, fit, pooled_variance
from simreg_core.statistics.parameter_points import parameter_points
from simreg_core.statistics.pareto import non_dominated
from tuner.space.search_space import ConfirmConfig, SearchSpace


def choose(
    rows: Sequence[Mapping[str, Any]],
    front: set[int],
    space: SearchSpace,
    top: int | Literal["front"],
    scores: Mapping[int, float] | None = None,
) -> list[int]:
    """Numbers of the ``top`` best complete trials, or of the whole front, best first.

    With one objective, by its value. With several, members of the front first, each by tradeoff
    score (of which the best is on the front of accuracies by definition). Under constraints, trials
    that meet them come before all others, and these by how much they miss.

    Args:
        rows: Rows of the trials table.
        front: Numbers of the trials on the Pareto front, the study's or a modelled one.
        space: The search space.
        top: How many; all if there are fewer. ``front`` for as many as are on the front.
        scores: By trial, what takes the place of its recorded objective or tradeoff score.
    """
    complete = [row for row in rows if row["status"] == "complete"]
    count = len(front) if top == "front" else top
    single = len(space.objectives) == 1
    metric = METRICS[ranking_metric(space)]
    column = f"{SEARCH_SPLIT}.{metric.name}"
    sign = -1 if metric.direction == "minimize" else 1

    def rank(row: Mapping[str, Any]) -> tuple[float, bool, float, int]:
        missed = total_violation(row, space.constraints)
        is_front = (not single or top == "front") and row["trial"] in front
        score = row[column] if scores is None else scores[row["trial"]]
        return (missed, not is_front, -sign * score, row["trial"])

    return [row["trial"] for row in sorted(complete, key=rank)[:count]]


def choose_by(
    wanted: ConfirmConfig,
    rows: Sequence[Mapping[str, Any]],
    networks: Sequence[Mapping[str, Any]],
    front: set[int],
    space: SearchSpace,
) -> tuple[list[int], str]:
    """Numbers of the trials to confirm, by recorded figures or by a model of them.

    Where the model explains nothing of a metric that decides, the recorded figures choose after
    all: its means would hide differences that are there.

    Args:
        wanted: How many, and by what.
        rows: Of the trials table.
        networks: Of the table ``seeds``.
        front: Numbers of the trials on the study's Pareto front.
        space: What was searched.

    Returns:
        As :func:`choose` does, and how well the model fits (empty without one).
    """
    if wanted.by == "raw" or all(row["status"] != "complete" for row in rows):
        return choose(rows, front, space, wanted.top), ""
    found = model_trials(rows, networks, space)
    if found.unexplained:
        return choose(rows, front, space, wanted.top), describe_models(found)
    return choose(rows, found.front, space, wanted.top, found.scores), describe_models(found)


class ModelledTrials(NamedTuple):
    """The complete trials as the models see them."""

    scores: dict[int, float]
    """By trial, the modelled mean of the metric that ranks trials: the objective, of several the
    tradeoff score."""
    front: set[int]
    """Numbers of the trials on the front of the modelled objectives, of those that meet the
    constraints by their recorded figures."""
    r2: dict[str, float]
    """Leave-one-out R2 of each metric."""
    unexplained: tuple[str, ...]
    """Metrics that the parameters predict no better than their mean does."""


def model_trials(
    rows: Sequence[Mapping[str, Any]], networks: Sequence[Mapping[str, Any]], space: SearchSpace
) -> ModelledTrials:
    """Model the objectives and the tradeoff score over the searched parameters.

    Args:
        rows: Of the trials table; at least one is complete.
        networks: Of the table ``seeds``.
        space: What was searched.
    """
    complete = [row for row in rows if row["status"] == "complete"]
    search = {key: found.model_dump(mode="json") for key, found in space.search.items()}
    points = parameter_points(search, complete).points
    ranking = ranking_metric(space)
    surfaces = {
        name: _surface(points, complete, networks, name)
        for name in dict.fromkeys((*space.objectives, ranking))
    }
    numbers = [row["trial"] for row in complete]
    met = np.array([total_violation(row, space.constraints) == 0 for row in complete])
    means = np.column_stack([surfaces[name].mean for name in space.objectives])
    maximize = [direction == "maximize" for direction in directions(space.objectives)]
    return ModelledTrials(
        dict(zip(numbers, surfaces[ranking].mean.tolist(), strict=True)),
        set(np.array(numbers)[met][non_dominated(means[met], maximize)].tolist()),
        {name: surface.leave_one_out.r2 for name, surface in surfaces.items()},
        tuple(name for name, surface in surfaces.items() if not surface.explains),
    )


def ranking_metric(space: SearchSpace) -> str:
    """The metric that ranks trials: the only objective, of several the tradeoff score."""
    return space.objectives[0] if len(space.objectives) == 1 else "tradeoff_score"


def _surface(
    points: NDArray[np.float64],
    complete: Sequence[Mapping[str, Any]],
    networks: Sequence[Mapping[str, Any]],
    name: str,
) -> Surface:
    column = f"{SEARCH_SPLIT}.{name}"
    values = [np.nan if row[column] is None else row[column] for row in complete]
    known = [(row["trial"], row[column]) for row in networks if row[column] is not None]
    variance = 0.0
    if known:
        trials, figures = zip(*known, strict=True)
        variance = pooled_variance(figures, trials)
    shares = np.array([variance / (row.get("num_seeds") or 1) for row in complete])
    return fit(points, values, shares)


def describe_models(found: ModelledTrials) -> str:
    """How well each metric is modelled, in one line, with a warning where one is not."""
    shares = (
        f"{METRICS[name].label} {'-' if np.isnan(r2) else f'{r2:.2f}'}"
        for name, r2 in found.r2.items()
    )
    fits = f"R2_LOO: {', '.join(shares)}"
    if not found.unexplained:
        return f"chosen by a model of each metric ({fits})"
    blind = " and ".join(METRICS[name].label for name in found.unexplained)
    return f"WARNING: a model explains nothing of {blind} ({fits}): chosen by the raw figures"
