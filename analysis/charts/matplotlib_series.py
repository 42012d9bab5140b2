"""The series of a panel, drawn on matplotlib axes."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.patheffects import withStroke

from analysis.charts.chart import Series
from analysis.charts.style import INK, MUTED

_COLORS = {INK: "black", MUTED: "0.6"}
_MARKERS = {
    "none": "",
    "circle": "o",
    "cross": "P",
    "diamond": "D",
    "square": "s",
    "star": "*",
    "triangle-down": "v",
    "triangle-up": "^",
    "x": "x",
}
_DASHES = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}
_DRAW_STYLES = {"none": "default", "before": "steps-pre", "after": "steps-post"}
_POINTS_PER_PIXEL = 0.8
_MANY = 2000  # points that a PDF holds as pixels
_SIDES = ((1, 1), (-1, -1), (1, -1), (-1, 1))  # of texts, so that neighbours do not overlap


def draw_series(axes: Axes, series: Series, zorder: float) -> PathCollection | None:
    """Returns the points that a colour bar explains."""
    color = _COLORS.get(series.color, series.color)
    label = series.label if series.in_legend else f"_{series.label}"
    style: dict[str, Any] = {"color": color, "label": label, "zorder": zorder}
    _draw_intervals(axes, series, color, zorder)
    _draw_texts(axes, series)
    match series.kind:
        case "band":
            assert series.y_bounds is not None
            axes.fill_between(series.x, *series.y_bounds, alpha=0.18, lw=0, **style)
        case "bars":
            axes.barh(series.y, series.x, height=series.size, **style)
        case "line":
            axes.plot(
                series.x,
                series.y,
                linewidth=1.4,
                linestyle=_DASHES[series.dash],
                drawstyle=_DRAW_STYLES[series.steps],
                marker=_MARKERS[series.symbol.removesuffix("-open")],
                markersize=series.size * _POINTS_PER_PIXEL,
                markerfacecolor="none" if series.symbol.endswith("-open") else color,
                alpha=series.opacity,
                **style,
            )
        case "points":
            return _draw_points(axes, series, color, label, zorder)
    return None


def _draw_intervals(axes: Axes, series: Series, color: str, zorder: float) -> None:
    errors = [
        None
        if bounds is None or not np.isfinite(bounds).any()
        else np.nan_to_num(np.abs(bounds - values))
        for values, bounds in ((series.x, series.x_bounds), (series.y, series.y_bounds))
    ]
    if series.kind == "band" or all(error is None for error in errors):
        return
    style: dict[str, Any] = {"fmt": "none", "ecolor": color, "elinewidth": 0.9, "alpha": 0.6}
    xerr, yerr = errors
    axes.errorbar(series.x, series.y, xerr=xerr, yerr=yerr, zorder=zorder - 0.05, **style)


def _draw_texts(axes: Axes, series: Series) -> None:
    for number, (x, y, text) in enumerate(zip(series.x, series.y, series.texts, strict=False)):
        right, up = _SIDES[number % len(_SIDES)]
        axes.annotate(
            text,
            (x, y),
            xytext=(7 * right, 9 * up),
            textcoords="offset points",
            ha="left" if right > 0 else "right",
            va="center",
            fontsize=8,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
            zorder=10,
        )


def _draw_points(
    axes: Axes, series: Series, color: str, label: str, zorder: float
) -> PathCollection | None:
    is_shaded = series.shade is not None and bool(np.isfinite(series.shade.values).any())
    is_open = series.symbol.endswith("-open")
    has_edge = is_open or series.symbol == "x"
    area = (series.size * _POINTS_PER_PIXEL) ** 2
    points = axes.scatter(
        series.x,
        series.y,
        s=area,
        marker=_MARKERS[series.symbol.removesuffix("-open")],
        c=series.shade.values if is_shaded and series.shade else color,
        cmap="viridis" if is_shaded else None,
        alpha=series.opacity,
        linewidths=1.3 if has_edge else 0.4 * series.opacity,
        label=f"_{label}" if is_shaded else label,
        zorder=zorder,
        rasterized=len(series.x) > _MANY,
    )
    if is_open:
        points.set(facecolor="none", edgecolor=color)
    elif not has_edge:
        points.set_edgecolor("white")
    if not is_shaded:
        return None
    # One point's colour in the legend would stand for all.
    axes.scatter([], [], s=area, color="0.45", label=label)
    return points
