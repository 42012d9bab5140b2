"""Charts of what was searched: landscape, parallel coordinates, parameter importance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from analysis.charts.chart import (
    AxisSpec,
    Chart,
    Dimension,
    Missing,
    Panel,
    ParallelChart,
    Series,
    Shade,
    categories,
    not_empty,
)
from analysis.charts.style import INK, LINES, MUTED, log_ticks, point_size
from analysis.charts.wording import conditions, number
from analysis.findings.importance import NoImportanceError, importances
from analysis.findings.study import Study
from analysis.results.load import Array, numbers
from analysis.results.parameters import (
    PREFERRED,
    format_value,
    is_numeric,
    preferred_first,
    scale_of,
    varying_parameters,
)

MAX_LINES = 500
MAX_DIMENSIONS = 10
MAX_CATEGORIES = 24
MAX_TICKS = 8


def is_log(study: Study, parameter: str, values: Array) -> bool:
    """Whether a parameter belongs on a logarithmic axis: as searched, else by its values."""
    asked = study.search_of(parameter)
    if "type" in asked and asked["type"] != "categorical":
        return bool(asked.get("log")) and bool((values > 0).all())
    return len(values) > 0 and scale_of(values) == "log"


def landscape_chart(study: Study) -> Chart | Missing:
    """The score over threshold and alpha, or over the first two numbers that vary."""
    name, title = "landscape", "Landscape of the score"
    varying = preferred_first(varying_parameters(study.trials))
    shown = [p for p in varying if is_numeric(study.trials, p)][:2]
    if not shown:
        return Missing(name, title, "no number was varied among the complete trials")
    if shown == list(PREFERRED):
        title = "Th-alpha landscape"
    metric = study.metrics[study.score_name]
    score = study.values(metric.name)
    (x, x_axis), *second = [_parameter_axis(study, parameter) for parameter in shown]
    y, y_axis = second[0] if second else (score, AxisSpec(metric.title))
    trials, front = study.numbers, study.on_front
    points = Series("trial", x, y, size=point_size(len(x)) + 1, trials=trials, in_legend=False)
    rings = Series("on the front", x[front], y[front], color=INK, symbol="circle-open", size=15)
    series = (
        points._replace(color=MUTED, shade=Shade(score, metric.title)),
        rings._replace(trials=trials[front]),
    )
    others = [p for p in study.parameters if p not in shown]
    also = f" Also varied, and not shown: {', '.join(others)}." if others else ""
    caption = f"Observed values, one point per trial.{_best_text(study, score, shown)}{also}"
    panel = Panel("", x_axis, y_axis, not_empty(series))
    return Chart(name, title, (panel,), caption, conditions(study.pairs[0]))


def _best_text(study: Study, score: Array, parameters: Sequence[str]) -> str:
    """The range of the score, and where its best value lies; nothing if no score is known."""
    known = np.flatnonzero(np.isfinite(score))
    if not len(known):
        return ""
    best = study.trials.iloc[known[np.argmax(study.score[known])]]
    where = ", ".join(f"{p} {format_value(best[p])}" for p in parameters)
    title = study.metrics[study.score_name].title.capitalize()
    return (
        f" {title} from {number(score[known].min(), 3)} to "
        f"{number(score[known].max(), 3)}; the best one, of trial {best['trial']}, at {where}."
    )


def _parameter_axis(study: Study, parameter: str) -> tuple[Array, AxisSpec]:
    values = numbers(study.trials, parameter)
    return values, AxisSpec(parameter, is_log(study, parameter, values))


def parallel_chart(study: Study) -> ParallelChart | Missing:
    """Trials as lines across their varying parameters and objectives, coloured by score."""
    name, title = "parallel", "Parallel coordinates"
    parameters = [
        p
        for p in varying_parameters(study.trials)
        if is_numeric(study.trials, p) or study.trials[p].nunique(dropna=False) <= MAX_CATEGORIES
    ]
    if not parameters:
        return Missing(name, title, "no parameter varies among the complete trials")
    rows = _chosen_lines(study)
    kept = parameters[:MAX_DIMENSIONS]
    dimensions = [_dimension(study, parameter, rows) for parameter in kept]
    dimensions += [
        Dimension(axis.metric.title, study.points[rows, column])
        for column, axis in enumerate(study.axes)
    ]
    score = study.score[rows]
    metric = study.metrics[study.score_name]
    sign = 1 if metric.direction == "maximize" else -1
    score = np.where(np.isfinite(score), score, np.nanmin(score, initial=0.0)) * sign
    notes = []
    if len(rows) < len(study.trials):
        notes.append(
            f"{len(rows)} of {len(study.trials)} trials drawn: the front, the best by score "
            "and others at random (seed 0)."
        )
    if len(kept) < len(parameters):
        notes.append(f"Left out: {', '.join(parameters[MAX_DIMENSIONS:])}.")
    notes.append(
        f"{metric.title.capitalize()} of the lines from {number(score.min(), 3)} to "
        f"{number(score.max(), 3)}."
    )
    caption = (
        f"One line per trial across {', '.join(kept)} and the objectives, coloured by "
        f"{metric.title}. Drag along an axis to select lines; drag its name to move it. "
        f"{' '.join(notes)}"
    )
    shade, note = Shade(score, metric.title), conditions(study.pairs[0])
    return ParallelChart(name, title, tuple(dimensions), shade, caption, note)


def _chosen_lines(study: Study) -> NDArray[np.int64]:
    """Rows to draw, worst score first, so that the best lie on top."""
    order = np.argsort(np.where(np.isfinite(study.score), -study.score, np.inf), kind="stable")
    if len(order) > MAX_LINES:
        first = np.union1d(study.front[: MAX_LINES // 2], order[: MAX_LINES // 4])
        rest = np.setdiff1d(order, first)
        others = np.random.default_rng(0).choice(rest, MAX_LINES - len(first), replace=False)
        order = order[np.isin(order, [*first, *others])]
    return order[::-1].copy()


def _dimension(study: Study, parameter: str, rows: NDArray[np.int64]) -> Dimension:
    label = parameter.removeprefix("regularizer.")
    if is_numeric(study.trials, parameter):
        values = numbers(study.trials, parameter)
        distinct = np.unique(values)
        few = distinct if len(distinct) <= MAX_TICKS else distinct[:0]
        if is_log(study, parameter, values):
            ticks = tuple((float(np.log10(v)), f"{v:g}") for v in few)
            ticks = ticks or log_ticks(values.min(), values.max())
            return Dimension(label, np.log10(values[rows]), ticks)
        return Dimension(label, values[rows], tuple((float(v), f"{v:g}") for v in few))
    texts = [format_value(value) for value in study.trials[parameter]]
    known = sorted(set(texts))
    codes = np.array([known.index(texts[row]) for row in rows], dtype=np.float64)
    return Dimension(label, codes, tuple((float(i), text) for i, text in enumerate(known)))


def importance_chart(study: Study) -> Chart | Missing:
    """PED-ANOVA importance of each parameter for each objective and for the score."""
    name, title = "importance", "Parameter importance"
    metrics = list(dict.fromkeys([*study.searched, study.score_name, *study.objectives]))
    found: dict[str, dict[str, float]] = {}
    reason = "no trial is complete"
    for metric in metrics:
        try:
            found[study.metrics[metric].title] = _importances(study, metric)
        except NoImportanceError as err:
            reason = str(err)
    if not found:
        return Missing(name, title, reason)
    parameters = list(next(iter(found.values())))[::-1]
    width = 0.8 / len(found)
    y: Array = np.arange(len(parameters), dtype=np.float64) + (len(found) - 1) * width / 2
    series = []
    for place, (label, shares) in enumerate(found.items()):
        x, color = np.array([shares[p] for p in parameters]), LINES[place % len(LINES)]
        series.append(Series(label, x, y - place * width, "bars", color, size=width))
    words = ". ".join(
        f"For {label}: " + ", ".join(f"{p} {v:.2f}" for p, v in list(shares.items())[:4])
        for label, shares in found.items()
    )
    caption = (
        "Optuna's PED-ANOVA: how differently the best tenth of the trials is distributed in each "
        f"parameter, as shares of 1. {words}. With few trials the order is a hint."
    )
    x_axis = AxisSpec("share of the importance", limits=(0.0, 1.0))
    panel = Panel("", x_axis, categories(parameters), tuple(series))
    return Chart(name, title, (panel,), caption, conditions(study.pairs[0]))


def _importances(study: Study, metric: str) -> dict[str, float]:
    values = study.values(metric)
    known = np.isfinite(values)
    trials, maximize = study.trials[known], study.metrics[metric].direction != "minimize"
    parameters, search = varying_parameters(trials), study.section("search")
    return importances(trials, values[known], parameters, search, maximize=maximize)
