"""Values of Optuna's distributions from numbers in [0, 1], and back."""

from __future__ import annotations

import math
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

Number = FloatDistribution | IntDistribution


def value_at(distribution: BaseDistribution, unit: float) -> Any:
    """The value at a position in [0, 1]; uniform positions give values as Optuna's prior does."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[min(int(unit * len(distribution.choices)), _last(distribution))]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = _edges(distribution)
    found = math.exp(low + unit * (high - low)) if distribution.log else low + unit * (high - low)
    step = distribution.step
    if step is not None:
        found = distribution.low + round((found - distribution.low) / step) * step
    found = min(max(found, distribution.low), distribution.high)
    return round(found) if isinstance(distribution, IntDistribution) else float(found)


def unit_of(distribution: BaseDistribution, value: Any) -> float:
    """The position of a value in [0, 1]; the middle of a category's share."""
    if isinstance(distribution, CategoricalDistribution):
        return (distribution.to_internal_repr(value) + 0.5) / len(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = _edges(distribution)
    place = math.log(value) if distribution.log else float(value)
    return min(1.0, max(0.0, (place - low) / (high - low)))


def spec_of(distribution: BaseDistribution) -> dict[str, Any]:
    """The distribution as a space file has it."""
    if isinstance(distribution, CategoricalDistribution):
        return {"type": "categorical", "choices": list(distribution.choices)}
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    names = ("low", "high", "log")
    return {"type": "float", **{name: getattr(distribution, name) for name in names}}


def _last(distribution: CategoricalDistribution) -> int:
    return len(distribution.choices) - 1


def _edges(distribution: Number) -> tuple[float, float]:
    """Ends of the range, on the logarithmic scale if it has one; half a step further if rounded."""
    margin = (distribution.step or 0.0) / 2
    low, high = distribution.low - margin, distribution.high + margin
    return (math.log(low), math.log(high)) if distribution.log else (low, high)
