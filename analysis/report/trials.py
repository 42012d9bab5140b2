"""All trials of a search as the JSON behind the page's table."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from analysis.charts.wording import one_line
from analysis.findings.study import Study

RUN_COLUMNS = {
    "train_seconds": "training, s",
    "evaluate_seconds": "evaluation, s",
    "seed": "seed",
    "num_seeds": "seeds",
}


def trial_table(study: Study) -> dict[str, Any]:
    """All trials that ended, by column, as JSON types.

    Returns:
        ``columns`` (``key``, ``label``, ``group`` and which values are ``best``: ``low`` or
        ``high``), ``rows`` (lists by ``key``, null where a trial has no value) and ``split``.
    """
    trials = study.results.trials
    # tradeoff_ratio has no direction: it is cost per gain, and noise where the gain is small.
    low = {m.name for m in study.metrics.values() if m.direction == "minimize"} | {"tradeoff_ratio"}
    columns: list[dict[str, str]] = []
    rows: dict[str, list[Any]] = {}

    def add(key: str, label: str, group: str, cells: Iterable[Any]) -> None:
        best = "low" if key in low else "high"
        columns.append({"key": key, "label": label, "group": group, "best": best})
        rows[key] = [_cell(cell) for cell in cells]

    add("trial", "trial", "identity", trials["trial"])
    add("status", "status", "identity", trials["status"])
    add("front", "front", "identity", _marks(study, study.front, "front"))
    probability = pd.Series(study.probability.round(4), study.numbers)
    add("probability", "P(front)", "metric", trials["trial"].map(probability))
    found = study.delivered
    if found.is_modelled:
        for metric, values in zip(found.metrics, found.mean.T, strict=True):
            estimates = pd.Series(values.round(4), found.trials)
            cells = trials["trial"].map(estimates)
            add(f"{metric.name}.model", f"{metric.title}, modelled", "metric", cells)
    if len(study.warm_starts):
        add("origin", "origin", "identity", _marks(study, study.warm_starts, "warm start"))
    if not study.feasible.all():
        add("feasible", "feasible", "identity", trials["feasible"])
    for name in study.parameters:
        add(name, short_name(name), "parameter", trials[name])
    for name in known_metrics(study):
        add(name, study.metrics[name].title, "metric", trials[f"{study.split}.{name}"])
    for name, label in RUN_COLUMNS.items():
        if trials[name].notna().any():
            add(name, label, "run", trials[name])
    if trials["reason"].notna().any():
        reasons = ("" if pd.isna(r) else one_line(r, 200) for r in trials["reason"])
        add("reason", "reason", "run", reasons)
    return {"columns": columns, "rows": rows, "split": study.split}


def _marks(study: Study, usable_rows: Iterable[int], text: str) -> list[str]:
    """The text for each trial in some rows of the usable ones, empty for the others."""
    marked = set(study.numbers[list(usable_rows)].tolist())
    return [text if trial in marked else "" for trial in study.results.trials["trial"]]


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
    return list(dict.fromkeys([*study.objectives, *known]))


def short_name(parameter: str) -> str:
    """A parameter's name as a heading, without the most common first part."""
    return parameter.removeprefix("regularizer.")
