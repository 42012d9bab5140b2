"""Which parameter colours the points of a chart, and on what scale."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.results.load import ResultsError
from simreg_core.results.schema import PARAMETERS

Array = NDArray[np.float64]

PREFERRED = ("regularizer.threshold", "regularizer.alpha")
MAX_CATEGORIES = 12
LOG_MIN_RATIO = 8.0  # a doubling grid of four values (1, 2, 4, 8) already spans this

_DTYPES = {column.name: column.dtype for column in PARAMETERS}

Scale = Literal["linear", "log", "symlog"]


class ContinuousColor(NamedTuple):
    """Numbers that a colour bar explains."""

    parameter: str
    values: NDArray[np.float64]
    """(N,), finite, at least two distinct."""
    scale: Scale


class CategoricalColor(NamedTuple):
    """Categories that a legend explains."""

    parameter: str
    labels: tuple[str, ...]
    """Distinct values as text, in order."""
    codes: NDArray[np.int64]
    """(N,), each point's place in ``labels``."""


Color = ContinuousColor | CategoricalColor


def varying_parameters(trials: pd.DataFrame) -> tuple[str, ...]:
    """Parameters with more than one value among the trials (null is a value), without the seed."""
    return tuple(
        name for name in _DTYPES if name != "seed" and trials[name].nunique(dropna=False) > 1
    )


def choose_color(trials: pd.DataFrame, parameter: str | None) -> Color | None:
    """The colour of each trial.

    Args:
        trials: (N rows), with the parameters' columns.
        parameter: Name of a parameter. None picks the threshold, alpha or the first parameter
            that varies and that a picture can show.

    Returns:
        None if no parameter is named and none varies.

    Raises:
        ResultsError: the parameter is unknown, or has too many categories to tell apart.
    """
    if parameter is not None:
        return _color(trials, parameter)
    varying = varying_parameters(trials)
    in_order = [*(name for name in PREFERRED if name in varying), *varying]
    shown = (name for name in in_order if _can_be_shown(trials[name], _DTYPES[name]))
    return next((_color(trials, name) for name in shown), None)


def scale_of(values: NDArray[np.float64]) -> Scale:
    """The scale on which the values are spread most evenly.

    Logarithmic if they are positive, span a factor of at least ``LOG_MIN_RATIO`` and have their
    median at least as near to the middle of their range on a logarithmic scale as on a linear one.
    Symmetrical logarithmic if that holds but for zeros (a weight of 0 turns a term off).
    """
    if values.min() < 0:
        return "linear"
    positive = values[values > 0]
    if len(positive) == 0 or positive.max() / positive.min() < LOG_MIN_RATIO:
        return "linear"
    if abs(_median_place(np.log(positive)) - 0.5) > abs(_median_place(positive) - 0.5):
        return "linear"
    return "log" if len(positive) == len(values) else "symlog"


def _median_place(values: NDArray[np.float64]) -> float:
    low, high = values.min(), values.max()
    return float((np.median(values) - low) / (high - low))


def _color(trials: pd.DataFrame, parameter: str) -> Color:
    if parameter not in _DTYPES:
        allowed = ", ".join(varying_parameters(trials) or _DTYPES)
        raise ResultsError(f"unknown parameter {parameter!r} to colour by; allowed: {allowed}")
    column = trials[parameter]
    if _is_continuous(column, _DTYPES[parameter]):
        values = column.to_numpy(dtype=np.float64)
        return ContinuousColor(parameter, values, scale_of(values))
    if column.nunique(dropna=False) > MAX_CATEGORIES:
        raise ResultsError(
            f"{parameter} has {column.nunique(dropna=False)} categories to colour by; "
            f"allowed: at most {MAX_CATEGORIES}"
        )
    return _categories(parameter, column)


def _is_continuous(column: pd.Series, dtype: str) -> bool:
    is_number = dtype in ("int64", "float64") and not column.isna().any()
    return is_number and column.nunique() > 1


def _can_be_shown(column: pd.Series, dtype: str) -> bool:
    return _is_continuous(column, dtype) or column.nunique(dropna=False) <= MAX_CATEGORIES


def _categories(parameter: str, column: pd.Series) -> CategoricalColor:
    present = sorted(column.dropna().unique().tolist())
    position = {value: code for code, value in enumerate(present)}
    codes = [len(present) if pd.isna(value) else position[value] for value in column]
    labels = [format_value(value) for value in present]
    if column.isna().any():
        labels.append("none")
    return CategoricalColor(parameter, tuple(labels), np.array(codes, dtype=np.int64))


def format_value(value: object) -> str:
    """A parameter's value as short text: four significant digits, true/false, none."""
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return "none"
    if isinstance(value, bool | np.bool_):
        return str(bool(value)).lower()
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)
