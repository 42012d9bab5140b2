"""What is on the axes of a picture, not how it looks."""

from __future__ import annotations

import sys
from io import BytesIO

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure

from analysis.charts.chart import (
    AxisSpec,
    Chart,
    Dimension,
    Panel,
    ParallelChart,
    Series,
    Shade,
    categories,
    mean_line,
)
from analysis.charts.matplotlib_backend import draw, render_pictures
from analysis.charts.style import BASELINE_LOOK, look

X = np.array([1.0, 10.0, 100.0])
NAN = np.full(3, np.nan)


def chart(*panels: Panel, note: str = "n = 5 images") -> Chart:
    return Chart("name", "Title", panels, "", note)


def panel(*series: Series, x: AxisSpec | None = None, y: AxisSpec | None = None) -> Panel:
    return Panel("panel", x or AxisSpec("x"), y or AxisSpec("y"), series)


def axes_of(*series: Series, x: AxisSpec | None = None, y: AxisSpec | None = None) -> Axes:
    return draw(chart(panel(*series, x=x, y=y))).axes[0]


def line(label: str, number: int = 0) -> Series:
    return Series(label, X, X / 100, "line", *look(number))


def legends(figure: Figure) -> list[list[str]]:
    """Texts of the legend of each panel, then of the whole."""
    found = [*(axes.get_legend() for axes in figure.axes), *figure.legends]
    return [[] if own is None else [text.get_text() for text in own.get_texts()] for own in found]


def test_lines_are_the_means_and_bands_the_deviations() -> None:
    series = [*mean_line("a", X, X / 100, np.full(3, 0.1), look(0))]
    series += mean_line("b", X, X / 100, NAN, look(1))  # a single seed has no band
    axes = axes_of(*series)
    assert [drawn.get_label() for drawn in axes.lines] == ["a", "b"]
    assert np.asarray(axes.lines[0].get_ydata()).tolist() == [0.01, 0.1, 1.0]
    (band,) = axes.collections
    heights = np.asarray(band.get_paths()[0].vertices)[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((0.01 - 0.1, 1.1))
    assert mean_line("c", NAN[:0], NAN[:0], NAN[:0], look(2)) == []


def test_fifteen_lines_and_the_baseline_differ() -> None:
    looks = {look(number) for number in range(15)} | {BASELINE_LOOK}
    assert len(looks) == 16
    axes = axes_of(*(line(str(number), number) for number in range(15)))
    assert len({(drawn.get_color(), drawn.get_linestyle()) for drawn in axes.lines}) == 15


@pytest.mark.parametrize(
    ("steps", "style"), [("none", "default"), ("before", "steps-pre"), ("after", "steps-post")]
)
def test_staircases(steps: str, style: str) -> None:
    (drawn,) = axes_of(line("a")._replace(steps=steps)).lines  # type: ignore[arg-type]
    assert drawn.get_drawstyle() == style


def test_points_with_intervals_and_texts() -> None:
    bounds = np.stack([X - 1, X + 2])
    axes = axes_of(Series("a", X, X, x_bounds=bounds, y_bounds=np.stack([NAN, NAN]), texts=("t",)))
    (bars,) = [c for c in axes.collections if isinstance(c, LineCollection)]
    assert [np.asarray(s)[:, 0].tolist() for s in bars.get_segments()] == bounds.T.tolist()
    (drawn,) = [c for c in axes.collections if isinstance(c, PathCollection)]
    assert np.asarray(drawn.get_offsets()).tolist() == np.column_stack([X, X]).tolist()
    assert [text.get_text() for text in axes.texts] == ["t"]


@pytest.mark.parametrize("symbol", ["circle-open", "square-open", "x"])
def test_open_markers_have_an_edge_and_no_face(symbol: str) -> None:
    (drawn,) = axes_of(Series("a", X, X, symbol=symbol)).collections  # type: ignore[arg-type]
    assert len(np.asarray(drawn.get_edgecolor())) == 1
    assert symbol == "x" or len(np.asarray(drawn.get_facecolor())) == 0


def test_color_bar_explains_numbers_once() -> None:
    shade = Shade(np.array([0.0, 1.0, np.nan]), "alpha", ((0.0, "1"), (1.0, "10")))
    points = Series("trial", X, X, shade=shade)
    figure = draw(chart(panel(points), panel(points)))
    *_, bar = figure.axes
    assert len(figure.axes) == 3
    assert bar.get_ylabel() == "alpha"
    assert [text.get_text() for text in bar.get_yticklabels()] == ["1", "10"]
    assert legends(figure)[-1] == ["trial"]


def test_unknown_numbers_have_no_color_bar() -> None:
    figure = draw(chart(panel(Series("trial", X, X, shade=Shade(NAN, "score")))))
    assert len(figure.axes) == 1


def test_axes_have_their_scale_limits_and_ticks() -> None:
    ticks = tuple((value, f"{value:g}") for value in X)
    axes = axes_of(line("a"), x=AxisSpec("x", True, (0.5, 200.0), ticks))
    assert (axes.get_xscale(), axes.get_xlim()) == ("log", (0.5, 200.0))
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "10", "100"]


def test_categories_stand_from_the_top_down() -> None:
    bars = Series("share", X, np.arange(3.0), "bars", size=0.5)
    axes = axes_of(bars, y=categories(["first", "second", "third"], from_top=True))
    assert [text.get_text() for text in axes.get_yticklabels()] == ["first", "second", "third"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]
    assert [bar.get_width() for bar in axes.patches] == X.tolist()  # type: ignore[attr-defined]


def test_one_legend_explains_panels_that_share_their_labels() -> None:
    shared = draw(chart(panel(line("a"), line("b", 1)), panel(line("a"))))
    assert legends(shared) == [[], [], ["a", "b"]]
    apart = draw(chart(panel(line("a")), panel(line("b"))))  # one look, two meanings
    assert legends(apart) == [["a"], ["b"]]


def test_title_and_note_are_in_the_picture() -> None:
    figure = draw(chart(panel(line("a"))))
    assert figure.get_suptitle() == "Title"
    assert figure.legends[0].get_title().get_text() == "n = 5 images"
    unexplained = draw(chart(panel(line("a")._replace(in_legend=False))))
    assert unexplained.get_supxlabel() == "n = 5 images"


def test_legend_hides_no_point() -> None:
    figure = draw(chart(panel(*(line(f"a long label of line {n}", n) for n in range(12)))))
    figure.savefig(BytesIO(), format="png")
    legend = figure.legends[0].get_window_extent()
    assert legend.y1 <= figure.axes[0].get_window_extent().y0
    assert (legend.x0, legend.x1) >= (0, 0)
    assert legend.x1 <= figure.bbox.x1


def test_equal_charts_are_equal_files_and_leave_pyplot_alone() -> None:
    before = dict(matplotlib.rcParams)
    first, second = (render_pictures([chart(panel(line("a")))]) for _ in range(2))
    assert first == second
    assert first["name.png"].startswith(b"\x89PNG")
    assert first["name.pdf"].startswith(b"%PDF")
    assert dict(matplotlib.rcParams) == before
    if "matplotlib.pyplot" in sys.modules:  # imported by another test
        assert sys.modules["matplotlib.pyplot"].get_fignums() == []


def test_dollars_in_texts_are_no_formulas() -> None:
    odd = r"/data/$\foo$ \$5 $"
    ticks = tuple((float(place), odd) for place in range(3))
    shade = Shade(np.arange(3.0), odd, ticks)
    y = categories([odd, "b"])
    for long in (odd, f"{'x' * 40} {odd}" * 20, f"{'y' * 200}$\\foo$" * 3):
        series = Series(long, X, X, shade=shade, texts=(odd,) * 3)
        found = Chart("name", odd, (panel(series, y=y, x=AxisSpec(odd)),), "", long)
        assert set(render_pictures([found])) == {"name.png", "name.pdf"}
    dimensions = tuple(Dimension(odd, X, ticks) for _ in range(2))
    parallel = ParallelChart("name", odd, dimensions, shade, "", odd * 30)
    assert set(render_pictures([parallel])) == {"name.png", "name.pdf"}
    (drawn,) = axes_of(Series(odd, X, X, texts=(odd,))).texts
    assert drawn._preprocess_math(drawn.get_text()) == (odd, False)  # type: ignore[attr-defined]


def test_ticks_of_a_logarithmic_axis_stay_formulas() -> None:
    axes = axes_of(line("a"), x=AxisSpec("x", is_log=True))
    axes.figure.canvas.draw()
    assert any("10^" in tick.get_text() for tick in axes.get_xticklabels())
