"""The front that a search delivers: one decision for every table, chart and command.

It is modelled where models of the metrics explain something (see
:mod:`simreg_core.statistics.noisy_front`). Every network is one measurement. Failed and pruned
trials are left out, and so are trials without a finite value of a metric.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simreg_core.errors import ConfigError, counted, one_line
from simreg_core.registry import Metric
from simreg_core.results.objectives import SEARCH_SPLIT, BestTrial, Constraint
from simreg_core.results.request import SPACE_FILE, StudyRequest, read_request
from simreg_core.results.schema import PARAMETERS
from simreg_core.results.tables import read_table
from simreg_core.results.trial_networks import Row, TrialNetworks, finite_values
from simreg_core.statistics.noisy_front import (
    Mask,
    NoisyFront,
    modelled_means,
    most_hypervolume,
    noisy_front,
)
from simreg_core.statistics.noisy_model import Array
from simreg_core.statistics.pareto import front_among
from simreg_core.storage.location import to_path

_WEIGHT = "robustness.tradeoff_weight"


class Delivered(NamedTuple):
    """N complete trials with values of M metrics, measured and estimated."""

    metrics: tuple[Metric, ...]
    parameters: tuple[str, ...]
    """Searched parameters that vary among the trials, which the models are over."""
    trials: NDArray[np.int64]
    """(N,), their numbers, ascending."""
    measured: Array
    """(N, M), as recorded; means of trials with several networks."""
    mean: Array
    """(N, M), estimates of the mean over seeds; as measured if the front is not modelled."""
    low: Array
    """(N, M), lower ends of 95 % intervals of the estimates; NaN if the front is not modelled."""
    high: Array
    """(N, M), upper ends."""
    ranking: Metric
    """The metric that ranks trials."""
    rank: Array
    """(N,), its estimates, larger is better (negative if smaller values are); NaN if unknown."""
    is_rank_modelled: bool
    """Whether ``rank`` is modelled; otherwise it is as measured."""
    violation: Array
    """(N,), total violation of the constraints by the estimates; 0 if all are met."""
    num_met: int
    """How many trials meet the constraints as measured."""
    feasible: Mask
    """(N,), whether the constraints are met, by the models if the front is modelled."""
    on_front: Mask
    """(N,), by the estimates."""
    r2: tuple[float, ...]
    """(M,), share of the variance that the models predict of left-out values; empty if there are
    no models."""
    problem: str
    """Why the front is not modelled, as a clause; empty if it is."""

    @property
    def is_modelled(self) -> bool:
        """Whether the front is that of the modelled means."""
        return not self.problem

    def rank_value(self, row: int) -> float:
        """The estimate of the ranking metric of a row, in its own direction."""
        return float(self.rank[row]) * (1.0 if self.ranking.direction == "maximize" else -1.0)

    def rank_entry(self, row: int) -> str:
        """The estimate of the ranking metric, in parentheses where only the front is modelled."""
        if np.isnan(self.rank[row]):
            return "-"
        value = f"{self.rank_value(row):+.3f}"
        return f"({value})" if self.is_modelled and not self.is_rank_modelled else value

    def entry(self, row: int, column: int) -> str:
        """The estimate of a metric with its interval and the measured value, if they differ."""
        measured = f"{self.measured[row, column]:.3f}"
        if not self.is_modelled:
            return measured
        mean, low, high = (f"{a[row, column]:.3f}" for a in (self.mean, self.low, self.high))
        return f"{mean} [{low}, {high}] ({measured})"

    def none_feasible(self, constraints: str = "the search's constraints") -> str:
        """That no trial meets the constraints, without a full stop."""
        text = f"None of {counted(len(self.trials), 'complete trial')} meets {constraints}"
        if not self.is_modelled:
            return text
        return f"{text} by the models ({self.num_met} as measured)"

    def best_first(self) -> list[int]:
        """Rows, best first: those of the front, the other feasible ones, the infeasible ones.

        The first two groups are ordered by ``rank``, the third by ``violation``, then ``rank``.
        """
        missed = np.where(self.feasible, 0.0, self.violation)
        rank = np.where(np.isnan(self.rank), -np.inf, self.rank)
        order = np.lexsort((self.trials, -rank, missed, ~self.on_front, ~self.feasible))
        return [int(row) for row in order]

    def shown(self) -> list[int]:
        """Rows of the front's entries for a table (at most 8), by the first metric, best first.

        They are those that add most hypervolume.
        """
        rows = np.flatnonzero(self.on_front)
        maximize = [metric.direction == "maximize" for metric in self.metrics]
        chosen = rows[most_hypervolume(self.mean[rows], maximize)]
        first = self.mean[chosen, 0] * (-1.0 if maximize[0] else 1.0)
        return [int(row) for row in chosen[np.argsort(first, kind="stable")]]


def delivered(
    search: Mapping[str, Mapping[str, Any]],
    rows: Iterable[Row],
    networks: Iterable[Row],
    metrics: Sequence[Metric],
    constraints: Sequence[Constraint] = (),
    *,
    ranking: Metric | None = None,
    split: str = SEARCH_SPLIT,
) -> Delivered:
    """The front of a search in some metrics.

    Args:
        search: The searched parameters as in a space file.
        rows: Rows of the table ``trials`` with at least the columns of :func:`columns_for`.
        networks: Rows of the table ``seeds``, of trials with several networks.
        metrics: The M metrics, each with a direction.
        constraints: Bounds on metrics of the search split. Without any, the recorded ``feasible``
            of a trial stands.
        ranking: Metric that ranks trials; None: the first of ``metrics``.
        split: Split of the metrics.

    Raises:
        ValueError: a value of a searched range is not a number; names the parameter.
    """
    ranking = ranking or metrics[0]
    names = [f"{split}.{metric.name}" for metric in metrics]
    bounded = [f"{SEARCH_SPLIT}.{bound.metric}" for bound in constraints]
    found = TrialNetworks.of(search, rows, networks, names + bounded)
    trials, first = found.trials, found.first
    # Constraints on metrics of the front are judged by the same estimates.
    own = [bound for bound in constraints if f"{SEARCH_SPLIT}.{bound.metric}" in names]
    others = [bound for bound in constraints if bound not in own]
    maximize = [metric.direction == "maximize" for metric in metrics]
    front = noisy_front(
        found.points,
        finite_values(found.networks, names),
        [metric.title for metric in metrics],
        is_accuracy=[metric.is_accuracy for metric in metrics],
        maximize=maximize,
        violations=_violations(found.networks, others),
    )
    measured, violations = finite_values(trials, names), _violations(trials, constraints)
    recorded = np.array([row.get("feasible") is not False for row in trials], dtype=np.bool_)
    meets: Mask = np.all(violations <= 0, axis=1) if constraints else recorded
    if front.is_modelled:
        mean = front.mean[first]
        missed = _violations([dict(zip(names, row, strict=True)) for row in mean.tolist()], own)
        violation = front.violation[first] + missed.clip(min=0).sum(axis=1)
        is_met = (front.feasible[first] >= 0.5) & np.all(missed <= 0, axis=1)
        feasible = is_met if constraints else recorded
    else:  # the mean of a trial's networks is what is known of it
        mean, feasible, violation = measured, meets, violations.clip(min=0).sum(axis=1)
    rank, is_rank_modelled = _rank(found, metrics, ranking, split, front, mean - measured)
    return Delivered(
        metrics=tuple(metrics),
        parameters=found.parameters,
        trials=np.array([row["trial"] for row in trials], dtype=np.int64),
        measured=measured,
        mean=mean,
        low=front.low[first],
        high=front.high[first],
        ranking=ranking,
        rank=rank if ranking.direction == "maximize" else -rank,
        is_rank_modelled=is_rank_modelled,
        violation=violation,
        num_met=int(meets.sum()),
        feasible=feasible,
        on_front=front_among(mean, feasible, maximize),
        r2=front.r2,
        problem=front.problem,
    )


def delivered_in(folder: str | Path, request: StudyRequest | None = None) -> Delivered:
    """The front of the search in a result folder, in its objectives on the search split.

    ``request`` is what its space file asks for; read if None.

    Raises:
        ConfigError: the space file or a table is missing or damaged.
    """
    folder = to_path(folder)
    request = request or read_request(folder)
    metrics, constraints, ranking = request.objectives, request.constraints, request.ranking
    columns = columns_for(request.search, [*metrics, ranking], constraints)
    rows, networks = (
        read_table(folder, table, columns=columns).to_pylist() for table in ("trials", "seeds")
    )
    try:
        return delivered(request.search, rows, networks, metrics, constraints, ranking=ranking)
    except (AttributeError, KeyError, TypeError, ValueError) as err:
        raise ConfigError(f"{folder / SPACE_FILE}: search is damaged: {one_line(err)}") from err


def best_of(found: Delivered) -> BestTrial | None:
    """Summary of the best trial of a front; None if no trial can be ranked."""
    row = next((row for row in found.best_first() if np.isfinite(found.rank[row])), None)
    if row is None:
        return None
    return BestTrial.of(
        found.ranking,
        int(found.trials[row]),
        found.rank_value(row),
        is_feasible=bool(found.feasible[row]),
        is_modelled=found.is_rank_modelled,
    )


def columns_for(
    search: Iterable[str],
    metrics: Iterable[Metric],
    constraints: Iterable[Constraint] = (),
    *,
    split: str = SEARCH_SPLIT,
) -> list[str]:
    """The columns of the tables ``trials`` and ``seeds`` that :func:`delivered` reads.

    Of ``search``, the keys suffice. Name the ranking metric among the ``metrics``.
    """
    keys = tuple(search)
    parameters = [
        column.name
        for column in PARAMETERS
        if column.name in keys or any(key.startswith(f"{column.name}.") for key in keys)
    ]
    values = [f"{split}.{metric.name}" for metric in metrics]
    bounded = [f"{SEARCH_SPLIT}.{bound.metric}" for bound in constraints]
    return list(
        dict.fromkeys(("trial", "status", "feasible", _WEIGHT, *parameters, *values, *bounded))
    )


def _violations(rows: Sequence[Row], constraints: Sequence[Constraint]) -> Array:
    found = [[bound.violation(row) for bound in constraints] for row in rows]
    return np.array(found, dtype=np.float64).reshape(len(rows), len(constraints))


def _rank(
    found: TrialNetworks,
    metrics: Sequence[Metric],
    ranking: Metric,
    split: str,
    front: NoisyFront,
    shift: Array,
) -> tuple[Array, bool]:
    """Values (N,) of the ranking metric, and whether they are modelled or as measured.

    ``shift`` (N, M) is by how much the estimates of the metrics differ from the measurements.
    """
    column = f"{split}.{ranking.name}"
    measured = finite_values(found.trials, [column])[:, 0]
    if not front.is_modelled or np.isnan(measured).all():
        return measured, False
    follows = _rank_shift(found.trials, metrics, ranking, shift)
    if follows is not None:
        return measured + follows, True
    of_networks = finite_values(found.networks, [column])[:, 0]
    means = modelled_means(found.points, of_networks, is_accuracy=ranking.is_accuracy)
    return (measured, False) if means is None else (means[found.first], True)


def _rank_shift(
    rows: Sequence[Row], metrics: Sequence[Metric], ranking: Metric, shift: Array
) -> Array | None:
    """By how much (N,) the ranking metric shifts with the metrics; None if they do not tell.

    The tradeoff score is linear in the accuracies, and in cost and gain.
    """
    names = [metric.name for metric in metrics]
    if ranking.name in names:
        return shift[:, names.index(ranking.name)]
    clean = next((name for name in ("clean_accuracy", "accuracy_cost") if name in names), None)
    robust = next((name for name in ("robust_accuracy", "robustness_gain") if name in names), None)
    if ranking.name != "tradeoff_score" or clean is None or robust is None:
        return None
    weights = np.array([row.get(_WEIGHT) or 0.0 for row in rows])
    weights = weights if clean == "clean_accuracy" else -weights
    follows: Array = shift[:, names.index(robust)] + weights * shift[:, names.index(clean)]
    return follows
