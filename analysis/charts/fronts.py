"""The front of a search: its trials, the front with intervals, baselines and confirmed trials."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from analysis.charts.chart import AxisSpec, Chart, Missing, Panel, Series, Shade, not_empty
from analysis.charts.style import (
    BASELINE,
    CATEGORIES,
    INK,
    MUTED,
    TRIAL,
    Dash,
    Symbol,
    limits_of,
    log_ticks,
    point_size,
    shorten,
)
from analysis.charts.wording import baseline_text, conditions, interval_text, number
from analysis.findings.front_uncertainty import t_half_width
from analysis.findings.fronts import Axis, ParetoInfo
from analysis.findings.study import Study
from analysis.results.parameters import Array, ContinuousColor
from analysis.results.seed_groups import SeedGroup

BASELINE_SYMBOLS: tuple[Symbol, ...] = ("diamond", "triangle-up", "triangle-down", "cross")
CATEGORY_SYMBOLS: tuple[Symbol, ...] = ("circle", "square")


def front_chart(study: Study) -> Chart | Missing:
    """The front of a study: a panel per two of its first three objectives."""
    name, title = "pareto", "Pareto front"
    if not study.pairs:
        return Missing(name, title, "no trial is complete with the metrics of this split")
    panels = tuple(front_panel(pair, study.on_front, is_focused=True) for pair in study.pairs)
    caption = f"{_members_text(study)} {baseline_text(study)}"
    if len(study.pairs) > 1:
        caption += (
            " Staircases join the trials that no other beats in the two axes shown; rings mark the "
            f"front in all {len(study.objectives)} objectives."
        )
    if outside := _num_outside(panels):
        caption += (
            f" {outside} trial{'s lie' if outside > 1 else ' lies'} far outside the axes shown "
            "(Reset or Autoscale in the chart's toolbar shows all)."
        )
    if study.split != "test" and study.confirmation.candidates:
        caption += (
            " Confirmed trials are measured on test: see the table below, or --split test for "
            "their place in this chart."
        )
    note = f"{conditions(study.pairs[0])} {interval_text(study.pairs[0])}"
    return Chart(name, title, panels, caption, note)


def front_panel(
    info: ParetoInfo,
    on_front: NDArray[np.bool_] | None = None,
    *,
    model: Sequence[Series] = (),
    with_front: bool = True,
    is_focused: bool = False,
) -> Panel:
    """Trials, front, baselines and confirmed trials of one search in two metrics.

    Args:
        info: The search.
        on_front: (N,), the trials to ring if others than those of the front in these two metrics.
        model: Series to draw between the front and the baselines.
        with_front: False leaves the front and its intervals out.
        is_focused: Whether the axes may leave out trials far from the front and the baselines,
            which would squeeze everything else.
    """
    front = _front_series(info, info.on_front if on_front is None else on_front)
    others = [
        *model,
        *baseline_series(info.baselines),
        *baseline_series(info.fresh_baselines, "baseline, fresh seeds", "star"),
        *_confirmed_series(info),
    ]
    core = not_empty([*front, *others] if with_front else others)
    spread = core if is_focused else (*core, *trial_series(info))
    x_axis, y_axis = (
        axis_spec(axis, _limits(info.points[:, column], spread, column))
        for column, axis in enumerate(info.axes)
    )
    return Panel("", x_axis, y_axis, (*trial_series(info), *core))


def trial_series(info: ParetoInfo) -> tuple[Series, ...]:
    """All trials, coloured by a parameter; crosses miss a constraint."""
    color, size = info.color, point_size(len(info.points))
    if color is None:
        series = [points_of(info, info.feasible, "trial", TRIAL, size=size)]
    elif isinstance(color, ContinuousColor):
        shade = _shade(color)
        shade = shade._replace(values=shade.values[info.feasible])
        points = points_of(info, info.feasible, "trial", TRIAL, size=size)
        series = [points._replace(shade=shade)]
    else:
        series = []
        for code, value in enumerate(color.labels):
            rounds, place = divmod(code, len(CATEGORIES))
            label = f"{color.parameter} = {shorten(value)}"
            mask = info.feasible & (color.codes == code)
            look = CATEGORIES[place], CATEGORY_SYMBOLS[rounds]
            series.append(points_of(info, mask, label, *look, size=size))
    crosses = points_of(info, ~info.feasible, "misses the constraints", MUTED, "x", size=size)
    return not_empty([*series, crosses])


def points_of(
    info: ParetoInfo,
    mask: NDArray[np.bool_],
    label: str,
    color: str,
    symbol: Symbol = "circle",
    size: float = 8.0,
) -> Series:
    """The trials of a mask (N,) as points that can be pinned."""
    x, y = info.points[mask].T
    trials = info.table["trial"].to_numpy(dtype=np.int64)[mask]
    return Series(label, x, y, color=color, symbol=symbol, size=size, trials=trials)


def _shade(color: ContinuousColor) -> Shade:
    """A parameter's values on the scale that spreads them most evenly."""
    values = color.values
    if color.scale == "linear":
        return Shade(values, color.parameter)
    positive = values[values > 0]
    ticks = log_ticks(positive.min(), positive.max())
    zero = float(np.log10(positive.min())) - 1  # a decade below the smallest
    if color.scale == "symlog":
        ticks = ((zero, "0"), *ticks)
    logs = np.log10(values, out=np.full(len(values), zero), where=values > 0)
    return Shade(logs, color.parameter, ticks)


def staircase(
    points: Array,
    is_maximized: bool,
    label: str,
    color: str,
    symbol: Symbol = "none",
    dash: Dash = "solid",
) -> Series:
    """The boundary of what a front (F, 2) attains, through its points in order of x and y.

    Between two of them the reachable y is that of the point with the better x. Without a symbol
    the line does not react to the mouse.
    """
    x, y = points[np.lexsort((points[:, 1], points[:, 0]))].T
    line = Series(label, x, y, "line", color, symbol, dash, reacts=symbol != "none")
    return line._replace(steps="before" if is_maximized else "after")


def _front_series(info: ParetoInfo, on_front: NDArray[np.bool_]) -> list[Series]:
    """The front as a staircase, ringed, with its intervals."""
    order = np.lexsort((info.points[:, 1], info.points[:, 0]))
    ringed = order[on_front[order]]
    rings = staircase(info.points[ringed], info.x.maximize, "Pareto front", INK, "circle-open")
    rings = rings._replace(
        size=point_size(len(info.points)) + 5,
        trials=info.table["trial"].to_numpy(dtype=np.int64)[ringed],
        x_bounds=info.intervals[:, ringed, 0],
        y_bounds=info.intervals[:, ringed, 1],
    )
    if (on_front == info.on_front).all():
        return [rings]
    line = staircase(info.points[info.on_front], info.x.maximize, "front of these two", INK)
    return [line, rings._replace(kind="points")]


def baseline_series(
    groups: Sequence[SeedGroup], label: str = "baseline", symbol: Symbol | None = None
) -> list[Series]:
    """Baselines with their intervals and single seeds; of more than four the first, means else."""
    series = []
    shown = groups[:1] if len(groups) > len(BASELINE_SYMBOLS) else groups
    for group, own in zip(shown, BASELINE_SYMBOLS, strict=False):
        name = label if len(groups) == 1 or not group.name else f"{label} {group.name[:6]}"
        series.append(group_series([group], name, BASELINE, symbol or own))
        if len(group.seeds) > 1:
            name = "baseline, single seeds"
            x, y = group.points.T
            series.append(Series(name, x, y, color=BASELINE, symbol="x", size=7))
    if rest := groups[len(shown) :]:
        x, y = np.array([group.mean for group in rest]).T
        name = f"{len(rest)} other {label}s, mean"
        series.append(Series(name, x, y, color=BASELINE, symbol="square-open", size=7))
    return series


def group_series(
    groups: Sequence[SeedGroup], label: str, color: str, symbol: Symbol = "diamond"
) -> Series:
    """Means over seeds with their 95 % intervals by Student's t."""
    means = np.array([group.mean for group in groups])
    bounds = np.full((2, *means.shape), np.nan)
    for place, group in enumerate(groups):
        n = len(group.seeds)
        if group.std is not None:
            half = t_half_width(n) * group.std / np.sqrt(n)
            bounds[:, place] = group.mean - half, group.mean + half
    counts = sorted({len(group.seeds) for group in groups})
    seeds = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
    of = "1 seed" if seeds == "1" else f"mean of {seeds} seeds"
    x, y = means.T
    return Series(
        f"{label}, {of}",
        x,
        y,
        color=color,
        symbol=symbol,
        size=13,
        x_bounds=bounds[..., 0],
        y_bounds=bounds[..., 1],
    )


def _confirmed_series(info: ParetoInfo) -> list[Series]:
    """The confirmed trials, numbered."""
    if not info.confirmed:
        return []
    # They often lie close together: from the top, the backends put each text on another side.
    groups = sorted(info.confirmed, key=lambda group: -group.mean[1])
    series = group_series(groups, "confirmed", INK, "star")
    trials = np.array([int(group.name) for group in groups])
    return [series._replace(trials=trials, texts=tuple(f"trial {n}" for n in trials))]


def axis_spec(axis: Axis, limits: tuple[float, float] | None = None) -> AxisSpec:
    """An axis of a metric, with the split and which direction is better.

    Accuracies end at 0 and 1, wherever an interval ends.
    """
    if axis.is_accuracy and limits is not None:
        limits = max(limits[0], -0.01), min(limits[1], 1.01)
    hint = "" if axis.maximize else ", smaller is better"
    return AxisSpec(f"{axis.metric.title} ({axis.split}{hint})", limits=limits)


def _limits(values: Array, core: Sequence[Series], column: int) -> tuple[float, float] | None:
    """Limits that show the core, and what lies no farther from it than it is wide.

    Args:
        values: Of all trials.
        core: Series to show.
        column: 0 for x, 1 for y.
    """
    known = np.concatenate([(series.x, series.y)[column] for series in core] or [values])
    known = known[np.isfinite(known)]
    bounds = [(series.x_bounds, series.y_bounds)[column] for series in core]
    ends = np.concatenate([own.ravel() for own in bounds if own is not None] or [known])
    span = float(np.ptp(known)) or np.inf
    low, high = known.min() - span, known.max() + span
    near = values[(values >= low) & (values <= high)]
    return limits_of(np.concatenate([known, near, ends.clip(low, high)]))


def _num_outside(panels: Sequence[Panel]) -> int:
    """Trials that some panel's limits leave out."""
    outside: set[int] = set()
    for panel in panels:
        for series in panel.series:
            if series.trials is None or panel.x.limits is None or panel.y.limits is None:
                continue
            inside = (series.x >= panel.x.limits[0]) & (series.x <= panel.x.limits[1])
            inside &= (series.y >= panel.y.limits[0]) & (series.y <= panel.y.limits[1])
            outside |= {int(trial) for trial in series.trials[~inside]}
    return len(outside)


def _members_text(study: Study) -> str:
    front = study.front
    if not len(front):
        return "No trial meets the search's constraints, so there is no front."
    best = "; ".join(
        f"trial {study.trials['trial'].iloc[row]}: "
        + ", ".join(
            f"{axis.metric.title} {number(study.points[row, column])}"
            for column, axis in enumerate(study.axes)
        )
        for row in front[:5]
    )
    more = f" (the best 5 of {len(front)} by {study.score_name.replace('_', ' ')})"
    return f"On the front: {best}{more if len(front) > 5 else ''}."
