"""What is on the axes, not how it looks."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from analysis.pareto.picture import BASELINE_COLOR
from analysis.poster.layout import LINE_COLORS, draw_panel, draw_poster
from analysis.poster.panel import DotPlot, Level, Line, LinePlot, Panel, Plot, ScatterPlot

NAN = float("nan")


def line(label: str, *, is_baseline: bool = False, std: float = 0.1) -> Line:
    x = np.array([1.0, 10.0, 100.0])
    return Line(label, x, x / 100, np.full(3, std), is_baseline)


@dataclass
class Drawn:
    """A panel of one plot, and its axes."""

    plot: Plot
    figure: Figure = field(init=False)

    def __post_init__(self) -> None:
        self.figure = draw_panel(Panel("name", "1. Title", "n = 5 images", (self.plot,)))

    @property
    def axes(self) -> Axes:
        return self.figure.axes[0]


def lines(*found: Line, **options: object) -> LinePlot:
    return LinePlot("title", "x", "y", found, **options)  # type: ignore[arg-type]


def legend(axes: Axes) -> list[str]:
    found = axes.get_legend()
    return [] if found is None else [text.get_text() for text in found.get_texts()]


def test_lines_are_the_means_and_bands_the_deviations() -> None:
    axes = Drawn(lines(line("a"), line("b", std=NAN))).axes
    assert [drawn.get_label() for drawn in axes.lines] == ["a", "b"]
    assert np.asarray(axes.lines[0].get_ydata()).tolist() == [0.01, 0.1, 1.0]
    (band,) = axes.collections  # a single seed has none
    heights = np.asarray(band.get_paths()[0].vertices)[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((0.01 - 0.1, 1.1))


def test_baseline_has_its_own_colour_and_takes_none_from_the_others() -> None:
    axes = Drawn(lines(line("base", is_baseline=True), line("a"), line("b"))).axes
    found = [to_hex(drawn.get_color()).upper() for drawn in axes.lines]
    assert found == [BASELINE_COLOR, *LINE_COLORS[:2]]


def test_more_lines_than_colours_differ_in_style() -> None:
    axes = Drawn(lines(*(line(str(number)) for number in range(12)))).axes
    looks = {(drawn.get_color(), drawn.get_linestyle()) for drawn in axes.lines}
    assert len(looks) == 12


def test_level_and_reference_are_drawn_across() -> None:
    axes = Drawn(lines(line("a"), level=Level(0.4, 0.1), reference=0.3)).axes
    level, reference, _ = axes.lines
    assert set(np.asarray(level.get_ydata()).tolist()) == {0.4}
    assert set(np.asarray(reference.get_xdata()).tolist()) == {0.3}
    assert legend(axes) == ["unregularized", "a"]


def test_logarithmic_axis_has_its_ticks_at_the_values() -> None:
    axes = Drawn(lines(line("a"), scale="log", ticks=(1.0, 10.0, 100.0))).axes
    assert axes.get_xscale() == "log"
    assert list(axes.get_xticks()) == [1, 10, 100]


def test_variants_stand_from_the_top_down() -> None:
    x = np.array([0.0, 1.0])
    found = Line("clean", x, np.array([0.9, 0.8]), np.full(2, NAN))
    axes = Drawn(DotPlot("title", "accuracy", ("first", "second"), (found,))).axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["first", "second"]
    low, high = axes.get_ylim()
    assert low > high


def test_every_point_is_drawn() -> None:
    points = np.array([[0.1, 0.2], [0.3, 0.4]])
    axes = Drawn(ScatterPlot("r = 1", "x", "y", points)).axes
    assert np.asarray(axes.collections[0].get_offsets()).tolist() == points.tolist()
    assert legend(axes) == []


def test_title_and_caption_are_on_the_figure() -> None:
    figure = Drawn(lines(line("a"))).figure
    assert figure.get_suptitle() == "1. Title"
    assert figure.get_supxlabel() == "n = 5 images"


def test_plots_with_the_same_lines_share_a_legend() -> None:
    panel = Panel("p", "t", "c", (lines(line("a")), lines(line("a")), lines(line("a"))))
    assert [legend(axes) for axes in draw_panel(panel).axes] == [["a"], [], []]
    other = Panel("p", "t", "c", (lines(line("a")), lines(line("b"))))
    assert [legend(axes) for axes in draw_panel(other).axes] == [["a"], ["b"]]


def test_poster_has_the_axes_of_all_panels_in_its_own_order() -> None:
    panels = {
        name: Panel(name, name, "c", (lines(line(name)),)) for name in ("5_tradeoff", "4i_curves")
    }
    figure = draw_poster(panels)
    assert [axes.lines[0].get_label() for axes in figure.get_axes()] == ["4i_curves", "5_tradeoff"]
