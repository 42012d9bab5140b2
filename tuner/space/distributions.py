"""The distributions of searched keys (number ranges and choices) and their Optuna counterparts."""

from __future__ import annotations

import copy
import json
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal, Self

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from pydantic import Field, field_validator, model_validator

from simreg_core.config.base import Config, PositiveInt

# Optuna stores whole numbers as floats, which are exact up to here.
_WholeNumber = Annotated[int, Field(ge=-(2**53), le=2**53)]


class _Range(Config):
    """The keys and checks that both kinds of number ranges share."""

    type: str
    low: float
    """Lowest value."""
    high: float
    """Highest value."""
    log: bool = False
    """Search evenly in the logarithm; needs ``low`` above 0."""
    step: float | None = None
    """Distance between values; not with ``log``. Sampler ``grid`` needs it for floats."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        low, high, step = self.low, self.high, self.step
        if low == high:
            raise ValueError(f"low and high are both {low:g}; write a constant in trial instead")
        if low > high:
            raise ValueError(f"low ({low:g}) must be below high ({high:g})")
        if self.log and low <= 0:
            raise ValueError(f"a log range needs low above 0, found {low:g}")
        if self.log and step != type(self).model_fields["step"].default:
            raise ValueError("log and step cannot be combined")
        if not self._is_on_grid(high):
            raise ValueError(
                f"high ({high:g}) is not low ({low:g}) plus a multiple of step ({step:g})"
            )
        return self

    def extremes(self) -> list[tuple[str, Any]]:
        """The bounds, each with its key."""
        return [("low", self.low), ("high", self.high)]

    def contains(self, value: Any) -> bool:
        """Whether a warm start may use ``value``."""
        is_number = isinstance(value, (int, type(self.low))) and not isinstance(value, bool)
        return is_number and self.low <= value <= self.high and self._is_on_grid(value)

    def _is_on_grid(self, value: float) -> bool:
        if self.step is None:
            return True
        try:  # in decimals as written, since 0.1 + 0.2 is not 0.3 in floats
            return (Decimal(str(value)) - Decimal(str(self.low))) % Decimal(str(self.step)) == 0
        except InvalidOperation:  # more than 1e28 steps
            return False

    def encode(self, value: Any) -> Any:
        """``value`` as Optuna stores it."""
        return type(self.low)(value)

    def decode(self, value: Any) -> Any:
        """A value that Optuna stored, as the configuration takes it."""
        return value

    def num_values(self) -> int | None:
        """Number of values; None if infinite."""
        if self.step is None:
            return None
        span = Decimal(str(self.high)) - Decimal(str(self.low))
        return int(span / Decimal(str(self.step))) + 1

    def values(self) -> list[Any]:
        """All values in ascending order; empty if infinitely many."""
        low, step = Decimal(str(self.low)), Decimal(str(self.step or 0))
        return [self.encode(low + number * step) for number in range(self.num_values() or 0)]


class FloatRange(_Range):
    """A real number in [low, high], uniform or (``log``) uniform in its logarithm."""

    type: Literal["float"]
    step: Annotated[float, Field(gt=0)] | None = None

    def to_optuna(self) -> BaseDistribution:
        """The equivalent Optuna distribution."""
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)


class IntRange(_Range):
    """A whole number in [low, high], in steps of ``step`` or (``log``) uniform in its logarithm."""

    type: Literal["int"]
    low: _WholeNumber
    high: _WholeNumber
    step: PositiveInt = 1

    def to_optuna(self) -> BaseDistribution:
        """The equivalent Optuna distribution."""
        return IntDistribution(self.low, self.high, log=self.log, step=self.step)


class Choices(Config):
    """One of several unordered values, which may be lists or mappings."""

    type: Literal["categorical"]
    choices: Annotated[list[Any], Field(min_length=2)]
    """Two or more values of any type."""

    @field_validator("choices")
    @classmethod
    def _distinct(cls, choices: list[Any]) -> list[Any]:
        texts = [json.dumps(choice, sort_keys=True) for choice in choices]
        for text in texts:
            if texts.count(text) > 1:
                raise ValueError(f"choice {text} is given twice")
        return choices

    def extremes(self) -> list[tuple[str, Any]]:
        """The choices, each with its key."""
        return [(f"choices.{number}", choice) for number, choice in enumerate(self.choices)]

    def num_values(self) -> int:
        """Number of choices."""
        return len(self.choices)

    def values(self) -> list[Any]:
        """All choices in their order."""
        return list(self.choices)

    def contains(self, value: Any) -> bool:
        """Whether a warm start may use ``value``."""
        return any(type(value) is type(c) and value == c for c in self.choices)

    def to_optuna(self) -> BaseDistribution:
        """The equivalent Optuna distribution."""
        return CategoricalDistribution([self.encode(choice) for choice in self.choices])

    def encode(self, value: Any) -> Any:
        """``value`` as Optuna stores it: lists and mappings become JSON."""
        return json.dumps(value, sort_keys=True) if isinstance(value, list | dict) else value

    def decode(self, value: Any) -> Any:
        """A value that Optuna stored, as the configuration takes it."""
        return copy.deepcopy(next(c for c in self.choices if self.encode(c) == value))


Distribution = Annotated[FloatRange | IntRange | Choices, Field(discriminator="type")]
