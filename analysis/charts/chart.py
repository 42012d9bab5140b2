"""What a chart shows, as plain arrays.

The backends (:mod:`analysis.charts.plotly_backend`, :mod:`analysis.charts.matplotlib_backend`)
draw it and compute nothing. Colours are ``#RRGGBB`` or a role (``ink``, ``muted``) that each theme
fills.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.charts.style import TRIAL, Dash, Look, Symbol
from analysis.results.parameters import Array


class Shade(NamedTuple):
    """Numbers that colour points, explained by a colour bar."""

    values: Array
    """(N,), NaN is drawn muted."""
    label: str
    ticks: tuple[tuple[float, str], ...] = ()
    """Position among ``values`` and text; empty: the backend chooses."""


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
    """(2, N), the ends of an interval; NaN where there is none."""
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
    ticks: tuple[tuple[float, str], ...] = ()
    """Position and text; empty: the backend chooses."""


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
    """(N,), logarithms where the parameter is searched on a logarithmic scale."""
    ticks: tuple[tuple[float, str], ...] = ()


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


def mean_line(
    label: str,
    x: Array,
    mean: Array,
    std: Array | None,
    look: Look,
    trials: NDArray[np.int64] | None = None,
) -> list[Series]:
    """A line above a band of one standard deviation where that is known; nothing of no points."""
    if not len(x):
        return []
    line = Series(label, x, mean, "line", *look, size=6, trials=trials)
    known = np.isfinite(mean if std is None else std)
    if std is None or not known.any():
        return [line]
    bounds = np.stack([mean - std, mean + std])[:, known]
    return [
        Series(
            f"{label} ± SD",
            x[known],
            mean[known],
            "band",
            look.color,
            y_bounds=bounds,
            in_legend=False,
        ),
        line,
    ]


def not_empty(series: Sequence[Series]) -> tuple[Series, ...]:
    """The series that have points."""
    return tuple(one for one in series if len(one.x))


def categories(names: Sequence[str], *, from_top: bool = False) -> AxisSpec:
    """A y axis of names at 0, 1, 2, ..., upwards or from the top."""
    ends = (-0.6, len(names) - 0.4)
    ticks = tuple((float(place), name) for place, name in enumerate(names))
    return AxisSpec("", limits=ends[::-1] if from_top else ends, ticks=ticks)


def labels_are_shared(panels: Sequence[Panel]) -> bool:
    """Whether one legend explains all panels: some panel's labels include those of every other.

    Otherwise one look may mean different things in different panels.
    """
    labels = [{s.label for s in panel.series if s.in_legend} for panel in panels]
    return set().union(*labels) in labels
