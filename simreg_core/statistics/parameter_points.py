"""Configurations as points in the unit cube, for models over the searched parameters."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simreg_core.storage.json_text import parse_json

LOG_MIN_RATIO = 8.0
"""Numbers listed as choices are scaled by their logarithm if they span this factor."""


class ParameterPoints(NamedTuple):
    """N configurations in d inputs."""

    points: NDArray[np.float64]
    """(N, d) in [0, 1]."""
    inputs: tuple[str, ...]
    """(d,), name of the parameter; ``PARAMETER = VALUE`` for a category."""

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters that vary, in the order of the space file."""
        return tuple(dict.fromkeys(name.partition(" = ")[0] for name in self.inputs))


def parameter_points(
    search: Mapping[str, Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]
) -> ParameterPoints:
    """The searched parameters of every row, scaled to [0, 1].

    Ranges are scaled from ``low`` to ``high``, numeric choices from the least to the greatest.
    Other choices are one-hot encoded (a single input for two choices). A missing number becomes
    0.5, and a further input marks it. Parameters that do not vary are left out, and so is the seed,
    whose influence is the noise.

    Args:
        search: Dotted path to ``type``, ``low``, ``high``, ``log`` or ``choices``, as in a space
            file.
        rows: Rows of a result table; nested values (attacks) are JSON text.

    Raises:
        ValueError: a value of a range is not a number; names the parameter.
    """
    columns: list[list[float]] = []
    inputs: list[str] = []
    for key, distribution in search.items():
        if key == "seed":
            continue
        values = [_value(row, key) for row in rows]
        for name, column in _columns(key, distribution, values):
            if len(set(column)) > 1:
                inputs.append(name)
                columns.append(column)
    points = np.array(columns, dtype=np.float64).reshape(len(columns), len(rows)).T
    return ParameterPoints(np.ascontiguousarray(points), tuple(inputs))


def _value(tree: Any, key: str) -> Any:
    """Value at a dotted path; its names may contain dots, and JSON text is decoded on the way."""
    if isinstance(tree, str):
        try:
            tree = parse_json(tree)
        except ValueError:
            return None
    if isinstance(tree, Mapping):
        parts = key.split(".")
        for length in range(len(parts), 0, -1):
            name, rest = ".".join(parts[:length]), ".".join(parts[length:])
            if name in tree:
                return _value(tree[name], rest) if rest else tree[name]
    return None


def _columns(
    key: str, distribution: Mapping[str, Any], values: Sequence[Any]
) -> list[tuple[str, list[float]]]:
    present = [value for value in values if value is not None]
    if distribution.get("type") in ("float", "int"):
        if not all(map(_is_number, present)):
            raise ValueError(f"{key}: a value is no number, but the parameter is a range")
        low, high = _range(key, distribution)
        return _numbers(key, values, low, high, is_log=bool(distribution.get("log")))
    if all(map(_is_number, present)) and len(set(present)) > 1:
        low, high = float(min(present)), float(max(present))
        return _numbers(key, values, low, high, is_log=low > 0 and high / low >= LOG_MIN_RATIO)
    return _categories(key, values)


def _range(key: str, distribution: Mapping[str, Any]) -> tuple[float, float]:
    ends: list[Any] = [distribution.get("low"), distribution.get("high")]
    if all(map(_is_number, ends)):
        low, high = map(float, ends)
        if low < high and (low > 0 or not distribution.get("log")):
            return low, high
    raise ValueError(
        f"{key}: expected numbers low < high (above 0 with log), found {ends[0]!r} and {ends[1]!r}"
    )


def _is_number(value: Any) -> bool:
    is_real = isinstance(value, int | float | np.integer | np.floating)
    return is_real and not isinstance(value, bool) and math.isfinite(value)


def _numbers(
    key: str, values: Sequence[Any], low: float, high: float, *, is_log: bool
) -> list[tuple[str, list[float]]]:
    scale = math.log if is_log else float
    start, end = scale(low), scale(high)

    def place(value: float) -> float:
        return min(1.0, max(0.0, (scale(value) - start) / (end - start)))

    column = [0.5 if value is None else place(float(value)) for value in values]
    missing = [float(value is None) for value in values]
    return [(key, column), (f"{key} = none", missing)]


def _categories(key: str, values: Sequence[Any]) -> list[tuple[str, list[float]]]:
    texts = [v if isinstance(v, str) else json.dumps(v, sort_keys=True) for v in values]
    levels = sorted(set(texts))
    shown = levels[1:] if len(levels) == 2 else levels
    return [(f"{key} = {level}", [float(text == level) for text in texts]) for level in shown]
