"""From a trial's recorded figures to the values that the sampler is told."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from simreg_core.records import METRICS

SEARCH_SPLIT = "validation"  # test figures are recorded beside it and never searched on


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
            raise ValueError(f"objective {name} is {value!r}, not a finite number")
        values.append(float(value))
    return values
