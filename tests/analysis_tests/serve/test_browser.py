"""Served reports in a real browser: they follow a search, and leave alone who reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.report.page import report_html
from tests.analysis_tests.browsers import WebDriverWait, browser, click, needs_browser, rows_shown
from tests.analysis_tests.reports import small_results
from tests.analysis_tests.result_rows import complete_row, write_part
from tests.analysis_tests.servers import Client, serve

__all__ = ["browser", "serve"]

pytestmark = needs_browser


def add_trial(folder: Path, number: int) -> None:
    write_part(folder, "trials", f"{number:05d}.parquet", [complete_row(number, 0.85, 0.6)])


def after_asking(browser: Any, condition: Callable[[Any], Any]) -> Any:
    """What the condition finds after the page has asked the server, as when it is looked at again.

    It would do so by itself every few seconds.
    """
    browser.execute_script("document.dispatchEvent(new Event('visibilitychange'))")
    return WebDriverWait(browser, 300).until(condition)


@pytest.mark.long
def test_page_follows_the_search_until_its_reader_begins_to_use_it(
    browser: Any, serve: Callable[..., Client], tmp_path: Path
) -> None:
    folder = small_results(tmp_path / "results" / "demo")
    port = serve(folder.parent, render=report_html).port
    browser.get(f"http://127.0.0.1:{port}/")
    assert "4 of 4" in browser.find_element("tag name", "table").text
    add_trial(folder, 4)
    waiting = WebDriverWait(browser, 300)
    waiting.until(lambda b: "5 of 4" in b.find_element("tag name", "table").text)
    browser.find_element("link text", "demo").click()
    assert rows_shown(browser) == [0, 1, 2, 3, 4]
    add_trial(folder, 5)
    after_asking(browser, lambda b: rows_shown(b) == [0, 1, 2, 3, 4, 5])

    browser.find_element("id", "filter").send_keys("failed")
    add_trial(folder, 6)
    offer = after_asking(browser, lambda b: b.find_element("css selector", "#served-bar button"))
    assert rows_shown(browser) == [3]
    assert offer.text == "Show new results"
    click(browser, "#served-bar button")
    WebDriverWait(browser, 300).until(lambda b: rows_shown(b) == [0, 1, 2, 3, 4, 5, 6])
    assert [e for e in browser.get_log("browser") if e["source"] != "rendering"] == []
