"""Charts as plotly figures: plain dicts of JSON types, drawn by plotly.js in the page.

The page replaces the colours ``ink`` and ``muted`` by those of its theme. Points of trials carry
the trial's number as ``customdata``; the page takes their hover text from its table, so that the
file holds each configuration once.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from analysis.charts.chart import AxisSpec, Chart, ParallelChart, Series, Shade, Ticks
from analysis.charts.style import MUTED
from analysis.results.load import Array

WEBGL_POINTS = 1500  # more points of one series are drawn by WebGL
MAX_COLUMNS = 3
PANEL_HEIGHT = 400
SMALL_PANEL_HEIGHT = 270
BAR_HEIGHT = 22
DIGITS = 6
MAX_TICK = 28  # characters of a category on an axis of parallel coordinates
_ABOVE = {"yanchor": "bottom"}
_SIDES = ["top right", "bottom left", "bottom right", "top left"]  # neighbours do not overlap


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
        "legend": {"orientation": "h", "x": 0, "y": 1 + above / (height - 110)} | _ABOVE,
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
            place = {"xref": f"x{suffix} domain", "yref": f"y{suffix} domain", "x": 0, "y": 1.02}
            title = {"text": panel.title, **place, **_ABOVE, "showarrow": False}
            layout["annotations"].append(title)
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
    return found | _ticks(axis.ticks)


def _ticks(ticks: Ticks) -> dict[str, Any]:
    return {"tickvals": [v for v, _ in ticks], "ticktext": [t for _, t in ticks]} if ticks else {}


def _trace(series: Series) -> dict[str, Any]:
    trace: dict[str, Any] = {
        "name": series.label,
        "legendgroup": series.label,
        "showlegend": series.in_legend,
        "x": plain_list(series.x),
        "y": plain_list(series.y),
    }
    if not series.reacts:
        trace["hoverinfo"] = "skip"
    if series.opacity < 1:
        trace["opacity"] = series.opacity
    if series.trials is not None:
        trace["customdata"] = series.trials.tolist()
    trace |= _DRAWN[series.kind](series)
    if series.texts:
        trace["mode"] += "+text"
        sides = (_SIDES * len(series.texts))[: len(series.texts)]
        trace |= {"text": list(series.texts), "textposition": sides}
    if series.kind in ("line", "points"):
        trace |= _errors(series)
    return trace


def _points(series: Series) -> dict[str, Any]:
    kind = "scattergl" if len(series.x) > WEBGL_POINTS else "scatter"
    return {"type": kind, "mode": "markers", "marker": _marker(series)}


def _marker(series: Series) -> dict[str, Any]:
    marker: dict[str, Any] = {"size": series.size, "symbol": series.symbol, "color": series.color}
    if series.shade is not None:
        return marker | _shade(series.shade)
    if series.symbol.endswith("-open") or series.symbol == "x":
        symbol = series.symbol.replace("x", "x-thin")
        marker |= {"symbol": symbol, "line": {"width": 2, "color": series.color}}
    return marker


def _errors(series: Series) -> dict[str, Any]:
    errors = {}
    for name, values, bounds in (
        ("error_x", series.x, series.x_bounds),
        ("error_y", series.y, series.y_bounds),
    ):
        if bounds is None or not np.isfinite(bounds).any():
            continue
        below, above = np.nan_to_num([values - bounds[0], bounds[1] - values]).clip(min=0)
        lengths = {"array": plain_list(above), "arrayminus": plain_list(below)}
        look = {"thickness": 1, "width": 2, "color": series.color}
        errors[name] = {"type": "data", "symmetric": False, **lengths, **look}
    return errors


def _shade(shade: Shade) -> dict[str, Any]:
    bar = {"title": {"text": shade.label, "side": "right"}, "thickness": 14, **_ticks(shade.ticks)}
    return {
        "color": plain_list(shade.values),
        "colorscale": "Viridis",
        "showscale": True,
        "colorbar": bar,
        "line": {"width": 0.5, "color": MUTED},
    }


def _line(series: Series) -> dict[str, Any]:
    shape = {"none": "linear", "before": "vh", "after": "hv"}[series.steps]
    line = {"color": series.color, "width": 2, "dash": series.dash, "shape": shape}
    trace: dict[str, Any] = {"type": "scatter", "mode": "lines", "line": line}
    if series.symbol != "none":
        trace |= {"mode": "lines+markers", "marker": _marker(series)}
    return trace


def _band(series: Series) -> dict[str, Any]:
    assert series.y_bounds is not None
    low, high = series.y_bounds
    red, green, blue = (int(series.color[place : place + 2], 16) for place in (1, 3, 5))
    return {
        "type": "scatter",
        "mode": "lines",
        "x": plain_list(np.append(series.x, series.x[::-1])),
        "y": plain_list(np.append(low, high[::-1])),
        "fill": "toself",
        "fillcolor": f"rgba({red},{green},{blue},0.18)",
        "line": {"width": 0},
        "hoverinfo": "skip",
    }


def _bars(series: Series) -> dict[str, Any]:
    bar = {"type": "bar", "orientation": "h", "width": series.size}
    return bar | {"marker": {"color": series.color}}


_DRAWN = {"points": _points, "line": _line, "band": _band, "bars": _bars}


def _parallel(chart: ParallelChart) -> dict[str, Any]:
    dimensions: list[dict[str, Any]] = []
    for label, values, ticks in chart.dimensions:
        own = _ticks(tuple((value, _short(text)) for value, text in ticks))
        dimensions.append({"label": label, "values": plain_list(values), **own})
    trace = {
        "type": "parcoords",
        "dimensions": dimensions,
        "line": {key: value for key, value in _shade(chart.shade).items() if key != "line"},
        "labelangle": -15,
        "labelside": "top",
    }
    # Labels stand at the left of their axis; plotly itself makes no room for those of the first.
    left = max(90, 16 + 6 * max(map(len, dimensions[0].get("ticktext", [""]))))
    layout = {"height": 420, "margin": {"l": left, "r": 30, "t": 90, "b": 30}}
    return {"data": [trace], "layout": layout}


def _short(text: str) -> str:
    half = MAX_TICK // 2
    return text if len(text) <= MAX_TICK else f"{text[: half - 1]}…{text[-half:]}"


def plain(value: float) -> float | None:
    """A number of JSON with six significant digits; NaN and infinities are null."""
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def plain_list(values: Array) -> list[float | None]:
    """:func:`plain` of every number."""
    return [plain(value) for value in values.tolist()]
