"""The poster: all its panels in one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from analysis.charts.chart import Chart
from analysis.charts.matplotlib_backend import DPI, fill, natural_height, natural_width

WIDTH = 14.0  # inches
TITLE_HEIGHT = 0.6

# From the top of the poster, side by side.
ROWS = (
    ("2_similarity", "4ii_spectra"),
    ("4i_curves",),
    ("4i_datasets",),
    ("4iii_cost", "6_components"),
    ("5_tradeoff",),
)


def draw_poster(charts: Mapping[str, Chart]) -> Figure:
    """All charts there are, by name, in the order of :data:`ROWS`."""
    rows = [[charts[name] for name in names if name in charts] for names in ROWS]
    rows = [row for row in rows if row]
    widths = [_widths(row) for row in rows]
    heights = [max(map(natural_height, *own)) for own in zip(rows, widths, strict=True)]
    size = WIDTH, sum(heights) + TITLE_HEIGHT
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    title = "Regularizing convolutional networks with pixel similarities"
    figure.suptitle(title, fontsize=17, weight="bold")
    bands = figure.subfigures(len(rows), 1, squeeze=False, height_ratios=heights, hspace=0.03)
    for band, row, shares in zip(bands[:, 0], rows, widths, strict=True):
        parts = band.subfigures(1, len(row), squeeze=False, width_ratios=shares, wspace=0.02)[0]
        for part, chart, width in zip(parts, row, shares, strict=True):
            fill(part, chart, width)
    return figure


def _widths(row: Sequence[Chart]) -> list[float]:
    natural = [natural_width(chart) for chart in row]
    return [WIDTH * width / sum(natural) for width in natural]
