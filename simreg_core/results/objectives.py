"""Objectives and constraints of a search, and how its trials are ranked."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple, TypeVar

from simreg_core.errors import ConfigError
from simreg_core.plugins import is_plugin
from simreg_core.registry import METRICS, Metric
from simreg_core.results.metrics import ATTACK_FAMILY, metric_named

SEARCH_SPLIT = "validation"  # metrics on the test split are recorded but never optimized
STOPPING_METRICS = ("clean_accuracy", "robust_accuracy", "tradeoff_score")
"""Metrics that are measured after every epoch for rules that stop trials early."""

Row = TypeVar("Row", bound=Mapping[str, Any])


_described: ContextVar[Callable[[], Mapping[str, Metric]] | None] = ContextVar(
    "described", default=None
)


@contextmanager
def described_by(read: Callable[[], Mapping[str, Metric]]) -> Iterator[None]:
    """In a block, take a ``module:function`` from a description and never import it.

    Commands that only read results must not run code that a results folder names. ``read`` returns
    the described metrics by name; it is called if one is needed.
    """
    token = _described.set(cache(read))
    try:
        yield
    finally:
        _described.reset(token)


def _find_metric(name: str) -> Metric:
    read = _described.get()
    is_foreign = is_plugin(name) and not name.startswith(ATTACK_FAMILY)
    if read is None or name in METRICS.known or not is_foreign:
        return metric_named(name)
    # Without a description no trial has a value, so that the direction does not matter.
    return read().get(name) or Metric(name=name, function=_absent, direction="maximize")


def _absent(*_: object) -> float:
    raise NotImplementedError("a metric that was not imported cannot be computed")


def objective(name: str) -> Metric:
    """The metric of a name that can be an objective or constrained.

    Raises:
        ValueError: no metric has the name, or it has no direction; lists what is allowed.
    """
    with suppress(ConfigError):
        found = _find_metric(name)
        if found.direction is not None:
            return found
    own = [name for name, metric in METRICS.known.items() if metric.direction is not None]
    allowed = ", ".join((*own, f"{ATTACK_FAMILY}ATTACK", "MODULE:FUNCTION"))
    raise ValueError(f"{name!r} is not a metric with a direction; allowed: {allowed}")


class Constraint(NamedTuple):
    """A bound on a metric of the search split."""

    metric: str
    is_minimum: bool
    bound: float

    def violation(self, columns: Mapping[str, Any]) -> float:
        """By how much a trial misses the bound; 0 or less if it meets it."""
        value = _value(columns, self.metric)
        return self.bound - value if self.is_minimum else value - self.bound


def parse_constraint(text: str) -> Constraint:
    """Parse ``METRIC >= NUMBER`` or ``METRIC <= NUMBER``.

    Raises:
        ValueError: the text has another form, or the metric cannot be constrained.
    """
    match = re.fullmatch(r"\s*(\S+?)\s*(>=|<=)\s*(\S+)\s*", text)
    bound = math.nan
    if match is not None:
        with suppress(ValueError):
            bound = float(match[3])
    if match is None or not math.isfinite(bound):
        raise ValueError(f"expected METRIC >= NUMBER or METRIC <= NUMBER, found {text!r}")
    if objective(match[1]).is_accuracy and not 0 <= bound <= 1:
        raise ValueError(f"{text!r}: accuracies are in [0, 1], not in percent")
    return Constraint(match[1], match[2] == ">=", bound)


def ranking_metric(objectives: Sequence[str]) -> str:
    """The metric that ranks trials: the only objective, or the tradeoff score of several."""
    return objectives[0] if len(objectives) == 1 else "tradeoff_score"


def ranked_trials(
    rows: Iterable[Row], objectives: Sequence[str], constraints: Sequence[str]
) -> list[Row]:
    """The complete trials, best first.

    Trials are ordered by their total violation of the constraints, then by :func:`ranking_metric`
    on the search split, then by number. Trials without a finite value of this or a constrained
    metric are left out.
    """
    name = ranking_metric(objectives)
    sign = 1 if objective(name).direction == "minimize" else -1
    bounds = [parse_constraint(text) for text in constraints]
    ranks: list[tuple[float, float, int, Row]] = []
    for row in rows:
        if row["status"] == "complete":
            with suppress(ValueError):
                rank = (_violation(row, bounds), sign * _value(row, name), row["trial"])
                ranks.append((*rank, row))
    return [rank[-1] for rank in sorted(ranks, key=lambda rank: rank[:-1])]


def best_trial(
    rows: Iterable[Row], objectives: Sequence[str], constraints: Sequence[str]
) -> Row | None:
    """The first of :func:`ranked_trials`, or None."""
    return next(iter(ranked_trials(rows, objectives, constraints)), None)


@dataclass(frozen=True)
class BestTrial:
    """Summary of the best trial."""

    trial: int
    metric: str
    """See :func:`ranking_metric`."""
    value: float
    """Value of the metric on the search split."""
    is_feasible: bool
    """Whether it meets the constraints. If not, no trial does."""
    title: str
    """Label of the metric in charts and tables."""
    is_signed: bool
    """Whether the metric can be negative."""
    is_modelled: bool = False
    """Whether the value is an estimate of the mean over seeds, not the measured one."""

    @classmethod
    def measured(
        cls, row: Mapping[str, Any], objectives: Sequence[str], constraints: Sequence[str]
    ) -> BestTrial:
        """The summary of a row that :func:`best_trial` returned."""
        metric = objective(ranking_metric(objectives))
        value, is_feasible = _value(row, metric.name), total_violation(row, constraints) == 0
        return cls.of(metric, row["trial"], value, is_feasible=is_feasible)

    @classmethod
    def of(
        cls,
        metric: Metric,
        trial: int,
        value: float,
        *,
        is_feasible: bool,
        is_modelled: bool = False,
    ) -> BestTrial:
        """The summary of a trial with this value of the metric that ranks trials."""
        is_signed = metric.worst is None or metric.worst < 0
        return cls(trial, metric.name, value, is_feasible, metric.title, is_signed, is_modelled)

    def __str__(self) -> str:
        sign = "+" if self.is_signed else ""
        how = "modelled" if self.is_modelled else "measured"
        missed = "" if self.is_feasible else ", misses the constraints"
        return f"{how} {self.title} {self.value:{sign}.3f} (trial {self.trial}{missed})"


def total_violation(columns: Mapping[str, Any], constraints: Sequence[str]) -> float:
    """Sum of the constraints' violations; 0 if a trial meets them all.

    Raises:
        ValueError: a constraint is malformed, or a metric is missing or not finite; names it.
    """
    return _violation(columns, [parse_constraint(text) for text in constraints])


def _violation(columns: Mapping[str, Any], bounds: Sequence[Constraint]) -> float:
    return math.fsum(max(0.0, bound.violation(columns)) for bound in bounds)


def directions(objectives: Sequence[str]) -> list[Literal["maximize", "minimize"]]:
    """The direction of every objective."""
    return [found for name in objectives if (found := objective(name).direction)]


def objective_values(columns: Mapping[str, Any], objectives: Sequence[str]) -> list[float]:
    """Values of the objectives on the search split.

    Raises:
        ValueError: a value is missing or not finite; names the metric.
    """
    return [_value(columns, name) for name in objectives]


def _value(columns: Mapping[str, Any], metric: str) -> float:
    value = columns.get(f"{SEARCH_SPLIT}.{metric}")
    if not isinstance(value, int | float) or not math.isfinite(value):
        reason = objective(metric).undefined if value is None else ""
        raise ValueError(
            f"{metric} is {value!r}, not a finite number" + (f": {reason}" if reason else "")
        )
    return float(value)
