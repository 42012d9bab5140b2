"""The front of a search: its trials, the front with intervals, baselines and confirmed trials."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from analysis.charts.chart import (
    AxisSpec,
    Chart,
    Missing,
    Panel,
    Series,
    Shade,
    bounds_in,
    not_empty,
    scatter,
    values_in,
)
from analysis.charts.modelled_front import model_caption, model_series
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
from analysis.charts.wording import (
    axis_values,
    baseline_text,
    conditions,
    interval_text,
    range_text,
)
from analysis.findings.front_uncertainty import t_half_widths
from analysis.findings.fronts import Axis, ParetoInfo, by_axes
from analysis.findings.study import Study
from analysis.results.load import Array
from analysis.results.parameters import CategoricalColor, ContinuousColor
from analysis.results.seed_groups import SeedGroup
from simreg_core.errors import counted
from simreg_core.results.delivered import Delivered

BASELINE_SYMBOLS: tuple[Symbol, ...] = ("diamond", "triangle-up", "triangle-down", "cross")
_FAINT = 0.45  # opacity of measured values beside a modelled front
CATEGORY_SYMBOLS: tuple[Symbol, ...] = ("circle", "square")


def front_chart(study: Study) -> Chart | Missing:
    """The front of a study: a panel per two of its first three objectives."""
    name, title = "pareto", "Pareto front"
    if not study.pairs:
        return Missing(name, title, "no trial is complete with the metrics of this split")
    found, places = study.delivered, combinations(range(3), 2)
    panels = tuple(
        front_panel(pair, found, columns, is_focused=True)
        for pair, columns in zip(study.pairs, places, strict=False)
    )
    caption = f"{_members_text(study)} {baseline_text(study)} {model_caption(found)}"
    if len(study.pairs) > 1:
        caption += (
            " Staircases join the trials that no other beats in the two axes shown; marks show the "
            f"front in all {len(study.objectives)} objectives."
        )
    if outside := num_outside(panels):
        caption += (
            f" {counted(outside, 'trial')} lie{'s' * (outside == 1)} far outside the axes shown "
            "(Reset or Autoscale in the chart's toolbar shows all)."
        )
    if study.pairs[0].confirmed:
        caption += " Stars are measured on the test split, with fresh seeds."
    return Chart(name, title, panels, caption, front_note(study.pairs[0], found))


def front_note(info: ParetoInfo, found: Delivered | None) -> str:
    """The conditions of a front and what its intervals are."""
    bars = interval_text(info)
    if found is not None and found.is_modelled:
        bars = (
            "Squares: modelled means over seeds with 95 % intervals. Other bars: 95 % intervals of "
            "means over seeds (Student's t)."
        )
    return f"{conditions(info)} {bars}"


def front_panel(
    info: ParetoInfo,
    found: Delivered | None = None,
    columns: tuple[int, int] = (0, 1),
    *,
    is_focused: bool = False,
) -> Panel:
    """Trials, front, baselines and confirmed trials of one search in two metrics.

    Args:
        info: The search.
        found: The front to mark; None: that of the measured values of these two metrics.
        columns: Places of the two metrics in ``found``.
        is_focused: Whether the axes may leave out trials far from the front and the baselines.
    """
    trials = trial_series(info)
    if found is not None and found.is_modelled:
        front = model_series(found, columns) if found.on_front.any() else []
        trials = tuple(series._replace(opacity=_FAINT) for series in trials)
    else:
        front = _front_series(info, info.on_front if found is None else found.on_front)
    core = not_empty(
        [
            *front,
            *baseline_series(info.baselines),
            *baseline_series(info.fresh_baselines, "baseline on test, fresh seeds", "star"),
            *_confirmed_series(info),
        ]
    )
    spread = core if is_focused else (*core, *trials)
    x_axis, y_axis = (
        axis_spec(axis, _limits(info.points[:, column], spread, column))
        for column, axis in enumerate(info.axes)
    )
    return Panel("", x_axis, y_axis, (*trials, *core))


def trial_series(info: ParetoInfo) -> tuple[Series, ...]:
    """All trials, coloured by a parameter; crosses miss a constraint."""
    color, size = info.color, point_size(len(info.points))
    series = []
    if isinstance(color, CategoricalColor):
        for code, value in enumerate(color.labels):
            rounds, place = divmod(code, len(CATEGORIES))
            label = f"{color.parameter} = {shorten(value)}"
            mask = info.feasible & (color.codes == code)
            look = CATEGORIES[place], CATEGORY_SYMBOLS[rounds]
            series.append(points_of(info, mask, label, *look, size=size))
    else:
        points = points_of(info, info.feasible, "trial", TRIAL, size=size)
        shade = None if color is None else _shade(color, info.feasible)
        series.append(points._replace(shade=shade))
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
    points, trials = info.points[mask], info.trials[mask]
    return scatter(label, points, color=color, symbol=symbol, size=size, trials=trials)


def _shade(color: ContinuousColor, mask: NDArray[np.bool_]) -> Shade:
    """A parameter's values, for a mask (N,), on the scale that spreads all most evenly."""
    values = color.values
    if color.scale == "linear":
        return Shade(values[mask], color.parameter)
    positive = values[values > 0]
    ticks = log_ticks(positive.min(), positive.max())
    zero = float(np.log10(positive.min())) - 1  # a decade below the smallest
    if color.scale == "symlog":
        ticks = ((zero, "0"), *ticks)
    logs = np.log10(values, out=np.full(len(values), zero), where=values > 0)
    return Shade(logs[mask], color.parameter, ticks)


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
    ringed = by_axes(info.points, on_front)
    rings = staircase(info.points[ringed], info.x.maximize, "Pareto front", INK, "circle-open")
    rings = rings._replace(
        size=point_size(len(info.points)) + 5,
        trials=info.trials[ringed],
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
    """Baselines with intervals and single seeds; of more than four only the first, then means.

    With a ``symbol`` of their own, they are drawn without single seeds, to be told from others.
    """
    series = []
    shown = groups[:1] if len(groups) > len(BASELINE_SYMBOLS) else groups
    for group, own in zip(shown, BASELINE_SYMBOLS, strict=False):
        name = label if len(groups) == 1 or not group.name else f"{label} {group.name[:6]}"
        series.append(group_series([group], name, BASELINE, symbol or own))
        if len(group.seeds) > 1 and symbol is None:
            name = f"{label}, single seeds"
            series.append(scatter(name, group.points, color=BASELINE, symbol="x", size=7))
    if rest := groups[len(shown) :]:
        means = np.array([group.mean for group in rest])
        name = f"{len(rest)} other {label}s, mean"
        series.append(scatter(name, means, color=BASELINE, symbol="square-open", size=7))
    return series


def group_series(
    groups: Sequence[SeedGroup], label: str, color: str, symbol: Symbol = "diamond"
) -> Series:
    """Means over seeds with their 95 % intervals by Student's t."""
    means = np.array([group.mean for group in groups])
    counts = [len(group.seeds) for group in groups]
    deviations = np.array([group.std for group in groups])
    halves = t_half_widths(counts)[:, None] * deviations / np.sqrt(counts)[:, None]
    of = "1 seed" if max(counts) == 1 else f"mean of {range_text(counts)} seeds"
    bounds = np.stack([means - halves, means + halves])
    return scatter(f"{label}, {of}", means, bounds, color=color, symbol=symbol, size=13)


def _confirmed_series(info: ParetoInfo) -> list[Series]:
    """The confirmed trials, numbered."""
    if not info.confirmed:
        return []
    # They often lie close together: the backends put the texts, from the top, on different sides.
    groups = sorted(info.confirmed, key=lambda group: -group.mean[1])
    series = group_series(groups, "confirmed on test", INK, "star")
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
    """Limits of x (column 0) or y (column 1) that show the core, and which of all trials' values.

    Those lie no farther from the core than it is wide.
    """
    known = values_in(core, column) if core else values
    known, ends = known[np.isfinite(known)], bounds_in(core, column)
    span = float(np.ptp(known)) or np.inf
    low, high = known.min() - span, known.max() + span
    near = values[(values >= low) & (values <= high)]
    return limits_of(np.concatenate([known, near, ends.clip(low, high)]))


def num_outside(panels: Sequence[Panel]) -> int:
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
        return f"{study.delivered.none_feasible()}, so there is no front."
    best = "; ".join(
        f"trial {study.numbers[row]}: {axis_values(study.axes, study.delivered.mean[row])}"
        for row in front[:5]
    )
    more = f" (the best 5 of {len(front)} by {study.score_name.replace('_', ' ')})"
    return f"On the front: {best}{more if len(front) > 5 else ''}."
