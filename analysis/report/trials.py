"""All trials of a search as the JSON behind the page's table."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.charts.wording import one_line
from analysis.findings.modelled_front import NoiseAwareFront
from analysis.findings.study import Study

RUN_COLUMNS = {
    "train_seconds": "training, s",
    "evaluate_seconds": "evaluation, s",
    "seed": "seed",
    "num_seeds": "seeds",
}


class Column(NamedTuple):
    """One column of the table; one cell per trial."""

    key: str
    label: str
    group: str
    cells: list[Any]


def trial_table(study: Study, model: NoiseAwareFront | None) -> dict[str, Any]:
    """All trials that ended, by column, as JSON types.

    Args:
        study: The search.
        model: Its noise-aware front; None leaves its column out.

    Returns:
        ``columns`` (``key``, ``label``, ``group`` and which values are ``best``: ``low`` or
        ``high``), ``rows`` (lists by ``key``, null where a trial has no value) and ``split``.
    """
    columns = [*_identity(study, model), *_values(study)]
    # tradeoff_ratio has no direction: it is cost per gain, and noise where the gain is small.
    low = {
        "tradeoff_ratio",
        *(m.name for m in study.metrics.values() if m.direction == "minimize"),
    }
    return {
        "columns": [
            {
                "key": column.key,
                "label": column.label,
                "group": column.group,
                "best": "low" if column.key in low else "high",
            }
            for column in columns
        ],
        "rows": {column.key: column.cells for column in columns},
        "split": study.split,
    }


def _identity(study: Study, model: NoiseAwareFront | None) -> list[Column]:
    """What a trial is, and whether it is on the front."""
    trials = study.results.trials
    numbers = [int(trial) for trial in trials["trial"]]
    usable = study.trials["trial"]
    front, given = set(usable.iloc[study.front]), set(usable.iloc[study.warm_starts])
    probability = dict(zip(usable, study.probability.round(4).tolist(), strict=True))
    columns = [
        Column("trial", "trial", "identity", numbers),
        Column("status", "status", "identity", _cells(trials["status"])),
        Column("front", "front", "identity", ["front" if n in front else "" for n in numbers]),
        Column("probability", "P(front)", "metric", [probability.get(n) for n in numbers]),
    ]
    if model is not None and model.is_trustworthy:
        modelled = dict(zip(model.trials.tolist(), model.probability.tolist(), strict=True))
        cells = [modelled.get(n) for n in numbers]
        columns.append(Column("model_probability", "P(front), model", "metric", cells))
    if given:
        cells = ["warm start" if n in given else "" for n in numbers]
        columns.append(Column("origin", "origin", "identity", cells))
    if not study.feasible.all():
        columns.append(Column("feasible", "feasible", "identity", _cells(trials["feasible"])))
    return columns


def _values(study: Study) -> list[Column]:
    """What was searched and measured, and how the run went."""
    trials = study.results.trials
    columns = [
        Column(name, short_name(name), "parameter", _cells(trials[name]))
        for name in study.parameters
    ]
    columns += [
        Column(
            name,
            study.metrics[name].title,
            "metric",
            _cells(trials[f"{study.split}.{name}"]),
        )
        for name in known_metrics(study)
    ]
    columns += [
        Column(name, label, "run", _cells(trials[name]))
        for name, label in RUN_COLUMNS.items()
        if trials[name].notna().any()
    ]
    if trials["reason"].notna().any():
        reasons = ["" if pd.isna(r) else one_line(r, 200) for r in trials["reason"]]
        columns.append(Column("reason", "reason", "run", reasons))
    return columns


def _cells(column: pd.Series) -> list[Any]:
    return [_cell(value) for value in column.astype(object)]


def _cell(value: Any) -> Any:
    if value is None or value is pd.NA:
        return None
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return str(value)


def known_metrics(study: Study) -> list[str]:
    """Metrics of the split that any trial has, those of the front first."""
    rows = study.results.trials
    known = [name for name in study.metrics if rows[f"{study.split}.{name}"].notna().any()]
    return [*study.objectives, *(name for name in known if name not in study.objectives)]


def short_name(parameter: str) -> str:
    """A parameter's name as a heading, without the most common first part."""
    return parameter.removeprefix("regularizer.")
