"""Charts as matplotlib figures, for papers and slides: the same arrays that the page shows."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure as Picture

from analysis.charts.chart import (
    INK,
    MUTED,
    AxisSpec,
    Chart,
    Figure,
    Missing,
    Panel,
    ParallelChart,
    Series,
)
from analysis.charts.files import picture_files
from analysis.pareto.picture import style_axes

_COLORS = {INK: "black", MUTED: "0.6"}
_MARKERS = {
    "circle": "o",
    "circle-open": "o",
    "diamond": "D",
    "star": "*",
    "x": "x",
    "square": "s",
    "triangle-up": "^",
}
_DPI = 130
_PANEL = (5.0, 4.0)
_SMALL_PANEL = (4.2, 3.2)
_MAX_COLUMNS = 3
_MANY = 2000  # points that a PDF holds as pixels


def render_pictures(figures: Iterable[Figure]) -> dict[str, bytes]:
    """PNG and PDF of every chart by file name; equal bytes for equal charts."""
    files: dict[str, bytes] = {}
    for figure in figures:
        if not isinstance(figure, Missing):
            files |= picture_files(figure.name, draw(figure))
    return files


def draw(chart: Chart | ParallelChart) -> Picture:
    """A figure that belongs to no pyplot state."""
    if isinstance(chart, ParallelChart):
        return _draw_parallel(chart)
    columns = min(len(chart.panels), _MAX_COLUMNS)
    rows = math.ceil(len(chart.panels) / columns)
    width, height = _PANEL if len(chart.panels) < _MAX_COLUMNS else _SMALL_PANEL
    bars = [len(p.y.ticks) for p in chart.panels if any(s.kind == "bars" for s in p.series)]
    height = max(2.2, 1.2 + 0.24 * max(bars)) if bars else height
    size = (max(width * columns, 6.4), height * rows + 1.0)
    picture = Picture(figsize=size, dpi=_DPI, layout="constrained")
    grid = picture.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(chart.panels) :]:
        axes.set_axis_off()
    for axes, panel in zip(grid.flat, chart.panels, strict=False):
        _draw_panel(axes, panel)
    picture.suptitle(chart.title, fontsize=12, weight="bold", x=0.01, ha="left")
    _add_legend(picture, grid.flat)
    return picture


def _draw_panel(axes: Axes, panel: Panel) -> None:
    for series in panel.series:
        _draw_series(axes, series)
    axes.set_title(panel.title, fontsize=10)
    _set_axis(axes, "x", panel.x)
    _set_axis(axes, "y", panel.y)
    style_axes(axes)
    axes.tick_params(labelsize=8)


def _set_axis(axes: Axes, which: str, spec: AxisSpec) -> None:
    axes.set(**{f"{which}label": spec.label})
    if spec.is_log:
        axes.set(**{f"{which}scale": "log"})
    if spec.limits is not None:
        axes.set(**{f"{which}lim": spec.limits})
    if spec.ticks:
        positions, texts = zip(*spec.ticks, strict=True)
        (axes.set_xticks if which == "x" else axes.set_yticks)(positions, labels=texts)


def _draw_series(axes: Axes, series: Series) -> None:
    color = _COLORS.get(series.color, series.color)
    label = series.label if series.in_legend else f"_{series.label}"
    marker = _MARKERS[series.symbol]
    match series.kind:
        case "band":
            assert series.y_bounds is not None
            axes.fill_between(
                series.x, *series.y_bounds, color=color, alpha=0.18, lw=0, label=label
            )
        case "bars":
            height = series.size if series.size < 1 else 0.75
            axes.barh(series.y, series.x, height=height, color=color, label=label)
        case "line":
            axes.plot(
                series.x,
                series.y,
                color=color,
                linewidth=1.5,
                linestyle="--" if series.dash else "-",
                marker=marker if series.trials is not None or series.symbol != "circle" else None,
                markersize=4,
                label=label,
            )
        case "points":
            _draw_points(axes, series, color, marker, label)


def _draw_points(axes: Axes, series: Series, color: str, marker: str, label: str) -> None:
    if series.x_bounds is not None and series.y_bounds is not None:
        errors = [
            np.nan_to_num(np.stack([values - low, high - values])).clip(min=0)
            for values, (low, high) in (
                (series.x, series.x_bounds),
                (series.y, series.y_bounds),
            )
        ]
        axes.errorbar(
            series.x,
            series.y,
            xerr=errors[0],
            yerr=errors[1],
            fmt="none",
            ecolor=color,
            elinewidth=0.8,
            alpha=0.6,
            zorder=2,
        )
    if series.shade is not None:
        drawn = axes.scatter(
            series.x,
            series.y,
            s=series.size**2 / 1.6,
            c=series.shade.values,
            cmap="viridis",
            edgecolors="0.6",
            linewidths=0.4,
            zorder=3,
            label=label,
            rasterized=len(series.x) > _MANY,
        )
        if np.isfinite(series.shade.values).any():
            axes.figure.colorbar(drawn, ax=axes, label=series.shade.label)
        return
    is_open = series.symbol == "circle-open"
    axes.scatter(
        series.x,
        series.y,
        s=series.size**2 / 1.6,
        marker=marker,
        facecolors="none" if is_open else color,
        edgecolors=color if is_open else None,
        linewidths=1.2 if is_open or marker == "x" else 0,
        label=label,
        zorder=4 if is_open else 3,
        rasterized=len(series.x) > _MANY,
    )


def _add_legend(picture: Picture, panels: Iterable[Axes]) -> None:
    """Every label once, below the panels."""
    handles = dict[str, Artist]()
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if handles:
        picture.legend(
            list(handles.values()),
            list(handles),
            loc="outside lower center",
            ncols=min(len(handles), 4),
            fontsize=8,
            frameon=False,
        )


def _draw_parallel(chart: ParallelChart) -> Picture:
    count = len(chart.dimensions)
    picture = Picture(figsize=(max(1.5 * count, 6.4), 4.6), dpi=_DPI, layout="constrained")
    axes = picture.add_subplot()
    heights = []
    for place, dimension in enumerate(chart.dimensions):
        low, high = float(dimension.values.min()), float(dimension.values.max())
        span = (high - low) or 1.0
        heights.append(
            (dimension.values - low) / span if high > low else 0.5 + 0 * dimension.values
        )
        ticks = dimension.ticks or tuple((v, f"{v:.3g}") for v in np.linspace(low, high, 4))
        axes.axvline(place, color="0.7", linewidth=0.8, zorder=1)
        for value, text in ticks:
            at = (value - low) / span if high > low else 0.5
            short = textwrap.shorten(text, 18, placeholder="...")
            axes.text(
                place + 0.03,
                at,
                short,
                fontsize=7,
                zorder=4,
                va="center",
                bbox={"facecolor": "white", "alpha": 0.7, "lw": 0, "pad": 0.5},
            )
    lines = np.stack(
        [np.broadcast_to(np.arange(count), (len(heights[0]), count)), np.stack(heights, axis=1)],
        axis=2,
    )
    values = chart.shade.values
    drawn = LineCollection(
        list(lines),
        cmap="viridis",
        linewidths=1.0,
        alpha=0.8,
        norm=Normalize(values.min(), values.max()),
        array=values,
    )
    drawn.set_rasterized(True)
    axes.add_collection(drawn)
    axes.set_xlim(-0.1, count - 0.5)
    axes.set_ylim(-0.05, 1.05)
    labels = [textwrap.fill(d.label.replace("_", " "), 16) for d in chart.dimensions]
    axes.set_xticks(range(count), labels, fontsize=8)
    axes.set_yticks([])
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
    picture.colorbar(drawn, ax=axes, label=chart.shade.label)
    picture.suptitle(chart.title, fontsize=12, weight="bold", x=0.01, ha="left")
    return picture
