"""How much each searched parameter matters, by Optuna's PED-ANOVA.

The study is built again in memory from the trials table, so that no study file is needed.
PED-ANOVA (Watanabe et al., arXiv:2304.10255) compares the distribution of a parameter among the
best trials with that among all.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.results.load import Array
from analysis.results.parameters import DTYPES, format_value, is_numeric, scale_of

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

MIN_TRIALS = 10


class NoImportanceError(ValueError):
    """These trials give no importances; the message says why."""


def importances(
    trials: pd.DataFrame,
    values: Array,
    parameters: Sequence[str],
    search: Mapping[str, Any],
    *,
    maximize: bool,
) -> dict[str, float]:
    """Importance of each parameter for one metric; they add up to 1.

    Args:
        trials: Complete trials, (N rows).
        values: (N,), of the metric.
        parameters: Columns that vary among the trials.
        search: The space file's ``search``, for ranges and logarithmic scales; missing ones are
            taken from the values.
        maximize: Whether larger values are better.

    Raises:
        NoImportanceError: fewer than :data:`MIN_TRIALS` trials or than two parameters, or all
            values are equal.
    """
    if len(trials) < MIN_TRIALS:
        reason = f"it needs {MIN_TRIALS} complete trials, found {len(trials)}"
        raise NoImportanceError(reason)
    if len(parameters) < 2:
        raise NoImportanceError(f"it needs two parameters that vary, found {len(parameters)}")
    if np.ptp(values) == 0:
        raise NoImportanceError("all trials have the same value")
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            study = optuna.create_study(direction="maximize" if maximize else "minimize")
            study.add_trials(_trials(trials[list(parameters)], values, search))
            evaluator = optuna.importance.PedAnovaImportanceEvaluator()
            found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    finally:
        optuna.logging.set_verbosity(verbosity)
    if not all(math.isfinite(value) for value in found.values()):
        raise NoImportanceError("the best trials do not differ from the others")
    return dict(found)


def _trials(rows: pd.DataFrame, values: Array, search: Mapping[str, Any]) -> list[FrozenTrial]:
    from optuna.trial import create_trial

    columns = {str(name): _encode(rows, str(name)) for name in rows}
    distributions = {
        name: _distribution(column, search.get(name, {})) for name, column in columns.items()
    }
    return [
        create_trial(
            params={name: column[row] for name, column in columns.items()},
            distributions=distributions,
            value=float(value),
        )
        for row, value in enumerate(values)
    ]


def _encode(rows: pd.DataFrame, parameter: str) -> list[Any]:
    """Numbers if no trial lacks one, else text."""
    kind: Any = int if DTYPES[parameter] == "int64" else float
    return list(map(kind if is_numeric(rows, parameter) else format_value, rows[parameter]))


def _distribution(values: Sequence[Any], asked: Any) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    asked = asked if isinstance(asked, Mapping) else {}
    if isinstance(values[0], str) or asked.get("type") == "categorical":
        return CategoricalDistribution(sorted(set(values)))
    bounds = [asked[key] for key in ("low", "high") if isinstance(asked.get(key), int | float)]
    low, high = min([*values, *bounds]), max([*values, *bounds])
    guessed = scale_of(np.array(values, dtype=np.float64)) == "log"
    is_log = bool(asked.get("log", guessed)) and low > 0
    if isinstance(values[0], int):
        return IntDistribution(int(low), int(high), log=is_log)
    return FloatDistribution(low, high, log=is_log)
