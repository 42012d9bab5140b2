"""What a searched key may be: a range of numbers or a choice of values, and Optuna's view of it."""

from __future__ import annotations

import copy
import json
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal, Self

import optuna
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

# Optuna keeps whole numbers as floats, exactly up to here.
_WholeNumber = Annotated[int, Field(ge=-(2**53), le=2**53)]


class Strict(BaseModel):
    """Frozen, typed strictly, without unknown keys or infinite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class _Range(Strict):
    """What both kinds of numbers share: ``low``, ``high``, ``log`` and ``step``."""

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
        if not _is_on_grid(low, high, step):
            raise ValueError(
                f"high ({high:g}) is not low ({low:g}) plus a multiple of step ({step:g})"
            )
        return self

    def extremes(self) -> list[tuple[str, Any]]:
        """Values to try, with the key that each comes from."""
        return [("low", self.low), ("high", self.high)]

    def contains(self, value: Any) -> bool:
        """Whether a warm start may use ``value``."""
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        is_inside = is_number and self.low <= value <= self.high
        return is_inside and _is_on_grid(self.low, value, self.step)

    def decode(self, value: Any) -> Any:
        """What Optuna stored, as the configuration takes it."""
        return value

    def num_values(self) -> int | None:
        """How many values there are; None if infinitely many."""
        if self.step is None:
            return None
        span = Decimal(str(self.high)) - Decimal(str(self.low))
        return int(span / Decimal(str(self.step))) + 1

    def values(self) -> list[Any]:
        """All values, ascending, of a range that has finitely many."""
        low, step = Decimal(str(self.low)), Decimal(str(self.step))
        kind = type(self.low)
        return [kind(low + number * step) for number in range(self.num_values() or 0)]


class FloatRange(_Range):
    """A real number in [low, high], uniformly or (``log``) uniformly in its logarithm."""

    type: Literal["float"]
    step: Annotated[float, Field(gt=0)] | None = None

    def to_optuna(self) -> optuna.distributions.BaseDistribution:
        """The same range in Optuna's terms."""
        return optuna.distributions.FloatDistribution(
            self.low, self.high, log=self.log, step=self.step
        )

    def encode(self, value: Any) -> Any:
        """``value`` as Optuna stores it."""
        return float(value)


class IntRange(_Range):
    """A whole number in [low, high], in steps of ``step`` or (``log``) evenly in its logarithm."""

    type: Literal["int"]
    low: _WholeNumber
    high: _WholeNumber
    step: Annotated[int, Field(ge=1)] = 1

    def contains(self, value: Any) -> bool:
        """Whether a warm start may use ``value``."""
        return isinstance(value, int) and super().contains(value)

    def to_optuna(self) -> optuna.distributions.BaseDistribution:
        """The same range in Optuna's terms."""
        return optuna.distributions.IntDistribution(
            self.low, self.high, log=self.log, step=self.step
        )

    def encode(self, value: Any) -> Any:
        """``value`` as Optuna stores it."""
        return value


class Choices(Strict):
    """One of several values, without order. Lists (block counts, say) are allowed."""

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
        """Values to try, with the key that each comes from."""
        return [(f"choices.{number}", choice) for number, choice in enumerate(self.choices)]

    def num_values(self) -> int:
        """How many choices there are."""
        return len(self.choices)

    def values(self) -> list[Any]:
        """All choices, in their order."""
        return list(self.choices)

    def contains(self, value: Any) -> bool:
        """Whether a warm start may use ``value``."""
        return any(type(value) is type(c) and value == c for c in self.choices)

    def to_optuna(self) -> optuna.distributions.BaseDistribution:
        """The same choices in Optuna's terms."""
        return optuna.distributions.CategoricalDistribution([self.encode(c) for c in self.choices])

    def encode(self, value: Any) -> Any:
        """``value`` as Optuna stores it: lists and mappings as JSON text."""
        return json.dumps(value, sort_keys=True) if isinstance(value, list | dict) else value

    def decode(self, value: Any) -> Any:
        """What Optuna stored, as the configuration takes it."""
        return copy.deepcopy(next(c for c in self.choices if self.encode(c) == value))


Distribution = Annotated[FloatRange | IntRange | Choices, Field(discriminator="type")]


def _is_on_grid(low: float, value: float, step: float | None) -> bool:
    # In decimals, as written: 0.1 + 0.2 is 0.3.
    if step is None:
        return True
    try:
        return (Decimal(str(value)) - Decimal(str(low))) % Decimal(str(step)) == 0
    except InvalidOperation:  # more than 1e28 steps
        return False
