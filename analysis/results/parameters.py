"""Which parameter colours the points of a chart, and on what scale."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.results.load import Array, ResultsError
from simreg_core.results.schema import PARAMETERS

PREFERRED = ("regularizer.threshold", "regularizer.alpha")
MAX_CATEGORIES = 12
LOG_MIN_RATIO = 8.0  # a doubling grid of four values (1, 2, 4, 8) already spans this

DTYPES = {column.name: column.dtype for column in PARAMETERS}

Scale = Literal["linear", "log", "symlog"]


class ContinuousColor(NamedTuple):
    """Numbers that a colour bar explains."""

    parameter: str
    values: Array
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
        name for name in DTYPES if name != "seed" and trials[name].nunique(dropna=False) > 1
    )


def is_numeric(trials: pd.DataFrame, parameter: str) -> bool:
    """Whether every trial has a number of the parameter."""
    return DTYPES[parameter] in ("int64", "float64") and not trials[parameter].isna().any()


def preferred_first(parameters: tuple[str, ...]) -> list[str]:
    """The parameters with threshold and alpha before the others."""
    return sorted(parameters, key=[*PREFERRED, *parameters].index)


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
    for name in preferred_first(varying_parameters(trials)):
        if is_numeric(trials, name) or trials[name].nunique(dropna=False) <= MAX_CATEGORIES:
            return _color(trials, name)
    return None


def scale_of(values: Array) -> Scale:
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


def _median_place(values: Array) -> float:
    low, high = values.min(), values.max()
    return float((np.median(values) - low) / (high - low))


def _color(trials: pd.DataFrame, parameter: str) -> Color:
    if parameter not in DTYPES:
        allowed = ", ".join(varying_parameters(trials) or DTYPES)
        raise ResultsError(f"unknown parameter {parameter!r} to colour by; allowed: {allowed}")
    column = trials[parameter]
    if is_numeric(trials, parameter) and column.nunique() > 1:
        values = column.to_numpy(dtype=np.float64)
        return ContinuousColor(parameter, values, scale_of(values))
    codes, known = pd.factorize(column, sort=True)
    if column.isna().any():
        codes, known = np.where(codes < 0, len(known), codes), known.append(pd.Index([None]))
    if len(known) > MAX_CATEGORIES:
        raise ResultsError(
            f"{parameter} has {len(known)} categories to colour by; "
            f"allowed: at most {MAX_CATEGORIES}"
        )
    labels = tuple(map(format_value, known))
    return CategoricalColor(parameter, labels, np.asarray(codes, dtype=np.int64))


def format_value(value: object) -> str:
    """A parameter's value as short text: four significant digits, true/false, none."""
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return "none"
    if isinstance(value, bool | np.bool_):
        return str(bool(value)).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)
