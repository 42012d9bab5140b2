"""Parallel coordinates as a matplotlib figure."""

from __future__ import annotations

import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from analysis.charts.chart import Dimension, ParallelChart
from analysis.charts.matplotlib_text import literal, literal_chart, wrapped
from analysis.results.load import Array


def draw_parallel(chart: ParallelChart, dpi: int) -> Figure:
    """Trials as lines across the axes."""
    chart = literal_chart(chart)
    count = len(chart.dimensions)
    width = max(1.5 * count, 6.4)
    picture = Figure(figsize=(width, 4.6), dpi=dpi, layout="constrained")
    axes = picture.add_subplot()
    heights = [_draw_dimension(axes, place, d) for place, d in enumerate(chart.dimensions)]
    places = np.broadcast_to(np.arange(count), (len(heights[0]), count))
    values = chart.shade.values
    drawn = LineCollection(
        list(np.stack([places, np.stack(heights, axis=1)], axis=2)),
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
    labels = ["\n".join(wrapped(d.label.replace("_", " "), 16)) for d in chart.dimensions]
    axes.set_xticks(range(count), labels, fontsize=8)
    axes.set_yticks([])
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
    picture.colorbar(drawn, ax=axes, label=chart.shade.label)
    picture.suptitle(chart.title, fontsize=12, weight="bold", x=0.01, ha="left")
    note = "\n".join(wrapped(chart.note, int(width * 15)))
    picture.supxlabel(note, fontsize=8, x=0.01, ha="left")
    return picture


def _draw_dimension(axes: Axes, place: int, dimension: Dimension) -> Array:
    """One axis with its ticks; returns the heights (N,) of the values on it, from 0 to 1."""
    low, high = float(dimension.values.min()), float(dimension.values.max())
    ticks = dimension.ticks or tuple((v, f"{v:.3g}") for v in np.linspace(low, high, 4))
    axes.axvline(place, color="0.7", linewidth=0.8, zorder=1)
    marks = np.array([value for value, _ in ticks])
    heights, at = (
        (values - low) / (high - low) if high > low else np.full(len(values), 0.5)
        for values in (dimension.values, marks)
    )
    for y, (_, text) in zip(at, ticks, strict=True):
        box = {"facecolor": "white", "alpha": 0.7, "lw": 0, "pad": 0.5}
        short = literal(textwrap.shorten(text, 18, placeholder="..."))
        axes.text(place + 0.03, y, short, fontsize=7, zorder=4, va="center", bbox=box)
    return heights
