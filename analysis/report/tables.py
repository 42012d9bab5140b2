"""Small tables of the report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from analysis.charts.wording import list_trials, number, one_line
from analysis.findings.hypervolume_growth import device_hours, hours_unit
from analysis.findings.study import Study
from analysis.report.header import distinct
from analysis.report.trials import known_metrics, short_name
from analysis.results.load import numbers
from analysis.results.parameters import format_value

MAX_FRONT_ROWS = 50
MAX_REASONS = 50


class TextTable(NamedTuple):
    """A small table of the report."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def front_table(study: Study) -> TextTable | None:
    """The front, for print and for readers without scripts; None if it is empty."""
    front = study.front
    if not len(front):
        return None
    metrics = dict.fromkeys([*study.objectives, "clean_accuracy", "robust_accuracy"])
    metrics["tradeoff_score"] = None
    shown = [name for name in metrics if name in known_metrics(study)]
    head = (
        "trial",
        *map(short_name, study.parameters),
        *(study.metrics[name].title for name in shown),
        "P(front)",
    )
    rows = tuple(_front_row(study, row, shown) for row in front[:MAX_FRONT_ROWS])
    left = len(front) - len(rows)
    caption = (
        "The front by score, best first (± standard error: over seeds, or binomial for a single "
        f"network). {study.split.capitalize()} split."
        + (f" {left} more trials are in the table of all trials." if left else "")
    )
    return TextTable(caption, head, rows)


def _front_row(study: Study, row: int, metrics: Sequence[str]) -> tuple[str, ...]:
    trial = study.trials.iloc[row]
    mark = " (warm start)" if row in study.warm_starts else ""
    cells = [f"{trial['trial']}{mark}", *(format_value(trial[p]) for p in study.parameters)]
    for name in metrics:
        known = name in study.objectives
        error = study.errors[row, study.objectives.index(name)] if known else math.nan
        cells.append(_with_error(float(trial[f"{study.split}.{name}"]), error))
    return (*cells, f"{study.probability[row]:.2f}")


def _with_error(value: float, error: float) -> str:
    return f"{value:.4f}" + ("" if math.isnan(error) else f" ± {error:.4f}")


def failures(study: Study) -> TextTable | None:
    """Trials that are not complete, by status and reason; None if there are none."""
    ended = study.results.trials
    ended = ended[ended["status"] != "complete"]
    if ended.empty:
        return None
    reasons = ended["reason"].map(one_line, na_action=None)
    groups = ended.groupby([ended["status"], reasons])["trial"]
    rows = sorted(
        ((str(s), str(r), len(t), list_trials(map(int, t))) for (s, r), t in groups),
        key=lambda row: (row[0], -row[2], row[1]),
    )
    return TextTable(
        f"{len(ended)} of {len(study.results.trials)} trials are not complete.",
        ("status", "reason", "number", "which"),
        tuple((s, r, str(n), which) for s, r, n, which in rows[:MAX_REASONS]),
    )


def cost(study: Study) -> TextTable:
    """Seconds of training and evaluation, over the trials that recorded them."""
    trials = study.results.trials
    rows = []
    for column, label in (("train_seconds", "training"), ("evaluate_seconds", "evaluation")):
        values = numbers(trials, column)
        values = values[np.isfinite(values)]
        some = (values.mean(), np.median(values), values.max()) if len(values) else [math.nan] * 3
        cells = (*(number(value, 3) for value in some), number(values.sum(), 4))
        rows.append((label, str(len(values)), *cells))
    unit = hours_unit(trials)
    hours = float(device_hours(trials).sum())
    return TextTable(
        "Wall-clock seconds per trial (summed over its networks), on "
        f"{distinct(trials['device'])}. In all {number(hours, 3)} {unit}, without baselines, "
        "surrogate, confirmation and trials that recorded no time.",
        ("what", "trials", "mean, s", "median, s", "longest, s", "total, s"),
        tuple(rows),
    )


def confirmed_table(study: Study) -> TextTable | None:
    """What confirmation found, best score first; None if nothing was confirmed."""
    candidates = study.confirmation.candidates
    if not candidates:
        return None
    names = (
        "clean_accuracy",
        "robust_accuracy",
        "accuracy_cost",
        "robustness_gain",
        "tradeoff_score",
    )
    rows = []
    for candidate in candidates:
        estimates = candidate.estimates
        n = str(estimates["tradeoff_score"].n) if "tradeoff_score" in estimates else "0"
        cells = [
            _with_error(estimates[name].mean, estimates[name].half_width)
            if name in estimates
            else "-"
            for name in names
        ]
        rows.append((str(candidate.trial), n, *cells, str(candidate.num_failed)))
    seeds = ", ".join(map(str, study.confirmation.seeds[:10]))
    return TextTable(
        "Confirmed on the test split: mean ± half the 95 % interval (Student's t) over fresh seeds "
        f"({seeds}); cost, gain and score against the baseline of the same seed.",
        ("trial", "seeds", "clean", "robust", "cost", "gain", "score", "failed"),
        tuple(rows),
    )
