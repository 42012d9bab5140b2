from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from analysis.charts.chart import AxisSpec, Chart, Panel, Series, Shade
from analysis.charts.plotly_backend import plotly_figure

X = np.array([1.0, 2.0])


def traces(*panels: Panel) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = plotly_figure(Chart("n", "t", panels, "", ""))["data"]
    return found


def panel(*series: Series) -> Panel:
    return Panel("", AxisSpec("x"), AxisSpec("y"), series)


@pytest.mark.parametrize(
    ("steps", "shape"), [("none", "linear"), ("before", "vh"), ("after", "hv")]
)
def test_staircases(steps: str, shape: str) -> None:
    (trace,) = traces(panel(Series("a", X, X, "line", steps=steps)))  # type: ignore[arg-type]
    assert trace["line"]["shape"] == shape


def test_intervals_texts_and_trials() -> None:
    bounds = np.array([[0.5, np.nan], [1.7, np.nan]])
    trials = np.array([4, 7])
    points = Series("a", X, X, x_bounds=bounds, texts=("p", "q"), trials=trials, opacity=0.5)
    (trace,) = traces(panel(points))
    assert trace["error_x"]["array"] == pytest.approx([0.7, 0])
    assert trace["error_x"]["arrayminus"] == pytest.approx([0.5, 0])
    assert "error_y" not in trace
    assert (trace["mode"], trace["text"]) == ("markers+text", ["p", "q"])
    assert (trace["customdata"], trace["opacity"]) == ([4, 7], 0.5)


def test_legend_and_color_bar_explain_once() -> None:
    points = Series("a", X, X, shade=Shade(X, "alpha", ((0.0, "1"),)))
    first, second = traces(panel(points), panel(points))
    assert [trace["showlegend"] for trace in (first, second)] == [True, False]
    assert [trace["marker"]["showscale"] for trace in (first, second)] == [True, False]
    assert first["marker"]["colorbar"]["ticktext"] == ["1"]


def test_values_that_json_lacks_are_null() -> None:
    (trace,) = traces(panel(Series("a", np.array([np.nan, np.inf]), X)))
    assert trace["x"] == [None, None]
