"""From a trial's recorded figures to the values and constraints that the sampler is told."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from simreg_core.results.schema import METRICS

SEARCH_SPLIT = "validation"  # test figures are recorded beside it and never searched on
STOPPING_METRICS = ("clean_accuracy", "robust_accuracy", "tradeoff_score")
"""What every epoch's network is measured for where a rule may stop trials early."""
OBJECTIVES = tuple(name for name, metric in METRICS.items() if metric.direction is not None)

_ACCURACIES = ("clean_accuracy", "robust_accuracy", "corruption_accuracy")


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
    if match[1] not in OBJECTIVES:
        raise ValueError(f"{match[1]!r} is no metric; allowed: {', '.join(OBJECTIVES)}")
    if match[1].partition(".")[0] in _ACCURACIES and not 0 <= bound <= 1:
        raise ValueError(f"{text!r}: accuracies are in [0, 1], not in percent")
    return Constraint(match[1], match[2] == ">=", bound)


def best_trial(rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The row of the complete trial of the highest tradeoff score on the search split.

    Those that meet the search's constraints come first; of equals, the lowest number. None where no
    complete trial has a score.
    """
    score = f"{SEARCH_SPLIT}.tradeoff_score"
    scored = [row for row in rows if row["status"] == "complete" and row[score] is not None]
    return max(
        scored,
        # Results of earlier versions do not say whether they are feasible; they had no constraints.
        key=lambda row: (row["feasible"] is not False, row[score], -row["trial"]),
        default=None,
    )


def total_violation(columns: Mapping[str, Any], constraints: Sequence[str]) -> float:
    """By how much a trial misses its constraints in all; 0 where it meets them.

    Raises:
        ValueError: a metric is missing or not finite; names it.
    """
    return math.fsum(max(0.0, parse_constraint(text).violation(columns)) for text in constraints)


def directions(objectives: Sequence[str]) -> list[Literal["maximize", "minimize"]]:
    """``maximize`` or ``minimize`` for every objective, as its metric is defined."""
    found = [METRICS[name].direction for name in objectives]
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
