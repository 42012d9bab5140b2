"""The poster's panels as matplotlib figures. No pyplot, no global style, nothing computed."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from analysis.pareto.picture import BASELINE_COLOR, CATEGORY_COLORS, NEUTRAL_COLOR, style_axes
from analysis.poster.panel import DotPlot, Level, Line, LinePlot, Panel, Plot, ScatterPlot

DPI = 150
PLOT_WIDTH = 3.3  # inches
LINE_HEIGHT = 3.1
CAPTION_HEIGHT = 0.65
VARIANT_HEIGHT = 0.27
MIN_PANEL_WIDTH = 5.2
POSTER_WIDTH = 14.0
POSTER_TITLE_HEIGHT = 0.6
LETTERS_PER_INCH = 15.5  # of captions, at 8.5 points
# Yellow, the palette's last, is too light for thin lines; further lines differ in their style.
LINE_COLORS = CATEGORY_COLORS[:5]
MARKERS = ("o", "s", "^", "v", "P")
STYLES = ("-", ":", "-.")

# From the top of the poster, side by side.
ROWS = (
    ("2_similarity", "4ii_spectra"),
    ("4i_curves",),
    ("4i_datasets",),
    ("4iii_cost", "6_components"),
    ("5_tradeoff",),
)


def draw_panel(panel: Panel) -> Figure:
    """One panel as a figure of its own."""
    width = max(MIN_PANEL_WIDTH, PLOT_WIDTH * _num_columns(panel))
    figure = Figure(figsize=(width, _height(panel)), dpi=DPI, layout="constrained")
    _fill(figure, panel, width)
    return figure


def draw_poster(panels: Mapping[str, Panel]) -> Figure:
    """All panels there are, by name, in the order of :data:`ROWS`."""
    rows = [[panels[name] for name in names if name in panels] for names in ROWS]
    rows = [row for row in rows if row]
    heights = [max(_height(panel) for panel in row) for row in rows]
    total = sum(heights) + POSTER_TITLE_HEIGHT
    figure = Figure(figsize=(POSTER_WIDTH, total), dpi=DPI, layout="constrained")
    figure.suptitle(
        "Regularizing convolutional networks with pixel similarities", fontsize=17, weight="bold"
    )
    bands = figure.subfigures(len(rows), 1, squeeze=False, height_ratios=heights, hspace=0.03)
    for band, row in zip(bands[:, 0], rows, strict=True):
        widths = [_num_columns(panel) for panel in row]
        parts = band.subfigures(1, len(row), squeeze=False, width_ratios=widths, wspace=0.02)[0]
        for part, panel, share in zip(parts, row, widths, strict=True):
            _fill(part, panel, POSTER_WIDTH * share / sum(widths))
    return figure


def _num_columns(panel: Panel) -> int:
    """Widths of a plot that a panel takes; variants have long names."""
    return sum(2 if isinstance(plot, DotPlot) else 1 for plot in panel.plots)


def _height(panel: Panel) -> float:
    heights = [
        1.1 + VARIANT_HEIGHT * len(plot.variants) if isinstance(plot, DotPlot) else LINE_HEIGHT
        for plot in panel.plots
    ]
    return max(heights) + CAPTION_HEIGHT


def _fill(figure: FigureBase, panel: Panel, width: float) -> None:
    """Title, caption, plots and one common legend, into a figure ``width`` inches wide."""
    caption = textwrap.fill(panel.caption, int(width * LETTERS_PER_INCH))
    figure.suptitle(panel.title, fontsize=12, weight="bold", x=0.01, ha="left")
    columns = list(figure.subplots(1, len(panel.plots), squeeze=False)[0])
    for axes, plot in zip(columns, panel.plots, strict=True):
        _draw(axes, plot)
    figure.supxlabel(caption, fontsize=8.5, x=0.01, ha="left", color="0.25")
    _add_legend(columns)


def _draw(axes: Axes, plot: Plot) -> None:
    match plot:
        case LinePlot():
            _draw_lines(axes, plot)
        case DotPlot():
            _draw_dots(axes, plot)
        case ScatterPlot():
            _draw_scatter(axes, plot)
    axes.set_title(plot.title, fontsize=10)
    axes.set_xlabel(plot.x_label, fontsize=9)
    axes.tick_params(labelsize=8)
    style_axes(axes)


def _draw_lines(axes: Axes, plot: LinePlot) -> None:
    if plot.level is not None:
        _draw_level(axes, plot.level)
    if plot.reference is not None:
        axes.axvline(plot.reference, color=NEUTRAL_COLOR, linewidth=0.9, linestyle=":", zorder=1)
    others = [line for line in plot.lines if not line.is_baseline]
    for line in plot.lines:
        if line.is_baseline:
            _draw_line(axes, line, BASELINE_COLOR, "D", "--")
        else:
            number = others.index(line)
            rounds, place = divmod(number, len(LINE_COLORS))
            style = STYLES[rounds % len(STYLES)]
            _draw_line(axes, line, LINE_COLORS[place], MARKERS[place], style)
    axes.set_ylabel(plot.y_label, fontsize=9)
    if plot.scale == "log":
        axes.set_xscale("log")
    if plot.ticks:
        axes.xaxis.set_major_locator(FixedLocator(plot.ticks))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(ScalarFormatter())


def _draw_line(axes: Axes, line: Line, color: str, marker: str, style: str) -> None:
    axes.plot(
        line.x,
        line.mean,
        color=color,
        marker=marker,
        markersize=4.5,
        linestyle=style,
        linewidth=1.5,
        label=line.label,
        zorder=4,
    )
    if not np.isnan(line.std).all():
        axes.fill_between(
            line.x, line.mean - line.std, line.mean + line.std, color=color, alpha=0.16, lw=0
        )


def _draw_level(axes: Axes, level: Level) -> None:
    axes.axhline(
        level.mean,
        color=BASELINE_COLOR,
        linestyle="--",
        linewidth=1.5,
        label="unregularized",
        zorder=3,
    )
    if not np.isnan(level.std):
        axes.axhspan(
            level.mean - level.std, level.mean + level.std, color=BASELINE_COLOR, alpha=0.1, lw=0
        )


def _draw_dots(axes: Axes, plot: DotPlot) -> None:
    for number, line in enumerate(plot.lines):
        axes.errorbar(
            line.mean,
            line.x + 0.16 * (number - (len(plot.lines) - 1) / 2),
            xerr=None if np.isnan(line.std).all() else np.nan_to_num(line.std),
            fmt=MARKERS[number],
            color=LINE_COLORS[number],
            markersize=5.5,
            elinewidth=1.3,
            capsize=2,
            label=line.label,
        )
    axes.set_yticks(range(len(plot.variants)), plot.variants)
    axes.set_ylim(len(plot.variants) - 0.5, -0.5)


def _draw_scatter(axes: Axes, plot: ScatterPlot) -> None:
    size = float(np.clip(2500 / len(plot.points), 3, 20))
    x, y = plot.points.T
    axes.scatter(x, y, s=size, color=LINE_COLORS[0], alpha=0.35, linewidths=0, rasterized=True)
    axes.set_ylabel(plot.y_label, fontsize=9)


def _add_legend(columns: Sequence[Axes]) -> None:
    """Every label once, in the first plot: where the plots of a panel share their lines."""
    handles = dict[str, object]()
    for axes in columns:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    same = all(
        set(axes.get_legend_handles_labels()[1]) in (set(handles), set()) for axes in columns
    )
    for axes in columns[:1] if same else columns:
        drawn, labels = axes.get_legend_handles_labels()
        if labels:
            axes.legend(drawn, labels, fontsize=7.5, frameon=True, framealpha=0.8, edgecolor="0.9")
