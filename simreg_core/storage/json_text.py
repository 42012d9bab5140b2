"""Read JSON strictly, such as that of a results folder of somebody else's."""

from __future__ import annotations

import json
import math
from typing import Any

_MAX_DEPTH = 100
_MAX_INTEGER = 2**63


def parse_json(text: str | bytes) -> Any:
    """The data in ``text``.

    Raises:
        ValueError: the text is not valid JSON, is nested too deeply, or has a number that is not
            finite or an integer of more than 64 bits.
    """
    try:
        data = json.loads(text, parse_constant=_no_number, parse_float=_finite, parse_int=_integer)
    except RecursionError as err:
        raise ValueError(f"nested more than {_MAX_DEPTH} deep") from err
    _check(data)
    return data


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is not a finite number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is not a finite number")
    return number


def _integer(text: str) -> int:
    number = int(text) if len(text) < 25 else _MAX_INTEGER
    if not -_MAX_INTEGER <= number < _MAX_INTEGER:
        raise ValueError(f"{text[:25]} is not an integer of 64 bits")
    return number


def _check(data: Any) -> None:
    """Refuse deep nesting, and halves of surrogate pairs, which no file can hold."""
    level = [data]
    for _ in range(_MAX_DEPTH):
        inner: list[Any] = []
        for value in level:
            if isinstance(value, str):
                value.encode()
            elif isinstance(value, list):
                inner += value
            elif isinstance(value, dict):
                inner += [*value, *value.values()]
        if not inner:
            return
        level = inner
    raise ValueError(f"nested more than {_MAX_DEPTH} deep")
