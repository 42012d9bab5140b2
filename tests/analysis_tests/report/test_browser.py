"""The report in a real browser: nothing is fetched, nothing fails, and what should react does."""

from __future__ import annotations

from itertools import combinations, count
from pathlib import Path
from typing import Any

import pytest

from analysis.report.page import report_html
from tests.analysis_tests.browsers import (
    Keys,
    WebDriverWait,
    browser,
    click,
    needs_browser,
    requests,
    rows_shown,
)
from tests.analysis_tests.reports import small_results
from tests.analysis_tests.result_rows import ended_row, random_rows

__all__ = ["browser"]

pytestmark = needs_browser
PLACE = """
const number = arguments[0] ?? 0;
const plot = document.getElementById('plot-pareto'), layout = plot._fullLayout;
const trace = plot.data.find(t => /Pareto|modelled f/.test(t.name));
plot.scrollIntoView({block: 'center'});
const box = plot.getBoundingClientRect();
return [box.left + layout._size.l + layout.xaxis.d2p(trace.x[number]),
        box.top + layout._size.t + layout.yaxis.d2p(trace.y[number]), trace.customdata[number]];
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tmp_path = tmp_path_factory.mktemp("page")
    rows = [*random_rows(150), ended_row(150, "failed", "no memory")]
    path = tmp_path / "report.html"
    path.write_text(report_html(small_results(tmp_path / "demo", rows), "validation"))
    return path


def test_report_in_a_browser(browser: Any, page: Path) -> None:
    browser.get(page.as_uri())
    drawn = "return [...document.querySelectorAll('[data-figure]')].every(d => d._fullLayout)"
    WebDriverWait(browser, 300).until(lambda b: b.execute_script(drawn))
    _hover_and_pin(browser)
    _sort_and_filter(browser)
    _themes(browser)
    outside = [u for u in requests(browser) if not u.startswith(("file:", "data:", "blob:"))]
    assert outside == []
    # Of software rendering, which there is no GPU to do instead, Chromium itself warns.
    errors = [e for e in browser.get_log("browser") if e["source"] != "rendering"]
    assert errors == []


def _hover_and_pin(browser: Any) -> None:
    x, y, trial = browser.execute_script(PLACE)

    def mouse(kind: str, **more: Any) -> None:
        event = {"type": kind, "x": x, "y": y, **more}
        browser.execute_cdp_cmd("Input.dispatchMouseEvent", event)

    mouse("mouseMoved")
    waiting = WebDriverWait(browser, 300)
    hover = waiting.until(lambda b: b.find_element("css selector", "#plot-pareto .hovertext")).text
    assert f"trial {trial} (front), validation split" in hover
    assert "alpha: " in hover
    mouse("mousePressed", button="left", clickCount=1)
    mouse("mouseReleased", button="left", clickCount=1)
    pinned = browser.find_element("id", "pins")
    waiting.until(lambda _: pinned.is_displayed())
    assert f"Trial {trial}" in pinned.text
    click(browser, "#pins section button")
    waiting.until(lambda _: not pinned.is_displayed())
    click(browser, "#trials tbody tr:nth-child(3) button")
    assert "Trial 2" in pinned.text


def _sort_and_filter(browser: Any) -> None:
    assert rows_shown(browser) == list(range(100))
    click(browser, "#more")
    assert rows_shown(browser) == list(range(151))
    heads = "return [...document.querySelectorAll('#trials th')].map(th => th.textContent)"
    columns = browser.execute_script(heads)
    # The first click on a heading puts the best first.
    for name, order, largest_first in (
        ("accuracy cost", "ascending", False),
        ("clean accuracy", "descending", True),
    ):
        head = f"#trials th:nth-child({columns.index(name) + 1})"
        click(browser, f"{head} button")
        WebDriverWait(browser, 300).until(
            lambda b, css=f"{head}[aria-sort={order}]": b.find_elements("css selector", css)
        )
        cells = browser.execute_script(
            "return [...document.querySelectorAll(arguments[0])].map(c => c.textContent)",
            head.replace(" th", " td"),
        )
        values = [float(cell) for cell in cells if cell != "-"]
        assert len(values) == 150
        assert values == sorted(values, reverse=largest_first)
        assert cells[-1] == "-"
    field = browser.find_element("id", "filter")
    field.send_keys("complete 7")  # of a number the whole cell
    assert rows_shown(browser) == [7]
    field.clear()
    field.send_keys("failed memory")
    assert rows_shown(browser) == [150]
    assert "1 of 1 shown (151 trials in all)" in browser.find_element("id", "count").text


def _themes(browser: Any) -> None:
    ink = (
        "return document.getElementById('plot-hypervolume').data"
        ".find(t => t.name === 'this search').line.color"
    )
    for mode, color in (("dark", "#f5f6f7"), ("light", "#111111")):
        features = [{"name": "prefers-color-scheme", "value": mode}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        WebDriverWait(browser, 300).until(
            lambda _, color=color: browser.execute_script(ink) == color
        )


IS_CUT = "const page = document.documentElement; return page.scrollWidth > page.clientWidth"
SIZE = "return arguments[0].getBoundingClientRect()"
# Labels of ticks and of axes of the parallel coordinates by axis: left, right, top, bottom.
LABELS = """
return [...document.querySelectorAll('#plot-parallel .y-axis')].map(axis =>
  [...axis.querySelectorAll('.tick text, .axis-title')].map(label => {
    const box = label.getBoundingClientRect();
    return [box.left, box.right, box.top, box.bottom];
  }));
"""


def resize(browser: Any, width: int) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


@pytest.mark.parametrize("width", [400, 1200, 1600])
def test_pinned_trials_cover_no_chart(width: int, browser: Any, page: Path) -> None:
    resize(browser, width)
    browser.get(page.as_uri())
    for trial in (1, 2, 3, 4, 5):
        click(browser, f"#trials tbody tr:nth-child({trial}) button")
    pins = browser.find_element("id", "pins")
    places = (browser.execute_script(PLACE, number) for number in count())
    x, y, _ = next(place for place in places if f"Trial {place[2]}" not in pins.text.splitlines())
    event = {"x": x, "y": y, "button": "left", "clickCount": 1}
    for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
        browser.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": kind, **event})
    WebDriverWait(browser, 300).until(lambda _: len(pins.find_elements("tag name", "section")) == 6)
    browser.execute_script("scrollTo(0, document.body.scrollHeight)")
    box = browser.execute_script(SIZE, pins)
    main = browser.execute_script(SIZE, browser.find_element("tag name", "main"))
    assert main["bottom"] < box["top"] + 1 or main["right"] <= box["left"]
    assert box["height"] <= 0.36 * 900 or width == 1600
    assert not browser.execute_script(IS_CUT)
    browser.find_element("tag name", "body").send_keys(Keys.ESCAPE)
    assert not pins.is_displayed()
    click(browser, "#trials tbody tr:nth-child(2) button")
    assert pins.text.count("Trial") == 1


def test_parallel_coordinates_on_a_narrow_screen(browser: Any, tmp_path: Path) -> None:
    names = ("gratings_of_all_orientations_and_contrasts", "gratings_of_one_orientation", "digits")
    rows = [
        row | {"regularizer.batch_size": 2 ** (i % 4), "regularizer.dataset": names[i % 3]}
        for i, row in enumerate(random_rows(30))
    ]
    path = tmp_path / "report.html"
    path.write_text(report_html(small_results(tmp_path / "demo", rows), "validation"))
    resize(browser, 400)
    browser.get(path.as_uri())
    assert not browser.execute_script(IS_CUT)
    axes = browser.execute_script(LABELS)
    assert len(axes) == 5
    for one, other in combinations(axes, 2):
        for left, right, top, bottom in one:
            for left2, right2, top2, bottom2 in other:
                assert right <= left2 or right2 <= left or bottom <= top2 or bottom2 <= top
    plot = browser.find_element("id", "plot-parallel")
    assert (
        min(left for axis in axes for left, *_ in axis)
        >= browser.execute_script(SIZE, plot)["left"]
    )
    scroll = "const e = arguments[0].parentElement; e.scrollLeft = 9999; return e.scrollLeft"
    assert browser.execute_script(scroll, plot) > 0


def test_charts_say_what_they_are_and_keep_their_buttons(browser: Any, page: Path) -> None:
    browser.get(page.as_uri())
    plots = browser.find_elements("css selector", "[data-figure]")
    assert {plot.aria_role for plot in plots} == {"group"}
    assert plots[0].accessible_name == "Pareto front"
