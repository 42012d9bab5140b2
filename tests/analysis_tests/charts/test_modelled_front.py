"""The noise-aware front in the report: beside the raw one, and only where it can be trusted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis.charts import modelled_front
from analysis.charts.chart import Chart, Missing, Series
from analysis.findings.modelled_front import noise_aware_front
from analysis.report.answer import answer
from analysis.report.page import Report, build_report, render_page
from analysis.report.trials import trial_table
from tests.analysis_tests.noisy_searches import SPACE, noisy_rows, search
from tests.analysis_tests.reports import small_results
from tests.analysis_tests.result_rows import complete_row


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = search(tmp_path_factory.mktemp("noisy") / "demo", noisy_rows(40))
    return build_report(folder, "validation")


def chart(report: Report) -> Chart | Missing:
    found = next(figure for figure in report.figures if figure.name == "model_front")
    assert isinstance(found, Chart | Missing)
    return found


def series(report: Report, label: str, panel: int = 0) -> Series:
    found = chart(report)
    assert isinstance(found, Chart)
    return next(s for s in found.panels[panel].series if s.label == label)


def test_both_fronts_with_the_intervals_of_the_means(report: Report) -> None:
    model = noise_aware_front(report.study.results, "validation", report.study.objectives)
    means = series(report, "mean by the model")
    raw = series(report, "on the raw front")
    assert means.trials is not None
    assert raw.trials is not None
    assert means.trials.tolist() == model.trials[model.on_front].tolist()
    assert raw.trials.tolist() == model.trials[model.on_raw_front].tolist()
    assert np.column_stack([means.x, means.y]) == pytest.approx(model.means[model.on_front])
    assert means.x_bounds is not None
    half = 1.96 * model.deviations[model.on_front, 0]
    assert means.x_bounds == pytest.approx(np.stack([means.x - half, means.x + half]), abs=1e-5)


def test_means_are_tied_to_the_raw_figures_of_the_same_trial(report: Report) -> None:
    means, links = series(report, "mean by the model"), series(report, "from mean to raw value")
    assert links.x[::3] == pytest.approx(means.x)
    trials = report.study.trials.set_index("trial").loc[means.trials]
    assert links.y[1::3] == pytest.approx(trials["validation.robust_accuracy"].to_numpy())
    assert np.isnan(links.x[2::3]).all()


def test_caption_names_the_trials_of_each_front_and_the_fit(report: Report) -> None:
    caption = chart(report).caption  # type: ignore[union-attr]
    assert report.model is not None
    assert "on the modelled one only: trial" in caption
    assert f"R2_LOO {report.model.models[0].surface.leave_one_out.r2:.4g}" in caption


def test_either_front_can_be_confirmed(report: Report) -> None:
    raw, modelled = answer(report.study, report.model).commands[:2]
    confirm = f"python -m tuner.confirm {report.study.folder} --trials"
    front = report.study.trials["trial"].iloc[report.study.front]
    assert raw.command == f"{confirm} {' '.join(map(str, front))} --seeds 5"
    assert report.model is not None
    trials, probability = report.model.trials, report.model.probability
    best = sorted(trials[report.model.on_front], key=lambda n: -probability[trials == n])
    assert modelled.command == f"{confirm} {' '.join(map(str, best[:3]))} --seeds 5"
    assert modelled not in answer(report.study).commands


def test_small_modelled_front_is_confirmed_whole(report: Report) -> None:
    assert report.model is not None
    kept = np.zeros(len(report.model.trials), dtype=np.bool_)
    kept[:2] = True
    command = answer(report.study, report.model._replace(on_front=kept)).commands[1].command
    assert "--trials 0 1 --seeds" in command


def test_table_of_trials_has_the_models_probability(report: Report) -> None:
    assert report.model is not None
    rows = trial_table(report.study, report.model)["rows"]
    assert rows["model_probability"] == report.model.probability.tolist()
    assert "model_probability" not in trial_table(report.study, None)["rows"]


def test_three_objectives_have_a_panel_per_two(tmp_path: Path) -> None:
    objectives = ["clean_accuracy", "robust_accuracy", "boundary_distance"]
    rows = [row | {"validation.boundary_distance": 1.0 + row["trial"]} for row in noisy_rows(20)]
    folder = search(tmp_path / "demo", rows, SPACE | {"objectives": objectives})
    found = chart(build_report(folder, "validation"))
    assert isinstance(found, Chart)
    assert [panel.y.label.partition(" (")[0] for panel in found.panels] == [
        "robust accuracy",
        *["boundary distance"] * 2,
    ]


def test_model_that_explains_nothing_is_said_and_not_drawn(tmp_path: Path) -> None:
    rows = [row | {"validation.robust_accuracy": 0.5} for row in noisy_rows(8)]
    report = build_report(search(tmp_path / "demo", rows), "validation")
    found = chart(report)
    assert isinstance(found, Missing)
    assert "model of robust accuracy, each of 8 trials predicted by the others" in found.reason
    assert "the parameters explain nothing of robust accuracy" in found.reason
    assert answer(report.study, report.model) == answer(report.study)
    assert "P(front), model" not in render_page(report)


def test_of_many_trials_some_are_drawn(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    assert report.model is not None
    on_front, on_raw = report.model.on_front, report.model.on_raw_front
    monkeypatch.setattr(modelled_front, "MAX_DRAWN", 4)
    found = modelled_front.model_chart(report.study, report.model)
    assert isinstance(found, Chart)
    shown = [s.trials for s in found.panels[0].series if s.trials is not None]
    trials = set(np.concatenate(shown).tolist())
    for group in (on_raw, on_front & ~on_raw, ~on_front & ~on_raw):
        assert len(trials & set(report.model.trials[group].tolist())) == min(4, group.sum())
    assert f" {40 - len(trials)} more trials" in found.caption


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([complete_row(0, 0.9, 0.5, feasible=False)], "meets the constraints"),
        ([complete_row(0, 0.9, float("nan"))], "no complete trial has a value of"),
        ([complete_row(0, 0.9, 0.5)], "it needs 5 complete trials, found 1"),
    ],
)
def test_missing_model_says_why(rows: list[dict[str, object]], reason: str, tmp_path: Path) -> None:
    found = chart(build_report(small_results(tmp_path / "demo", rows), "validation"))
    assert isinstance(found, Missing)
    assert reason in found.reason
    assert "demo" not in found.reason
