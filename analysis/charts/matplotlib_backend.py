"""Charts as matplotlib figures, without pyplot or global style."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from io import BytesIO

from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure as Picture
from matplotlib.figure import FigureBase
from matplotlib.ticker import NullLocator

from analysis.charts.chart import (
    AxisSpec,
    Chart,
    Figure,
    Missing,
    Panel,
    ParallelChart,
    Shade,
    labels_are_shared,
)
from analysis.charts.matplotlib_parallel import draw_parallel
from analysis.charts.matplotlib_series import draw_series
from analysis.charts.matplotlib_text import literal_chart, wrapped

DPI = 150

# Inches.
_PANELS = {1: (6.6, 4.4), 2: (4.5, 3.4)}  # width and height by number of columns
_SMALL_PANEL = (3.5, 2.9)
_MIN_WIDTH = 5.4
_CATEGORY_HEIGHT = 0.25
_TITLE_HEIGHT = 0.3
_LINE_HEIGHT = 0.16
_LETTERS_PER_INCH = 16  # at 8 points


def render_pictures(figures: Iterable[Figure]) -> dict[str, bytes]:
    """PNG and PDF of every chart by file name; equal bytes for equal charts."""
    files: dict[str, bytes] = {}
    for figure in figures:
        if not isinstance(figure, Missing):
            picture = draw(figure)
            files[f"{figure.name}.png"] = saved(picture, "png")
            picture.set_layout_engine("none")  # it is laid out already, which is half of the work
            files[f"{figure.name}.pdf"] = saved(picture, "pdf")
    return files


def saved(picture: Picture, kind: str) -> bytes:
    """A picture as a file of this kind."""
    stream = BytesIO()
    picture.savefig(stream, format=kind, metadata={"CreationDate": None} if kind == "pdf" else None)
    return stream.getvalue()


def draw(chart: Chart | ParallelChart) -> Picture:
    """A chart as a picture of its natural size."""
    if isinstance(chart, ParallelChart):
        return draw_parallel(chart, DPI)
    width = natural_width(chart)
    height = natural_height(chart, width)
    picture = Picture(figsize=(width, height), dpi=DPI, layout="constrained")
    fill(picture, chart, width)
    return picture


def natural_width(chart: Chart) -> float:
    """Width of a chart in inches."""
    _, columns = _grid(chart)
    width, _ = _PANELS.get(columns, _SMALL_PANEL)
    return max(_MIN_WIDTH, width * sum(_widths(chart.panels[:columns])))


def natural_height(chart: Chart, width: float) -> float:
    """Height in inches of a chart that is ``width`` inches wide."""
    rows, columns = _grid(chart)
    _, height = _PANELS.get(columns, _SMALL_PANEL)
    if num_categories := [len(panel.y.ticks) for panel in chart.panels if panel.y.ticks]:
        height = 0.9 + _CATEGORY_HEIGHT * max(num_categories)
    below = len(_wrapped(chart.note, width))
    if labels_are_shared(chart.panels):
        labels = {s.label for panel in chart.panels for s in panel.series if s.in_legend}
        below += 1 + math.ceil(len(labels) / _legend_columns(labels, width))
    return rows * height + _TITLE_HEIGHT + _LINE_HEIGHT * below


def fill(figure: FigureBase, chart: Chart, width: float) -> None:
    """Draw a chart into a figure, or a part of one, that is ``width`` inches wide."""
    chart = literal_chart(chart)
    rows, columns = _grid(chart)
    figure.suptitle(chart.title, fontsize=12, weight="bold", x=0.01, ha="left")
    ratios = _widths(chart.panels[:columns])
    grid = figure.subplots(rows, columns, squeeze=False, width_ratios=ratios).ravel()
    shades: dict[str, tuple[PathCollection, Shade]] = {}
    for axes, panel in zip(grid, chart.panels, strict=False):
        shades |= _draw_panel(axes, panel)
    for axes in grid[len(chart.panels) :]:
        axes.set_axis_off()
    for points, shade in shades.values():
        bar = figure.colorbar(points, ax=list(grid), pad=0.02, aspect=30)
        bar.set_label(shade.label, fontsize=9)
        if shade.ticks:
            positions, texts = zip(*shade.ticks, strict=True)
            bar.set_ticks(positions, labels=texts)
        bar.ax.tick_params(labelsize=8)
    _explain(figure, list(grid[: len(chart.panels)]), chart, width)


def _grid(chart: Chart) -> tuple[int, int]:
    """Rows and columns of panels."""
    number = len(chart.panels)
    columns = number if number <= 4 else 3
    return math.ceil(number / columns), columns


def _widths(panels: Sequence[Panel]) -> list[int]:
    """Relative widths of panels: beside others, categories with their names take two."""
    return [2 if panel.y.ticks and len(panels) > 1 else 1 for panel in panels]


def _draw_panel(axes: Axes, panel: Panel) -> dict[str, tuple[PathCollection, Shade]]:
    """The panel's series; returns coloured points by what their colour means."""
    shades = {}
    for number, series in enumerate(panel.series):
        points = draw_series(axes, series, zorder=2 + number / 10)
        if points is not None and series.shade is not None:
            shades[series.shade.label] = points, series.shade
    axes.set_title(panel.title, fontsize=10)
    _set_axis(axes, "x", panel.x)
    _set_axis(axes, "y", panel.y)
    axes.grid(color="0.92", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(which="both", labelsize=8)
    return shades


def _set_axis(axes: Axes, which: str, spec: AxisSpec) -> None:
    getattr(axes, f"set_{which}label")(spec.label, fontsize=9)
    if spec.is_log:
        axes.set(**{f"{which}scale": "log"})
    if spec.limits is not None:
        axes.set(**{f"{which}lim": spec.limits})
    if spec.ticks:
        positions, texts = zip(*spec.ticks, strict=True)
        getattr(axes, f"set_{which}ticks")(positions, labels=texts)
        getattr(axes, f"{which}axis").set_minor_locator(NullLocator())


def _explain(figure: FigureBase, grid: list[Axes], chart: Chart, width: float) -> None:
    """The note and the legend below the panels, or a legend in each where they differ."""
    note = "\n".join(_wrapped(chart.note, width))
    found = [axes.get_legend_handles_labels() for axes in grid]
    handles = {label: handle for own in found[::-1] for handle, label in zip(*own, strict=True)}
    ordered = list(dict.fromkeys(label for _, labels in found for label in labels))
    if ordered and labels_are_shared(chart.panels):
        figure.legend(
            [handles[label] for label in ordered],
            ordered,
            loc="outside lower left",
            ncols=_legend_columns(ordered, width),
            fontsize=8,
            frameon=False,
            title=note,  # the layout keeps no other text clear of the legend
            title_fontsize=8,
            alignment="left",
        )
        return
    for axes, (own, labels) in zip(grid, found, strict=True):
        if labels:
            axes.legend(own, labels, fontsize=7.5, framealpha=0.8, edgecolor="0.9")
    figure.supxlabel(note, fontsize=8, x=0.01, ha="left")


def _wrapped(note: str, width: float) -> list[str]:
    # A number and its unit stay on one line.
    return wrapped(note.replace(" %", "\u00a0%"), int(width * _LETTERS_PER_INCH))


def _legend_columns(labels: Iterable[str], width: float) -> int:
    column = 0.6 + max((len(label) for label in labels), default=0) / _LETTERS_PER_INCH
    return max(1, min(6, int(width / column)))
