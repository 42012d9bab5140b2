"""What a chart shows, as plain arrays.

The backends (:mod:`analysis.charts.plotly_backend`, :mod:`analysis.charts.matplotlib_backend`)
draw it and compute nothing. Colours are ``#RRGGBB`` or a role (``ink``, ``muted``) that each theme
fills.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.charts.style import TRIAL, Dash, Look, Symbol
from analysis.results.load import Array

Ticks = tuple[tuple[float, str], ...]
"""Position and text; empty: the backend chooses."""


class Shade(NamedTuple):
    """Numbers that colour points, explained by a colour bar."""

    values: Array
    """(N,), NaN is drawn muted."""
    label: str
    ticks: Ticks = ()


class Series(NamedTuple):
    """One entry of the legend in one panel; N points. Later series are drawn on top."""

    label: str
    x: Array
    y: Array
    kind: Literal["points", "line", "band", "bars"] = "points"
    """``band`` fills between ``y_bounds``; ``bars`` are horizontal, x long at y."""
    color: str = TRIAL
    symbol: Symbol = "circle"
    dash: Dash = "solid"
    size: float = 8.0
    """Diameter of the markers in pixels; of bars their height in units of y."""
    steps: Literal["none", "before", "after"] = "none"
    """A line as a staircase: y of a point holds before its x, or after it."""
    trials: NDArray[np.int64] | None = None
    """(N,), the trial of each point; such points can be pinned."""
    x_bounds: Array | None = None
    """(2, N), the ends of an interval; NaN for points without one."""
    y_bounds: Array | None = None
    shade: Shade | None = None
    texts: tuple[str, ...] = ()
    """(N,), drawn beside the points."""
    opacity: float = 1.0
    in_legend: bool = True
    reacts: bool = True
    """False: hovering shows nothing, so that the points on a line are shown instead of it."""


class AxisSpec(NamedTuple):
    """One axis of a panel."""

    label: str
    is_log: bool = False
    limits: tuple[float, float] | None = None
    """In the axis's units; None: as the series need. May descend."""
    ticks: Ticks = ()


class Panel(NamedTuple):
    """One pair of axes. A y axis with ticks of its own lists categories."""

    title: str
    x: AxisSpec
    y: AxisSpec
    series: tuple[Series, ...]


class Chart(NamedTuple):
    """One figure."""

    name: str
    """Stem of its files, and its anchor in a page."""
    title: str
    panels: tuple[Panel, ...]
    caption: str
    """What it shows, with the numbers that matter, in sentences; empty if ``note`` suffices."""
    note: str
    """The conditions of its numbers, drawn below a picture and appended to the caption."""


class Dimension(NamedTuple):
    """One axis of parallel coordinates."""

    label: str
    values: Array
    """(N,), logarithms if the parameter is searched on a logarithmic scale."""
    ticks: Ticks = ()


class ParallelChart(NamedTuple):
    """Trials as lines across several axes."""

    name: str
    title: str
    dimensions: tuple[Dimension, ...]
    shade: Shade
    """(N,) finite."""
    caption: str
    note: str


class Missing(NamedTuple):
    """A figure that cannot be drawn, and why."""

    name: str
    title: str
    reason: str


Figure = Chart | ParallelChart | Missing


def scatter(label: str, points: Array, bounds: Array | None = None, **options: Any) -> Series:
    """Points (N, 2) with intervals that end at ``bounds`` (2, N, 2); options of a series."""
    if bounds is not None:
        options |= {"x_bounds": bounds[..., 0], "y_bounds": bounds[..., 1]}
    return Series(label, *points.T, **options)


def mean_line(label: str, x: Array, mean: Array, std: Array, look: Look) -> list[Series]:
    """A line on a band of ± one SD where that is known; nothing if there are no points."""
    known = np.isfinite(std)
    band = Series(f"{label} ± SD", x[known], mean[known], "band", look.color, in_legend=False)
    band = band._replace(y_bounds=np.stack([mean - std, mean + std])[:, known])
    return [*not_empty([band, Series(label, x, mean, "line", *look, size=6)])]


def not_empty(series: Sequence[Series]) -> tuple[Series, ...]:
    """The series that have points."""
    return tuple(one for one in series if len(one.x))


def values_in(series: Sequence[Series], column: int) -> Array:
    """All x (column 0) or y (column 1) of some series."""
    return np.concatenate([(s.x, s.y)[column] for s in series] or [np.empty(0)])


def bounds_in(series: Sequence[Series], column: int) -> Array:
    """All ends of intervals in x (column 0) or y (column 1) of some series."""
    bounds = [(s.x_bounds, s.y_bounds)[column] for s in series]
    return np.concatenate([own.ravel() for own in bounds if own is not None] or [np.empty(0)])


def categories(names: Sequence[str], *, from_top: bool = False) -> AxisSpec:
    """A y axis of names at 0, 1, 2, ..., upwards or from the top."""
    ends = (-0.6, len(names) - 0.4)
    ticks = tuple((float(place), name) for place, name in enumerate(names))
    return AxisSpec("", limits=ends[::-1] if from_top else ends, ticks=ticks)


def labels_are_shared(panels: Sequence[Panel]) -> bool:
    """Whether one legend explains all panels: one panel has all the labels.

    Otherwise one look may mean different things in different panels.
    """
    labels = [{s.label for s in panel.series if s.in_legend} for panel in panels]
    return set().union(*labels) in labels
