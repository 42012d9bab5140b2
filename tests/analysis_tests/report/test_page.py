"""The page: special cases, no outside addresses, data that a browser can parse."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
from plotly.offline import get_plotlyjs

from analysis.report.page import report_html
from tests.analysis_tests.reports import (
    small_results,
    write_confirmation,
    write_space,
)
from tests.analysis_tests.result_rows import (
    Row,
    alpha_rows,
    complete_row,
    confirmation_rows,
    ended_row,
    random_rows,
    write_part,
)

NAN = float("nan")


def page_data(page: str) -> dict[str, Any]:
    """What the page's script reads; NaN would not parse in a browser."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert found is not None

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    data: dict[str, Any] = json.loads(found[1], parse_constant=refuse)
    return data


def without_plotly(page: str) -> str:
    assert page.count(get_plotlyjs()) == 1
    return page.replace(get_plotlyjs(), "")


CASES: dict[str, Callable[[], list[Row]]] = {
    "one trial": lambda: [complete_row(0, 0.9, 0.5)],
    "failed only": lambda: [
        ended_row(0, "failed", "<b>no memory</b>"),
        ended_row(1, "failed", None),
    ],
    "pruned only": lambda: [ended_row(0, "pruned", "asha")],
    "NaN metrics": lambda: [complete_row(0, NAN, 0.5), complete_row(1, 0.9, 0.5)],
    "all NaN": lambda: [complete_row(0, NAN, NAN)],
    "null metrics": lambda: [
        row | {"validation.robust_accuracy": 0.5 if row["trial"] else None}
        for row in alpha_rows()[:2]
    ],
    "no score": lambda: [complete_row(0, 0.9, 0.5) | {"validation.tradeoff_score": None}],
    "infeasible only": lambda: [complete_row(0, 0.9, 0.5, feasible=False)],
    "many": lambda: random_rows(30),
}


@pytest.mark.parametrize(
    ("case", "split"),
    [*((case, "validation") for case in CASES), ("one trial", "test"), ("failed only", "test")],
)
def test_special_cases_make_a_page(case: str, split: str, tmp_path: Path) -> None:
    rows = CASES[case]()
    folder = small_results(tmp_path / "demo", rows)
    page = report_html(folder, split)
    data = page_data(page)
    assert data["table"]["rows"]["trial"] == [row["trial"] for row in rows]
    for figure in data["figures"].values():
        go.Figure(figure_of_plain_colors(figure))  # plotly checks every key and value
    assert "<b>no memory" not in page


def figure_of_plain_colors(node: Any) -> Any:
    """A figure with the roles that the page replaces as plain colours."""
    if isinstance(node, dict):
        return {key: figure_of_plain_colors(value) for key, value in node.items()}
    if isinstance(node, list):
        return [figure_of_plain_colors(value) for value in node]
    return "#000" if isinstance(node, str) and node in ("ink", "muted") else node


@pytest.mark.parametrize(
    "objectives",
    [
        ["tradeoff_score"],
        ["clean_accuracy", "robust_accuracy.gaussian", "robust_accuracy.uniform"],
        ["clean_accuracy", "robust_accuracy", "accuracy_cost", "robustness_gain"],
        ["no_such_metric"],
    ],
)
def test_any_objectives(objectives: list[str], tmp_path: Path) -> None:
    folder = small_results(tmp_path / "demo", random_rows(10))
    write_space(folder, objectives=objectives)
    rows = page_data(report_html(folder, "validation"))["table"]["rows"]
    assert {len(cells) for cells in rows.values()} == {10}


def test_search_without_trials_yet(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    write_part(folder, "trials", "empty.parquet", [])
    write_space(folder)
    page = report_html(folder, "validation")
    assert "No results yet" in page


def test_page_is_repeatable_and_nothing_but_plotly_has_addresses(tmp_path: Path) -> None:
    page = without_plotly(report_html(small_results(tmp_path / "demo"), "validation"))
    assert page == without_plotly(report_html(tmp_path / "demo", "validation"))
    assert "http:" not in page
    assert "https:" not in page
    assert re.findall(r"""\s(?:src|action|srcset)\s*=""", page) == []
    assert set(re.findall(r"""\shref="([^"#]*)""", page)) <= {"data:,", ""}
    assert "default-src 'none'" in page


def test_what_results_say_is_escaped(tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script>"
    trials = [
        complete_row(0, 0.9, 0.5, **{"regularizer.dataset": evil}),
        complete_row(1, 0.8, 0.6),
        ended_row(2, "failed", evil),
    ]
    page = report_html(small_results(tmp_path / "demo", trials), "validation")
    assert "<script>alert" not in page
    assert evil in page_data(page)["table"]["rows"]["regularizer.dataset"]


def test_every_figure_has_words(tmp_path: Path) -> None:
    page = report_html(small_results(tmp_path / "demo", random_rows(30)), "validation")
    figures = re.findall(r'role="group" aria-label="([^"]+)" aria-describedby="([^"]+)"', page)
    assert len(figures) == len(page_data(page)["figures"]) >= 7
    for _, caption in figures:
        words = re.search(rf'<figcaption id="{caption}">(.*?)</figcaption>', page, re.S)
        assert words is not None
        assert re.search(r"\d", words[1])


def test_confirmed_trials_on_the_test_split(tmp_path: Path) -> None:
    folder = small_results(tmp_path / "demo")
    rows = confirmation_rows(1, {1000: (0.8, 0.6), 1001: (0.8, 0.7)})
    write_part(folder, "confirmation", "a.parquet", rows)
    write_confirmation(folder, {1: (0.1, 0.05)})
    page = report_html(folder, "test")
    names = [trace.get("name") for trace in page_data(page)["figures"]["pareto"]["data"]]
    assert any(name.startswith("confirmed") for name in names)
    assert "Yes, confirmed with fresh seeds." in page


@pytest.mark.long
def test_ten_thousand_trials_are_a_few_megabytes(tmp_path: Path) -> None:
    rows = random_rows(10_000)
    folder = small_results(tmp_path / "demo", rows[:1])
    shutil.rmtree(folder / "trials")
    write_part(folder, "trials", "all.parquet", rows)
    page = report_html(folder, "validation")
    assert len(without_plotly(page)) < 5e6
    data = page_data(page)
    assert any(trace["type"] == "scattergl" for trace in data["figures"]["pareto"]["data"])
    assert len(data["figures"]["parallel"]["data"][0]["dimensions"][0]["values"]) == 500
    assert "500 of 10000 trials drawn" in page
