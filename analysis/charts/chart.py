"""What a chart shows, as plain arrays.

The backends (:mod:`analysis.charts.plotly_backend`, :mod:`analysis.charts.matplotlib_backend`) draw
it and compute nothing. Colours are ``#RRGGBB`` or a role (``ink``,
``muted``) that each theme fills.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.pareto.picture import BASELINE_COLOR, CATEGORY_COLORS
from analysis.results.parameters import Array

INK = "ink"  # the text's colour: black on white, white on black
MUTED = "muted"
BASELINE = BASELINE_COLOR
TRIAL = CATEGORY_COLORS[0]
# Yellow, the palette's last, is too light for thin lines.
LINE_COLORS = CATEGORY_COLORS[:5]

Symbol = Literal["circle", "circle-open", "diamond", "star", "x", "square", "triangle-up"]
SYMBOLS: tuple[Symbol, ...] = ("circle", "square", "triangle-up", "diamond", "x")


class Shade(NamedTuple):
    """Numbers that colour points, explained by a colour bar."""

    values: Array
    """(N,), NaN is drawn muted."""
    label: str
    ticks: tuple[tuple[float, str], ...] = ()
    """Position among ``values`` and text; the renderer's own if empty."""


class Series(NamedTuple):
    """One thing of the legend, in one panel; N points."""

    label: str
    x: Array
    y: Array
    kind: Literal["points", "line", "band", "bars"] = "points"
    """``band`` fills between ``y_bounds``; ``bars`` are horizontal, x long at y."""
    color: str = TRIAL
    symbol: Symbol = "circle"
    size: float = 8.0
    dash: bool = False
    trials: NDArray[np.int64] | None = None
    """(N,), the trial that each point is, for those that can be pinned."""
    x_bounds: Array | None = None
    """(2, N), the ends of an interval; NaN where there is none."""
    y_bounds: Array | None = None
    shade: Shade | None = None
    in_legend: bool = True
    reacts: bool = True
    """Whether hovering tells of it; a line through points would be told instead of them."""


class AxisSpec(NamedTuple):
    """One axis of a panel."""

    label: str
    is_log: bool = False
    limits: tuple[float, float] | None = None
    """In the axis's units; None: as the series are."""
    ticks: tuple[tuple[float, str], ...] = ()
    """Position and text; the renderer's own if empty."""


class Panel(NamedTuple):
    """One pair of axes."""

    title: str
    x: AxisSpec
    y: AxisSpec
    series: tuple[Series, ...]


class Chart(NamedTuple):
    """One figure of the report."""

    name: str
    """Of its files and its anchor."""
    title: str
    panels: tuple[Panel, ...]
    caption: str
    """What is shown, under which conditions, with the numbers that matter, in words."""


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


class Missing(NamedTuple):
    """A figure that cannot be drawn, and why."""

    name: str
    title: str
    reason: str


Figure = Chart | ParallelChart | Missing


def log_ticks(low: float, high: float) -> tuple[tuple[float, str], ...]:
    """Ticks at powers of ten (and 2, 5 in a short range), at their decimal logarithms."""
    steps = (1.0,) if np.log10(high / low) > 2.5 else (1.0, 2.0, 5.0)
    exponents = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    values = [step * 10.0**exponent for exponent in exponents for step in steps]
    return tuple(
        (float(np.log10(value)), f"{value:g}")
        for value in values
        if low * 0.999 <= value <= high * 1.001
    )


def point_size(num_points: int) -> float:
    """Diameter of a marker in pixels: 9 for a few points, 4 for thousands."""
    return float(np.clip(300 / np.sqrt(max(num_points, 1)), 4, 9))


def limits_of(values: Array, margin: float = 0.06) -> tuple[float, float] | None:
    """Limits of an axis that shows all finite values with some space; None if there are none."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return None
    low, high = float(finite.min()), float(finite.max())
    space = (high - low) * margin or 0.02 * max(abs(high), 0.1)
    return low - space, high + space


def staircase(points: Array, maximize: tuple[bool, bool]) -> tuple[Array, Array]:
    """The boundary of what a front attains, as a line with corners.

    Args:
        points: (F, 2), non-dominated.
        maximize: Whether larger is better, per objective.

    Returns:
        x and y of the corners, in order of x.
    """
    ordered = points[np.lexsort((points[:, 1], points[:, 0]))]
    x, y = np.repeat(ordered[:, 0], 2), np.repeat(ordered[:, 1], 2)
    # Between two points of the front, the reachable y is that of the point with the better x.
    return (x[:-1], y[1:]) if maximize[0] else (x[1:], y[:-1])
