"""The fronts of several studies as one chart."""

from __future__ import annotations

import numpy as np

from analysis.charts.chart import Chart, Panel, Series, not_empty, values_in
from analysis.charts.fronts import axis_spec, baseline_series, group_series, points_of, staircase
from analysis.charts.style import BASELINE, limits_of, look, point_size, shorten
from analysis.charts.wording import images_text
from analysis.compare.comparison import Comparison, Study
from simreg_core.errors import counted


def comparison_chart(comparison: Comparison) -> Chart:
    """Each study's measured trials, its front as a staircase, and the baselines.

    Studies differ in colour and marker, beyond five in the style of the line. A baseline has the
    colour of its study, or is vermilion where several share it.
    """
    series: list[Series] = []
    for number, study in enumerate(comparison.studies):
        series += _study_series(study, number)
    if comparison.same_baselines:
        series += baseline_series([group for group, _ in comparison.baselines])
    else:
        series += _different_baselines(comparison)
    shown = not_empty(series)
    x_axis, y_axis = (
        axis_spec(axis, limits_of(values_in(shown, column)))
        for column, axis in enumerate(comparison.axes)
    )
    x, y = comparison.axes
    note = (
        f"{x.split.capitalize()} split, {images_text(comparison.studies[0].info.num_images)}. "
        "Faint: measured values of trials that are not on the front (x: they miss the "
        "constraints). Bars: 95 % intervals of means over seeds (Student's t)."
    )
    name = f"compare_{x.metric.name}_{y.metric.name}_{x.split}{'_raw' * comparison.is_raw}"
    name = name.replace(":", "_")  # of metrics such as module:function; not every disk takes it
    how = "Modelled Pareto fronts" if comparison.is_modelled else "Pareto fronts"
    title = f"{how} of {len(comparison.studies)} studies"
    return Chart(name, title, (Panel("", x_axis, y_axis, shown),), "", note)


def _study_series(study: Study, number: int) -> list[Series]:
    info, front, own = study.info, study.front, look(number)
    label = f"{shorten(study.label)}: front of {counted(int(front.feasible.sum()), 'trial')}"
    on_front = np.isin(info.trials, front.trials[front.on_front])
    behind, infeasible = info.feasible & ~on_front, ~info.feasible & ~on_front
    size = 0.8 * point_size(len(info.points))
    faint = (
        points_of(info, behind, f"{label}, others", own.color, own.symbol, size=size),
        points_of(info, infeasible, f"{label}, infeasible", own.color, "x", size=size),
    )
    return [
        *(points._replace(opacity=0.4, in_legend=False) for points in faint),
        staircase(front.points[front.on_front], info.x.maximize, label, *own),
    ]


def _different_baselines(comparison: Comparison) -> list[Series]:
    """In the colour of their study; vermilion where several studies, but not all, have one."""
    series = []
    for group, places in comparison.baselines:
        color = look(places[0]).color if len(places) == 1 else BASELINE
        names = ", ".join(shorten(comparison.studies[place].label) for place in places)
        series.append(group_series([group], f"{names}: baseline", color))
    return series
