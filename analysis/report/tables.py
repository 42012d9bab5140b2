"""Small tables of the report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from analysis.charts.wording import list_trials, number, one_line, with_error
from analysis.findings.hypervolume_growth import device_hours, hours_unit
from analysis.findings.study import ACCURACIES, Study
from analysis.report.header import distinct
from analysis.report.trials import known_metrics, short_name
from analysis.results.load import numbers
from analysis.results.parameters import format_value
from simreg_core.errors import counted

MAX_FRONT_ROWS = 50
MAX_REASONS = 50


class TextTable(NamedTuple):
    """A small table of the report."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def front_table(study: Study) -> TextTable | None:
    """The front, for print and for readers without scripts; None if it is empty."""
    if not len(study.front):
        return None
    metrics = dict.fromkeys([*study.objectives, *ACCURACIES, "tradeoff_score"])
    shown = [name for name in metrics if name in known_metrics(study)]
    titles, found = [study.metrics[name].title for name in shown], study.delivered
    head = ["trial", *map(short_name, study.parameters), *titles, "P(front)"]
    rows = [_front_row(study, row, shown) for row in study.front[:MAX_FRONT_ROWS]]
    left = len(study.front) - len(rows)
    how = "± standard error: over seeds, or binomial for a single network"
    if found.is_modelled:
        how = (
            "modelled means over seeds, for objectives with 95 % intervals; measured in parentheses"
        )
    caption = (
        f"The front by {found.ranking.title}, best first ({how}). {study.split.capitalize()} split."
        + (f" {counted(left, 'more trial')} in the table of all trials." if left else "")
    )
    return TextTable(caption, head, rows)


def _front_row(study: Study, row: int, metrics: Sequence[str]) -> list[str]:
    trial, found = study.trials.iloc[row], study.delivered
    errors = dict(zip(study.objectives, study.errors[row], strict=True))

    def cell(name: str) -> str:
        is_objective = name in study.objectives
        if found.is_rank_modelled and name == found.ranking.name and not is_objective:
            return f"{found.rank_entry(row)} ({trial[f'{study.split}.{name}']:+.3f})"
        if found.is_modelled and is_objective:
            return found.entry(row, study.objectives.index(name))
        measured = with_error(trial[f"{study.split}.{name}"], errors.get(name, math.nan))
        return f"({measured})" if found.is_modelled else measured

    return [
        f"{trial['trial']}{' (warm start)' if row in study.warm_starts else ''}",
        *(format_value(trial[name]) for name in study.parameters),
        *map(cell, metrics),
        f"{study.probability[row]:.2f}",
    ]


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
        f"Not complete: {len(ended)} of {counted(len(study.results.trials), 'trial')}.",
        ("status", "reason", "number", "which"),
        [[*map(str, row)] for row in rows[:MAX_REASONS]],
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
    hours = float(device_hours(trials).sum())
    return TextTable(
        "Wall-clock seconds per trial (summed over its networks), on "
        f"{distinct(trials['device'])}. In all {number(hours, 3)} {hours_unit(trials)}, without "
        "baselines, surrogate, confirmation and trials that recorded no time.",
        ("what", "trials", "mean, s", "median, s", "longest, s", "total, s"),
        rows,
    )


def confirmed_table(study: Study) -> TextTable | None:
    """What confirmation found, best score first; None if nothing was confirmed."""
    if not study.confirmation.candidates:
        return None
    names = (*ACCURACIES, "accuracy_cost", "robustness_gain", "tradeoff_score")
    rows = []
    for trial, estimates, num_failed in study.confirmation.candidates:
        found = [estimates.get(name) for name in names]
        cells = ["-" if own is None else with_error(own.mean, own.half_width) for own in found]
        n = 0 if found[-1] is None else found[-1].n
        rows.append([str(trial), str(n), *cells, str(num_failed)])
    seeds = ", ".join(map(str, study.confirmation.seeds[:10]))
    return TextTable(
        "Confirmed on the test split: mean ± half the 95 % interval (Student's t) over fresh seeds "
        f"({seeds}); cost, gain and score against the baseline of the same seed.",
        ("trial", "seeds", "clean", "robust", "cost", "gain", "score", "failed"),
        rows,
    )
