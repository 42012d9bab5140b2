"""Base class and field types of all configurations."""

from __future__ import annotations

import types
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

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


def number_or(word: str) -> BeforeValidator:
    """Validator of a field ``int | Literal[word]``: a whole number of at least 1, or the word."""

    def check(value: Any) -> Any:
        if value == word or (type(value) is int and value >= 1):
            return value
        raise ValueError(f"expected a whole number of at least 1, or {word}, found {value!r}")

    return BeforeValidator(check)


def dtype_of(annotation: Any) -> str:
    """Type of the column that holds a field: ``int64``, ``float64``, ``bool``, else ``string``.

    Columns of strings hold values that are no text as JSON.
    """
    while hasattr(annotation, "__metadata__"):  # Annotated
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, types.UnionType):
        dtypes = {dtype_of(one) for one in get_args(annotation) if one is not types.NoneType}
        return dtypes.pop() if len(dtypes) == 1 else "string"
    return {int: "int64", float: "float64", bool: "bool"}.get(annotation, "string")


class Config(BaseModel):
    """Frozen and strictly typed, without unknown keys or infinite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
