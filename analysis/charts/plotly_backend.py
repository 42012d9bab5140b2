"""Charts as plotly figures: plain dicts of JSON types, drawn by plotly.js in the page.

The page replaces the colours ``ink`` and ``muted`` by those of its theme. Points of trials carry
the trial's number as ``customdata``; the page takes their hover text from its table, so that the
file holds each configuration once.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.charts.chart import AxisSpec, Chart, Panel, ParallelChart, Series, Shade
from analysis.charts.style import MUTED
from analysis.results.parameters import Array

WEBGL_POINTS = 1500  # more points of one series are drawn by WebGL
MAX_COLUMNS = 3
PANEL_HEIGHT = 400
SMALL_PANEL_HEIGHT = 270
BAR_HEIGHT = 22
DIGITS = 6
MAX_TICK = 28  # characters of a category on an axis of parallel coordinates


def plotly_figure(chart: Chart | ParallelChart) -> dict[str, Any]:
    """``data`` and ``layout`` of a figure; its height in pixels is ``layout.height``."""
    if isinstance(chart, ParallelChart):
        return _parallel(chart)
    columns = min(len(chart.panels), MAX_COLUMNS)
    rows = math.ceil(len(chart.panels) / columns)
    data: list[dict[str, Any]] = []
    explained: set[str] = set()
    height = _height(chart, rows)
    above = 30 if any(panel.title for panel in chart.panels) else 6
    layout: dict[str, Any] = {
        "height": height,
        "barmode": "overlay",
        "hovermode": "closest",
        "legend": {
            "orientation": "h",
            "x": 0,
            "y": 1 + above / (height - 110),
            "yanchor": "bottom",
        },
        "margin": {"l": 64, "r": 16, "t": 24, "b": 52},
        "annotations": [],
    }
    if len(chart.panels) > 1:
        gaps = {"xgap": 0.2, "ygap": 0.32}
        layout["grid"] = {"rows": rows, "columns": columns, "pattern": "independent", **gaps}
    for number, panel in enumerate(chart.panels, start=1):
        suffix = "" if number == 1 else str(number)
        layout[f"xaxis{suffix}"] = _axis(panel.x)
        layout[f"yaxis{suffix}"] = _axis(panel.y)
        if panel.title:
            layout["annotations"].append(_panel_title(panel, suffix))
        for series in panel.series:
            trace = _trace(series)
            trace["showlegend"] &= series.label not in explained
            explained.add(series.label)
            if series.shade is not None:
                trace["marker"]["showscale"] = series.shade.label not in explained
                explained.add(series.shade.label)
            data.append({**trace, "xaxis": f"x{suffix}", "yaxis": f"y{suffix}"})
    return {"data": data, "layout": layout}


def _height(chart: Chart, rows: int) -> int:
    if num_categories := [len(panel.y.ticks) for panel in chart.panels if panel.y.ticks]:
        series = max(len(panel.series) for panel in chart.panels)
        return 130 + BAR_HEIGHT * max(num_categories) * max(4, 3 * series) // 4
    if rows > 1:
        return 80 + SMALL_PANEL_HEIGHT * rows
    return 80 + (PANEL_HEIGHT if len(chart.panels) < MAX_COLUMNS else SMALL_PANEL_HEIGHT + 30)


def _axis(axis: AxisSpec) -> dict[str, Any]:
    found: dict[str, Any] = {"title": {"text": axis.label, "standoff": 8}, "automargin": True}
    if axis.is_log:
        # Labels at 1, 2 and 5 of each decade: plotly's own may stand at exponents only.
        found |= {"type": "log", "dtick": "D2"}
    if axis.limits is not None:
        limits = np.log10(axis.limits) if axis.is_log else axis.limits
        found |= {"range": [plain(v) for v in limits], "autorange": False}
    if axis.ticks:
        found |= {"tickvals": [v for v, _ in axis.ticks], "ticktext": [t for _, t in axis.ticks]}
    return found


def _panel_title(panel: Panel, suffix: str) -> dict[str, Any]:
    return {
        "text": panel.title,
        "xref": f"x{suffix} domain",
        "yref": f"y{suffix} domain",
        "x": 0,
        "y": 1.02,
        "yanchor": "bottom",
        "showarrow": False,
    }


def _trace(series: Series) -> dict[str, Any]:
    trace: dict[str, Any] = {
        "name": series.label,
        "legendgroup": series.label,
        "showlegend": series.in_legend,
    }
    if not series.reacts:
        trace |= {"hoverinfo": "skip"}
    if series.opacity < 1:
        trace |= {"opacity": series.opacity}
    if series.trials is not None:
        trace |= {"customdata": [int(trial) for trial in series.trials]}
    match series.kind:
        case "band":
            return trace | _band(series)
        case "bars":
            return trace | _bars(series)
        case "line":
            trace |= _line(series)
        case "points":
            trace |= _points(series)
    if series.texts:
        trace["mode"] += "+text"
        trace |= {"text": list(series.texts), "textposition": _sides(len(series.texts))}
    for name, values, bounds in (
        ("error_x", series.x, series.x_bounds),
        ("error_y", series.y, series.y_bounds),
    ):
        if bounds is not None and np.isfinite(bounds).any():
            trace[name] = _error(values, bounds, series.color)
    return trace


def _sides(number: int) -> list[str]:
    """Where texts stand, so that neighbours do not overlap."""
    sides = ("top right", "bottom left", "bottom right", "top left")
    return [sides[place % len(sides)] for place in range(number)]


def _points(series: Series) -> dict[str, Any]:
    return {
        "type": "scattergl" if len(series.x) > WEBGL_POINTS else "scatter",
        "mode": "markers",
        "x": plain_list(series.x),
        "y": plain_list(series.y),
        "marker": _marker(series),
    }


def _marker(series: Series) -> dict[str, Any]:
    marker: dict[str, Any] = {"size": series.size, "symbol": series.symbol, "color": series.color}
    if series.shade is not None:
        return marker | _shade(series.shade)
    if series.symbol.endswith("-open") or series.symbol == "x":
        symbol = series.symbol.replace("x", "x-thin")
        marker |= {"symbol": symbol, "line": {"width": 2, "color": series.color}}
    return marker


def _error(values: Array, bounds: Array, color: str) -> dict[str, Any]:
    below, above = np.nan_to_num(values - bounds[0]), np.nan_to_num(bounds[1] - values)
    return {
        "type": "data",
        "symmetric": False,
        "array": plain_list(above.clip(min=0)),
        "arrayminus": plain_list(below.clip(min=0)),
        "thickness": 1,
        "width": 2,
        "color": color,
    }


def _shade(shade: Shade) -> dict[str, Any]:
    bar: dict[str, Any] = {"title": {"text": shade.label, "side": "right"}, "thickness": 14}
    if shade.ticks:
        bar |= {"tickvals": [v for v, _ in shade.ticks], "ticktext": [t for _, t in shade.ticks]}
    return {
        "color": plain_list(shade.values),
        "colorscale": "Viridis",
        "showscale": True,
        "colorbar": bar,
        "line": {"width": 0.5, "color": MUTED},
    }


def _line(series: Series) -> dict[str, Any]:
    shape = {"none": "linear", "before": "vh", "after": "hv"}[series.steps]
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": "lines",
        "x": plain_list(series.x),
        "y": plain_list(series.y),
        "line": {"color": series.color, "width": 2, "dash": series.dash, "shape": shape},
    }
    if series.symbol != "none":
        trace |= {"mode": "lines+markers", "marker": _marker(series)}
    return trace


def _band(series: Series) -> dict[str, Any]:
    assert series.y_bounds is not None
    return {
        "type": "scatter",
        "mode": "lines",
        "x": plain_list(np.concatenate([series.x, series.x[::-1]])),
        "y": plain_list(np.concatenate([series.y_bounds[0], series.y_bounds[1][::-1]])),
        "fill": "toself",
        "fillcolor": _faint(series.color),
        "line": {"width": 0},
        "hoverinfo": "skip",
    }


def _bars(series: Series) -> dict[str, Any]:
    return {
        "type": "bar",
        "orientation": "h",
        "x": plain_list(series.x),
        "y": plain_list(series.y),
        "width": series.size,
        "marker": {"color": series.color},
    }


def _faint(color: str) -> str:
    red, green, blue = (int(color[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.18)"


def _parallel(chart: ParallelChart) -> dict[str, Any]:
    dimensions = []
    for dimension in chart.dimensions:
        entry: dict[str, Any] = {"label": dimension.label, "values": plain_list(dimension.values)}
        if dimension.ticks:
            entry |= {
                "tickvals": [value for value, _ in dimension.ticks],
                "ticktext": [_tick(text) for _, text in dimension.ticks],
            }
        dimensions.append(entry)
    trace = {
        "type": "parcoords",
        "dimensions": dimensions,
        "line": {key: value for key, value in _shade(chart.shade).items() if key != "line"},
        "labelangle": -15,
        "labelside": "top",
    }
    # Labels stand at the left of their axis; plotly itself makes no room for those of the first.
    left = max(90, 16 + 6 * max(map(len, dimensions[0].get("ticktext", [""]))))
    return {
        "data": [trace],
        "layout": {"height": 420, "margin": {"l": left, "r": 30, "t": 90, "b": 30}},
    }


def _tick(text: str) -> str:
    half = MAX_TICK // 2
    return text if len(text) <= MAX_TICK else f"{text[: half - 1]}…{text[-half:]}"


def plain(value: float) -> float | None:
    """A number of JSON with six significant digits; NaN and infinities are null."""
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def plain_list(values: NDArray[np.float64]) -> list[float | None]:
    """:func:`plain` of every number."""
    return [plain(value) for value in values.tolist()]
