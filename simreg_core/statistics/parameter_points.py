"""Configurations as points of the unit cube, for models over the searched parameters."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

LOG_MIN_RATIO = 8.0
"""Numbers that are listed as choices count by their logarithm if they span this factor."""
_SEED = "seed"  # what is left of the noise when a model has explained what it can


class ParameterPoints(NamedTuple):
    """N configurations in d inputs."""

    points: NDArray[np.float64]
    """(N, d) in [0, 1]."""
    inputs: tuple[str, ...]
    """(d,), the parameter of each; ``PARAMETER = VALUE`` for one of several categories."""

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters that vary, in the order of the search."""
        return tuple(dict.fromkeys(name.partition(" = ")[0] for name in self.inputs))


def parameter_points(
    search: Mapping[str, Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]
) -> ParameterPoints:
    """The searched parameters of every row, scaled.

    ``float`` and ``int`` ranges go from ``low`` (0) to ``high`` (1), with ``log`` in the logarithm.
    Choices that are all numbers are ordered, so they count as numbers from the least to the
    greatest; other choices have an input each that is 1 for it (two share one). Parameters that do
    not vary among the rows are left out, and so is the seed, whose influence is the noise. A
    missing number lies in the middle and is marked by an input of its own.

    Args:
        search: As in a space file: by dotted path ``type``, ``low``, ``high``, ``log`` or
            ``choices``.
        rows: Of a result table; tables among the values (attacks) are JSON text.

    Raises:
        ValueError: a range does not hold numbers; names the parameter.
    """
    columns: list[list[float]] = []
    inputs: list[str] = []
    for key, distribution in search.items():
        if key == _SEED:
            continue
        values = [_value(row, key) for row in rows]
        for name, column in _columns(key, distribution, values):
            if len(set(column)) > 1:
                inputs.append(name)
                columns.append(column)
    points = np.array(columns, dtype=np.float64).reshape(len(columns), len(rows)).T
    return ParameterPoints(np.ascontiguousarray(points), tuple(inputs))


def _value(row: Mapping[str, Any], key: str) -> Any:
    """A parameter's value; of an entry of a table (``robustness.attacks.NAME``), from its JSON."""
    if key in row:
        return row[key]
    parts = key.split(".")
    for length in range(len(parts) - 1, 0, -1):
        text = row.get(".".join(parts[:length]))
        if isinstance(text, str):
            try:
                return _inner(json.loads(text), parts[length:])
            except json.JSONDecodeError:
                return None
    return None


def _inner(tree: Any, parts: Sequence[str]) -> Any:
    """What lies at a path whose names may hold dots themselves (plug-in attacks)."""
    if not parts:
        return tree
    if isinstance(tree, Mapping):
        for length in range(len(parts), 0, -1):
            name = ".".join(parts[:length])
            if name in tree:
                return _inner(tree[name], parts[length:])
    return None


def _columns(
    key: str, distribution: Mapping[str, Any], values: Sequence[Any]
) -> list[tuple[str, list[float]]]:
    present = [value for value in values if value is not None]
    if distribution.get("type") in ("float", "int"):
        if not all(map(_is_number, present)):
            raise ValueError(f"{key}: a value is no number, though a range is searched")
        low, high = float(distribution["low"]), float(distribution["high"])
        return _numbers(key, values, low, high, is_log=bool(distribution.get("log")))
    if all(map(_is_number, present)) and len(set(present)) > 1:
        low, high = float(min(present)), float(max(present))
        return _numbers(key, values, low, high, is_log=low > 0 and high / low >= LOG_MIN_RATIO)
    return _categories(key, values)


def _is_number(value: Any) -> bool:
    is_real = isinstance(value, int | float | np.integer | np.floating)
    return is_real and not isinstance(value, bool) and math.isfinite(value)


def _numbers(
    key: str, values: Sequence[Any], low: float, high: float, *, is_log: bool
) -> list[tuple[str, list[float]]]:
    def place(value: float) -> float:
        if is_log:
            return (math.log(value) - math.log(low)) / (math.log(high) - math.log(low))
        return (value - low) / (high - low)

    column = [0.5 if v is None else min(1.0, max(0.0, place(float(v)))) for v in values]
    missing = [float(value is None) for value in values]
    return [(key, column), (f"{key} = none", missing)]


def _categories(key: str, values: Sequence[Any]) -> list[tuple[str, list[float]]]:
    texts = [v if isinstance(v, str) else json.dumps(v, sort_keys=True) for v in values]
    levels = sorted(set(texts))
    shown = levels[1:] if len(levels) == 2 else levels
    return [(f"{key} = {level}", [float(text == level) for text in texts]) for level in shown]
