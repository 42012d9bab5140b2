"""Base class and field types of all configurations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field

PositiveInt = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
T = TypeVar("T")
# JSON and YAML have no tuples, so these accept lists; their elements stay strict.
NonEmpty = Annotated[tuple[T, ...], Field(strict=False, min_length=1)]
Names = NonEmpty[str]


def require_known(what: str, names: Iterable[str], known: Sequence[str]) -> None:
    """Check that all names are known.

    Raises:
        ValueError: names the first unknown one and lists the known ones.
    """
    for name in names:
        if name not in known:
            raise ValueError(f"unknown {what} {name!r}; allowed: {', '.join(known)}")


def require_pair(key: str, value: str, needing: str, other: str, given: object) -> None:
    """Check that the option ``other`` is given if, and only if, ``key`` is ``needing``.

    Raises:
        ValueError: the option is missing or has no effect.
    """
    if value == needing and given is None:
        raise ValueError(f"{key} {value} needs {other}")
    if value != needing and given is not None:
        raise ValueError(f"{other} has no effect with {key} {value}, only with {needing}")


class Config(BaseModel):
    """Frozen and strictly typed, without unknown keys or infinite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
