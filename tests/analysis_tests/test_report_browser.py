"""The report in a real browser: nothing is fetched, nothing fails, and what should react does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from analysis.report_page import report_html
from tests.analysis_tests.browsers import (
    WebDriverWait,
    browser,
    click,
    needs_browser,
    requests,
    rows_shown,
)
from tests.analysis_tests.reports import small_results
from tests.analysis_tests.results import ended_row, random_rows

__all__ = ["browser"]

pytestmark = needs_browser
PLACE = """
const plot = document.getElementById('plot-pareto'), layout = plot._fullLayout;
const trace = plot.data.find(t => t.name === 'on the front');
plot.scrollIntoView({block: 'center'});
const box = plot.getBoundingClientRect();
return [box.left + layout._size.l + layout.xaxis.d2p(trace.x[0]),
        box.top + layout._size.t + layout.yaxis.d2p(trace.y[0]), trace.customdata[0]];
"""


@pytest.fixture
def page(tmp_path: Path) -> Path:
    rows = [*random_rows(150), ended_row(150, "failed", "no memory")]
    path = tmp_path / "report.html"
    path.write_text(report_html(small_results(tmp_path / "demo", rows), "validation"))
    return path


def test_report_in_a_browser(browser: Any, page: Path) -> None:
    browser.get(page.as_uri())
    assert browser.execute_script(
        "return [...document.querySelectorAll('[data-figure]')].every(d => d._fullLayout)"
    )
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
    waiting = WebDriverWait(browser, 20)
    hover = waiting.until(lambda b: b.find_element("css selector", "#plot-pareto .hovertext")).text
    assert f"trial {trial} (front), validation split" in hover
    assert "alpha: " in hover
    mouse("mousePressed", button="left", clickCount=1)
    mouse("mouseReleased", button="left", clickCount=1)
    pinned = browser.find_element("id", "pins")
    waiting.until(lambda _: pinned.is_displayed())
    assert f"Trial {trial}" in pinned.text
    click(browser, "#pins button")
    waiting.until(lambda _: not pinned.is_displayed())
    click(browser, "#trials tbody tr:nth-child(3) button")
    assert "Trial 2" in pinned.text


def _sort_and_filter(browser: Any) -> None:
    assert rows_shown(browser) == list(range(100))
    click(browser, "#more")
    assert rows_shown(browser) == list(range(151))
    columns = [th.text for th in browser.find_elements("css selector", "#trials th")]
    place = columns.index("clean accuracy") + 1
    click(browser, f"#trials th:nth-child({place}) button")
    cells = browser.execute_script(
        f"return [...document.querySelectorAll('#trials td:nth-child({place})')]"
        ".map(c => c.textContent)"
    )
    values = [float(cell) for cell in cells if cell != "-"]
    assert len(values) == 150
    assert values == sorted(values, reverse=True)
    assert cells[-1] == "-"
    browser.find_element("id", "filter").send_keys("failed memory")
    assert rows_shown(browser) == [150]
    assert "1 of 1 shown (151 trials in all)" in browser.find_element("id", "count").text


def _themes(browser: Any) -> None:
    ink = "return document.getElementById('plot-pareto').data[0].line.color"
    for mode, color in (("dark", "#f5f6f7"), ("light", "#111111")):
        features = [{"name": "prefers-color-scheme", "value": mode}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        WebDriverWait(browser, 20).until(
            lambda _, color=color: browser.execute_script(ink) == color
        )
