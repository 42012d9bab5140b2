"""The fronts of several studies in one picture."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.compare.comparison import Comparison, Study
from analysis.pareto.picture import (
    BASELINE_COLOR,
    BASELINE_MARKERS,
    DPI,
    INFEASIBLE_MARKER,
    SIZE_INCHES,
    add_legend,
    axis_label,
    draw_baselines,
    draw_group,
    point_size,
    shorten,
    style_axes,
)
from analysis.pareto.text import seeds_text
from analysis.poster.layout import LINE_COLORS, MARKERS, STYLES


def draw_comparison(comparison: Comparison) -> Figure:
    """Each study's trials, its front as a staircase, and the baselines.

    Studies differ in colour and marker, beyond five in the style of the line. A baseline has the
    colour of its study, or is vermilion where several share it.

    Returns:
        A figure of 7.2 x 5.6 inches that belongs to no pyplot state.
    """
    figure = Figure(figsize=SIZE_INCHES, dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    for number, study in enumerate(comparison.studies):
        rounds, place = divmod(number, len(LINE_COLORS))
        color, marker = LINE_COLORS[place], MARKERS[place]
        _draw_trials(axes, study, color, marker)
        _draw_front(axes, study, color, marker, STYLES[rounds])
    if comparison.same_baselines:
        draw_baselines(axes, tuple(baseline.group for baseline in comparison.baselines))
    else:
        _draw_different_baselines(axes, comparison)
    _describe(axes, comparison)
    add_legend(figure, axes)
    return figure


def _draw_trials(axes: Axes, study: Study, color: str, marker: str) -> None:
    info = study.info
    for mask, symbol in ((info.feasible, marker), (~info.feasible, INFEASIBLE_MARKER)):
        points = info.points[mask & ~info.on_front]
        axes.scatter(
            points[:, 0],
            points[:, 1],
            s=0.5 * point_size(len(info.points)),
            marker=symbol,
            color=color,
            alpha=0.35,
            linewidths=1.0 if symbol == INFEASIBLE_MARKER else 0.0,
            zorder=2,
        )


def _draw_front(axes: Axes, study: Study, color: str, marker: str, style: str) -> None:
    info = study.info
    points = info.points[info.on_front]
    points = points[np.lexsort((points[:, 1], points[:, 0]))]
    # Between two points of the front, the reachable y is that of the point with the better x.
    axes.plot(
        *points.T,
        color=color,
        linestyle=style,
        linewidth=1.4,
        drawstyle="steps-pre" if info.x.maximize else "steps-post",
        marker=marker,
        markersize=6.5,
        markeredgecolor="white",
        markeredgewidth=0.6,
        label=f"{shorten(study.label)}: front of {info.feasible.sum()} trials",
        zorder=3,
    )


def _draw_different_baselines(axes: Axes, comparison: Comparison) -> None:
    """In the colour of their study; vermilion where several studies, but not all, have one."""
    drawn: set[str] = set()
    for group, places in comparison.baselines:
        color = LINE_COLORS[places[0] % len(LINE_COLORS)] if len(places) == 1 else BASELINE_COLOR
        names = ", ".join(shorten(comparison.studies[place].label) for place in places)
        label = f"{names}: baseline, {seeds_text(group)}"
        shown = label if label not in drawn else "_baseline"
        draw_group(axes, group, color, BASELINE_MARKERS[0], shown)
        drawn.add(label)


def _describe(axes: Axes, comparison: Comparison) -> None:
    info = comparison.studies[0].info
    axes.set_xlabel(axis_label(info.x, info))
    axes.set_ylabel(axis_label(info.y, info))
    axes.set_title(f"Pareto fronts of {len(comparison.studies)} studies", fontsize=10)
    axes.margins(0.08)
    style_axes(axes)
