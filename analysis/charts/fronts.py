"""Charts of the front: its uncertainty, its probable members, what beats the baseline."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from analysis.charts.chart import (
    BASELINE,
    INK,
    MUTED,
    TRIAL,
    AxisSpec,
    Chart,
    Missing,
    Panel,
    Series,
    Symbol,
    limits_of,
    point_size,
    staircase,
)
from analysis.charts.wording import baseline_words, conditions, interval_words, noise_words, number
from analysis.findings.front_uncertainty import attainment, t_half_width
from analysis.findings.fronts import Axis, ParetoInfo
from analysis.findings.study import Study, intervals
from analysis.results.parameters import Array
from analysis.results.seed_groups import SeedGroup
from simreg_core.statistics.pareto import hypervolume, non_dominated

MAX_PROBABLE = 30
AREA_DRAWS = 1000
AREA_DRAWS_OF_MANY = 300
_MANY = 2000


def front_chart(study: Study) -> Chart | Missing:
    """Every trial, the front with intervals, baseline, confirmed trials; a panel per two axes."""
    name, title = "pareto", "Pareto front"
    if not study.pairs:
        return Missing(name, title, "no trial is complete with the figures of this split")
    bounds = intervals(study)
    places = combinations(range(min(len(study.objectives), 3)), 2)
    panels = tuple(
        _front_panel(study, pair, place, bounds)
        for pair, place in zip(study.pairs, places, strict=True)
    )
    outside = _num_outside(panels)
    front = study.front
    best = "; ".join(
        f"trial {study.trials['trial'].iloc[row]}: "
        + ", ".join(
            f"{axis.metric.label} {number(study.points[row, column])}"
            for column, axis in enumerate(study.axes)
        )
        for row in front[:5]
    )
    more = f" (the best 5 of {len(front)} by {study.score_name.replace('_', ' ')})"
    members = (
        f"On the front: {best}{more if len(front) > 5 else ''}."
        if len(front)
        else "No trial meets the search's constraints: there is no front."
    )
    caption = (
        f"{conditions(study)} {members} {interval_words(study)} {baseline_words(study)}"
        + (
            " Staircases join trials that no other beats in the two axes shown; rings mark the"
            f" front in all {len(study.objectives)} objectives."
            if len(study.objectives) > 2
            else ""
        )
        + _outside_words(outside)
        + _confirmed_words(study)
        + " Hover shows a trial's configuration, a click pins it."
    )
    return Chart(name, title, panels, caption)


def _confirmed_words(study: Study) -> str:
    """Where the confirmed trials are drawn, which are measured on test only."""
    if study.split == "test" or not study.confirmation.candidates:
        return ""
    return " Confirmed trials, measured on test, are in the table below and drawn by --split test."


def _outside_words(outside: int) -> str:
    if not outside:
        return ""
    which = "1 trial lies" if outside == 1 else f"{outside} trials lie"
    return f" {which} far outside the axes shown (Reset or Autoscale in the chart's bar shows all)."


def _num_outside(panels: Sequence[Panel]) -> int:
    """Trials that some panel's limits leave out."""
    left_out: set[int] = set()
    for panel in panels:
        for series in panel.series:
            if series.trials is None or panel.x.limits is None or panel.y.limits is None:
                continue
            inside = (series.x >= panel.x.limits[0]) & (series.x <= panel.x.limits[1])
            inside &= (series.y >= panel.y.limits[0]) & (series.y <= panel.y.limits[1])
            left_out |= {int(trial) for trial in series.trials[~inside]}
    return len(left_out)


def _front_panel(study: Study, pair: ParetoInfo, place: tuple[int, int], bounds: Array) -> Panel:
    first, second = place
    numbers = study.trials["trial"].to_numpy(dtype=np.int64)
    points = study.points[:, [first, second]]
    front = study.on_front
    series = [_staircase(study, pair)] if pair.on_front.any() else []
    series += [
        trial_points("trial", points, study.feasible & ~front, numbers, TRIAL, "circle"),
        trial_points("misses the constraints", points, ~study.feasible, numbers, MUTED, "x"),
        trial_points("on the front", points, front, numbers, INK, "circle-open", size=12)._replace(
            x_bounds=bounds[:, front, first], y_bounds=bounds[:, front, second]
        ),
    ]
    groups = [*_baseline_series(pair.baselines, "baseline", "diamond")]
    if pair.split == "test":
        groups += _baseline_series(pair.fresh_baselines, "baseline, fresh seeds", "star")
        groups += [
            _group_series(group, f"trial {group.name} confirmed", INK, "star")
            for group in pair.confirmed
        ]
    x_limits, y_limits = (
        _focus(
            points[:, i],
            [*points[front, i], *_reach(groups, i)],
            np.append(bounds[:, front, place[i]].ravel(), _reach_of_intervals(groups, i)),
        )
        for i in (0, 1)
    )
    return Panel(
        "",
        axis_spec(pair.x, x_limits),
        axis_spec(pair.y, y_limits),
        tuple(s for s in [*series, *groups] if len(s.x)),
    )


def _reach(groups: Sequence[Series], column: int) -> list[float]:
    """Coordinates of everything in some series."""
    return [float(value) for group in groups for value in (group.x, group.y)[column]]


def _reach_of_intervals(groups: Sequence[Series], column: int) -> list[float]:
    """Ends of every interval in some series."""
    bounds = [(group.x_bounds, group.y_bounds)[column] for group in groups]
    return [float(end) for ends in bounds if ends is not None for end in ends.ravel()]


def _focus(values: Array, core: Sequence[float], bounds: Array) -> tuple[float, float] | None:
    """Limits that show the core (front, baseline, confirmed) with intervals, and what is near it.

    Trials that lie farther off than the core is wide would squeeze it.
    """
    known = np.array([*core, *bounds[np.isfinite(bounds)]])
    if not len(core):
        return limits_of(values)
    span = float(np.ptp(core)) or np.inf
    low, high = min(core) - span, max(core) + span
    near = values[(values >= low) & (values <= high)]
    return limits_of(np.concatenate([known, near]))


def _staircase(study: Study, pair: ParetoInfo) -> Series:
    x, y = staircase(pair.points[pair.on_front], (pair.x.maximize, pair.y.maximize))
    label = "front" if len(study.objectives) == 2 else "front of these two"
    return Series(label, x, y, "line", INK, reacts=False)


def trial_points(
    label: str,
    points: Array,
    mask: NDArray[np.bool_],
    numbers: NDArray[np.int64],
    color: str,
    symbol: Symbol,
    size: float | None = None,
) -> Series:
    """The trials of a mask as points that can be pinned; ``points`` is (N, 2)."""
    return Series(
        label,
        points[mask, 0],
        points[mask, 1],
        color=color,
        symbol=symbol,
        size=size or point_size(len(points)),
        trials=numbers[mask],
    )


def _baseline_series(groups: Sequence[SeedGroup], label: str, symbol: Symbol) -> list[Series]:
    """Mean with its interval, and the single seeds, of the first baseline; means of the others."""
    if not groups:
        return []
    first = _group_series(groups[0], f"{label}, mean", BASELINE, symbol)
    seeds = Series(
        f"{label}, single seeds",
        groups[0].points[:, 0],
        groups[0].points[:, 1],
        color=BASELINE,
        symbol="x",
        size=7,
    )
    others = np.array([group.mean for group in groups[1:]]).reshape(-1, 2)
    rest = Series(
        f"other {label}s", others[:, 0], others[:, 1], color=BASELINE, symbol="square", size=6
    )
    return [series for series in (first, seeds, rest) if len(series.x)]


def _group_series(group: SeedGroup, label: str, color: str, symbol: Symbol) -> Series:
    """A mean over seeds with its 95 % interval by Student's t."""
    x, y = group.mean[:1], group.mean[1:]
    series = Series(label, x, y, color=color, symbol=symbol, size=13)
    if group.std is None:
        return series
    half = t_half_width(len(group.seeds)) * group.std / np.sqrt(len(group.seeds))
    return series._replace(
        x_bounds=np.stack([x - half[0], x + half[0]]), y_bounds=np.stack([y - half[1], y + half[1]])
    )


def axis_spec(axis: Axis, limits: tuple[float, float] | None = None) -> AxisSpec:
    """An axis of a metric, with the split and which direction is better.

    Accuracies end at 1, wherever an interval by a normal law or Student's t ends.
    """
    if axis.is_accuracy and limits is not None:
        limits = limits[0], min(limits[1], 1.01)
    hint = "" if axis.maximize else ", smaller is better"
    return AxisSpec(f"{axis.metric.label} ({axis.split}{hint})", limits=limits)


def probability_chart(study: Study) -> Chart | Missing:
    """How often each trial is on the front when noise is drawn anew."""
    name, title = "probability", "Probability of being on the front"
    if not study.feasible.any():
        return Missing(name, title, "no usable trial meets the constraints")
    rows = np.argsort(-study.probability, kind="stable")[:MAX_PROBABLE]
    rows = rows[(study.probability[rows] > 0) | study.on_front[rows]][::-1]
    numbers = study.trials["trial"].to_numpy(dtype=np.int64)[rows]
    y = np.arange(len(rows), dtype=np.float64)
    series = [
        Series(label, study.probability[rows][mask], y[mask], "bars", color, trials=numbers[mask])
        for label, color, mask in (
            ("on the observed front", TRIAL, study.on_front[rows]),
            ("not on it", MUTED, ~study.on_front[rows]),
        )
    ]
    sure = int((study.probability >= 0.95).sum())
    top = ", ".join(
        f"trial {numbers[i]} {study.probability[rows[i]]:.2f}"
        for i in range(len(rows) - 1, max(len(rows) - 6, -1), -1)
    )
    caption = (
        f"Share of {study.draws} draws (seed 0) of every trial's noise in which it is on the front "
        f"of all {int(study.feasible.sum())} trials. {noise_words()} Highest: {top}. "
        f"{sure} of {len(study.points)} trials reach 0.95."
        + (f" The {len(rows)} most probable are shown." if len(study.points) > len(rows) else "")
    )
    panel = Panel(
        "",
        AxisSpec("probability", limits=(0.0, 1.0)),
        AxisSpec(
            "",
            limits=(-0.6, len(rows) - 0.4),
            ticks=tuple((float(i), f"trial {n}") for i, n in enumerate(numbers)),
        ),
        tuple(s for s in series if len(s.x)),
    )
    return Chart(name, title, (panel,), caption)


def attainment_chart(study: Study) -> Chart | Missing:
    """What the front of the first two objectives attains, and what of it beats the baseline."""
    name, title = "attainment", "Attainment against the baseline"
    if not study.feasible.any():
        return Missing(name, title, "no usable trial meets the constraints")
    if study.baseline is None or not np.isfinite(study.baseline[0][:2]).all():
        return Missing(name, title, "there are no curves of a baseline that give both metrics")
    mean, std = study.baseline[0][:2], study.baseline[1][:2]
    pair = study.pairs[0]
    maximize = (pair.x.maximize, pair.y.maximize)
    points, noise = study.points[study.feasible, :2], study.noise[study.feasible, :2]
    draws = AREA_DRAWS if len(points) <= _MANY else AREA_DRAWS_OF_MANY
    error = std / np.sqrt(study.baseline[2])
    found = attainment(points, noise, maximize, (mean, error), draws)
    area = hypervolume(points, mean, maximize)
    low, median, high = np.quantile(found.areas, [0.05, 0.5, 0.95])
    x, y = staircase(points[non_dominated(points, maximize)], maximize)
    near = limits_of(np.append(x, mean[0])), limits_of(np.append(y, mean[1]), 0.15)
    known = np.isfinite(found.quantiles[0]) & np.isfinite(found.quantiles[2])
    panel = Panel(
        "",
        axis_spec(pair.x, near[0]),
        axis_spec(pair.y, None),
        (
            Series(
                "5 % to 95 % of draws",
                found.grid[known],
                found.quantiles[1, known],
                "band",
                TRIAL,
                y_bounds=found.quantiles[::2, known],
            ),
            Series("median of draws", found.grid, found.quantiles[1], "line", TRIAL, dash=True),
            Series("observed", x, y, "line", INK),
            *_baseline_series(pair.baselines[:1], "baseline", "diamond"),
        ),
    )
    others = (
        f" (the other {len(study.objectives) - 2} of the objectives left out of account)"
        if len(study.objectives) > 2
        else ""
    )
    caption = (
        f"The best {pair.y.metric.label} that is attained together with each "
        f"{pair.x.metric.label}{others}. The observed front attains an area of {number(area, 5)} "
        f"beyond the baseline's mean in both; over {draws} draws of the noise (seed 0; the "
        f"baseline's, too) the area is {number(low, 5)} to {number(high, 5)} (5 % to 95 %, median "
        f"{number(median, 5)}). {noise_words()} Draws add noise to figures that carry it already, "
        f"so the band lies too high: its width is what tells. {conditions(study)}"
    )
    return Chart(name, title, (panel,), caption)
