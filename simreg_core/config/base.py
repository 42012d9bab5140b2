"""Base class and field types that all configurations share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

PositiveInt = Annotated[int, Field(ge=1)]


Fraction = Annotated[float, Field(ge=0, le=1)]


Seed = Annotated[int, Field(ge=0, lt=2**32)]


# JSON and YAML have lists only; the elements stay strictly typed.
IntTuple = Annotated[tuple[int, ...], Field(strict=False)]


Names = Annotated[tuple[str, ...], Field(strict=False, min_length=1)]


def require_known(what: str, names: Iterable[str], known: Sequence[str]) -> None:
    """Refuse a name that is not known, with those that are.

    Raises:
        ValueError: names the first unknown one.
    """
    for name in names:
        if name not in known:
            raise ValueError(f"unknown {what} {name!r}; allowed: {', '.join(known)}")


def require_pair(key: str, value: str, needing: str, other: str, given: object) -> None:
    """An option that one choice needs is given with that choice and with no other.

    Raises:
        ValueError: it is missing, or would have no effect.
    """
    if value == needing and given is None:
        raise ValueError(f"{key} {value} needs {other}")
    if value != needing and given is not None:
        raise ValueError(f"{other} has no effect with {key} {value}, only with {needing}")


class Config(BaseModel):
    """Frozen, typed strictly, without unknown keys or infinite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
