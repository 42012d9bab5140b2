"""The modelled front in the report: with the measured values beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis.charts.chart import Chart, Series
from analysis.report.answer import answer
from analysis.report.page import Report, build_report, render_page
from analysis.report.tables import front_table
from analysis.report.trials import trial_table
from tests.analysis_tests.noisy_searches import SPACE, noisy_rows, search


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = search(tmp_path_factory.mktemp("noisy") / "demo", noisy_rows(40))
    return build_report(folder, "validation")


def chart(report: Report) -> Chart:
    found = next(figure for figure in report.figures if figure.name == "pareto")
    assert isinstance(found, Chart)
    return found


def series(report: Report, label: str, panel: int = 0) -> Series:
    return next(s for s in chart(report).panels[panel].series if s.label == label)


def test_front_is_that_of_the_estimates_with_their_intervals(report: Report) -> None:
    found = report.study.delivered
    squares = series(report, "modelled front")
    assert squares.trials is not None
    assert squares.trials.tolist() == found.trials[found.on_front].tolist()
    assert np.column_stack([squares.x, squares.y]) == pytest.approx(found.mean[found.on_front])
    assert squares.x_bounds is not None
    assert squares.x_bounds[0].tolist() == found.low[found.on_front, 0].tolist()
    assert not any(s.label == "Pareto front" for s in chart(report).panels[0].series)


def test_estimates_are_tied_to_the_measured_values_of_the_same_trial(report: Report) -> None:
    squares = series(report, "modelled front")
    links = series(report, "from estimate to measured value")
    assert links.x[::3] == pytest.approx(squares.x)
    trials = report.study.trials.set_index("trial").loc[squares.trials]
    assert links.y[1::3] == pytest.approx(trials["validation.robust_accuracy"].to_numpy())
    assert np.isnan(links.x[2::3]).all()


def test_answer_table_and_caption_are_of_the_same_front(report: Report) -> None:
    study, found = report.study, report.study.delivered
    assert "predict of left-out trials (R2)" in chart(report).caption
    given = answer(study)
    assert given.recommended == found.trials[found.best_first()[0]]
    assert "modelled tradeoff score" in given.sentences[0]
    assert "lucky ones" in chart(report).caption
    listed = front_table(study)
    assert listed is not None
    assert int(listed.rows[0][0]) == given.recommended
    assert len(listed.rows) == found.on_front.sum()
    rows = trial_table(study)["rows"]
    assert rows["robust_accuracy.model"] == pytest.approx(found.mean[:, 1], abs=1e-4)
    marked = [trial for trial, mark in zip(rows["trial"], rows["front"], strict=True) if mark]
    assert marked == found.trials[found.on_front].tolist()
    assert "lucky ones" in render_page(report)


def test_three_objectives_have_a_panel_per_two(tmp_path: Path) -> None:
    objectives = ["clean_accuracy", "robust_accuracy", "boundary_distance"]
    rows = [
        row | {"validation.boundary_distance": 1.0 - row["validation.clean_accuracy"]}
        for row in noisy_rows(24)
    ]
    report = build_report(
        search(tmp_path / "demo", rows, SPACE | {"objectives": objectives}), "validation"
    )
    found = report.study.delivered
    assert found.is_modelled
    for panel, columns in enumerate(([0, 1], [0, 2], [1, 2])):
        squares = series(report, "modelled front", panel)
        expected = found.mean[found.on_front][:, columns]
        assert np.column_stack([squares.x, squares.y]) == pytest.approx(expected)


def test_without_a_model_the_measured_front_is_shown_and_why(tmp_path: Path) -> None:
    rows = noisy_rows(20)
    for place, row in enumerate(sorted(rows, key=lambda row: row["regularizer.alpha"])):
        row["validation.robust_accuracy"] = 0.4 + 0.2 * (place % 2)  # no parameter predicts this
    report = build_report(search(tmp_path / "demo", rows), "validation")
    assert "do not predict robust accuracy" in chart(report).caption
    assert series(report, "Pareto front").trials is not None
    assert "modelled" not in answer(report.study).sentences[0]
    assert "robust_accuracy.model" not in trial_table(report.study)["rows"]
