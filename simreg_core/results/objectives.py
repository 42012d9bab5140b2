"""Objectives and constraints of a search, and how its trials are ranked."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar

from simreg_core.errors import ConfigError
from simreg_core.registry import METRICS, Metric
from simreg_core.results.metrics import ATTACK_FAMILY, metric_named

SEARCH_SPLIT = "validation"  # test figures are recorded beside it and never searched on
STOPPING_METRICS = ("clean_accuracy", "robust_accuracy", "tradeoff_score")
"""What every epoch's network is measured for where a rule may stop trials early."""

Row = TypeVar("Row", bound=Mapping[str, Any])


def objective(name: str) -> Metric:
    """The metric of a name that may be an objective or constrained.

    Raises:
        ValueError: no metric has the name, or it has no direction; says what is allowed.
    """
    with suppress(ConfigError):
        found = metric_named(name)
        if found.direction is not None:
            return found
    own = [name for name, metric in METRICS.known.items() if metric.direction is not None]
    allowed = ", ".join((*own, f"{ATTACK_FAMILY}ATTACK", "MODULE:FUNCTION"))
    raise ValueError(f"{name!r} is no metric to search for; allowed: {allowed}")


class Constraint(NamedTuple):
    """A bound on a metric of the search split."""

    metric: str
    is_minimum: bool
    bound: float

    def violation(self, columns: Mapping[str, Any]) -> float:
        """By how much a trial misses the bound; 0 or less where it is met.

        Raises:
            ValueError: the metric is missing or not finite; names it.
        """
        (value,) = objective_values(columns, [self.metric])
        return self.bound - value if self.is_minimum else value - self.bound


def parse_constraint(text: str) -> Constraint:
    """``METRIC >= NUMBER`` or ``METRIC <= NUMBER``.

    Raises:
        ValueError: it is not of this form; says what is allowed.
    """
    match = re.fullmatch(r"\s*(\S+?)\s*(>=|<=)\s*(\S+)\s*", text)
    try:
        if match is None:
            raise ValueError
        bound = float(match[3])
        if not math.isfinite(bound):
            raise ValueError
    except ValueError:
        raise ValueError(f"expected METRIC >= NUMBER or METRIC <= NUMBER, found {text!r}") from None
    if objective(match[1]).is_accuracy and not 0 <= bound <= 1:
        raise ValueError(f"{text!r}: accuracies are in [0, 1], not in percent")
    return Constraint(match[1], match[2] == ">=", bound)


def ranking_metric(objectives: Sequence[str]) -> str:
    """The metric that ranks trials: the only objective, or the tradeoff score of several."""
    return objectives[0] if len(objectives) == 1 else "tradeoff_score"


def ranked_trials(
    rows: Iterable[Row], objectives: Sequence[str], constraints: Sequence[str]
) -> list[Row]:
    """The complete trials, best first: the one rule by which trials are ranked.

    Trials that meet the constraints come first, the others follow in order of their total
    violation. Equal trials are ordered by :func:`ranking_metric` on the search split, then by
    number. Trials without a finite value of the metric, or of one that is constrained, are left
    out.

    Args:
        rows: Rows of the trials table.
        objectives: Of the search.
        constraints: Of the search, as in its space file.

    Raises:
        ValueError: a constraint is malformed.
    """
    name = ranking_metric(objectives)
    sign = 1 if objective(name).direction == "minimize" else -1
    bounds = [parse_constraint(text) for text in constraints]
    ranks: list[tuple[float, float, int, Row]] = []
    for row in rows:
        if row["status"] == "complete":
            with suppress(ValueError):
                (value,) = objective_values(row, [name])
                ranks.append((_violation(row, bounds), sign * value, row["trial"], row))
    return [rank[-1] for rank in sorted(ranks, key=lambda rank: rank[:-1])]


def best_trial(
    rows: Iterable[Row], objectives: Sequence[str], constraints: Sequence[str]
) -> Row | None:
    """The first of :func:`ranked_trials`; None if there is none."""
    return next(iter(ranked_trials(rows, objectives, constraints)), None)


@dataclass(frozen=True)
class BestTrial:
    """What is shown of the best trial."""

    trial: int
    metric: str
    """See :func:`ranking_metric`."""
    value: float
    """On the search split."""
    is_feasible: bool
    """Whether it meets the constraints. If not, no trial does."""

    @classmethod
    def of(
        cls, row: Mapping[str, Any], objectives: Sequence[str], constraints: Sequence[str]
    ) -> BestTrial:
        """The summary of a row that :func:`best_trial` returned."""
        name = ranking_metric(objectives)
        (value,) = objective_values(row, [name])
        return cls(row["trial"], name, value, total_violation(row, constraints) == 0)

    def __str__(self) -> str:
        metric = objective(self.metric)
        sign = "+" if metric.worst is None or metric.worst < 0 else ""
        missed = "" if self.is_feasible else ", misses the constraints"
        return f"{metric.title} {self.value:{sign}.3f} (trial {self.trial}{missed})"


def total_violation(columns: Mapping[str, Any], constraints: Sequence[str]) -> float:
    """By how much a trial misses its constraints in all; 0 where it meets them.

    Raises:
        ValueError: a constraint is malformed, or a metric is missing or not finite; names it.
    """
    return _violation(columns, [parse_constraint(text) for text in constraints])


def _violation(columns: Mapping[str, Any], bounds: Sequence[Constraint]) -> float:
    return math.fsum(max(0.0, bound.violation(columns)) for bound in bounds)


def directions(objectives: Sequence[str]) -> list[Literal["maximize", "minimize"]]:
    """``maximize`` or ``minimize`` for every objective, as its metric is defined."""
    found = [objective(name).direction for name in objectives]
    return [direction for direction in found if direction is not None]


def objective_values(columns: Mapping[str, Any], objectives: Sequence[str]) -> list[float]:
    """Values of the objectives on the search split.

    Raises:
        ValueError: a value is missing or not finite; names the metric.
    """
    values = []
    for name in objectives:
        value = columns.get(f"{SEARCH_SPLIT}.{name}")
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{name} is {value!r}, not a finite number")
        values.append(float(value))
    return values
