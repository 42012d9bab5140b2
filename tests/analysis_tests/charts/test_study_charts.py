"""Arrays of the report's charts against values by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis.charts.chart import Chart, Figure, Missing, ParallelChart, Series
from analysis.charts.style import log_ticks
from analysis.findings.score_noise import noise_of_score
from analysis.findings.study import load_study
from analysis.report.page import Report, build_report, render_page
from analysis.report.trials import trial_table
from tests.analysis_tests.reports import small_results, small_trials, write_space
from tests.analysis_tests.result_rows import complete_row


def figures_of(report: Report) -> dict[str, Figure]:
    return {figure.name: figure for figure in report.figures}


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Figure]:
    folder = small_results(tmp_path_factory.mktemp("small") / "demo")
    return figures_of(build_report(folder, "validation"))


def chart(figures: dict[str, Figure], name: str) -> Chart:
    figure = figures[name]
    assert isinstance(figure, Chart), figure
    return figure


def series(found: Chart, label: str, panel: int = 0) -> Series:
    return next(s for s in found.panels[panel].series if s.label == label)


def test_hypervolume_grows_with_trials_and_hours(figures: dict[str, Figure]) -> None:
    """0.9 x 0.5, then 0.8 x 0.2 on top; trial 3 failed without recording any time."""
    by_trials = series(chart(figures, "hypervolume"), "this search")
    by_hours = series(chart(figures, "hypervolume"), "this search", panel=1)
    assert by_trials.x.tolist() == [0.0, 1.0, 2.0, 4.0]
    assert by_trials.y == pytest.approx([0.0, 0.45, 0.61, 0.61])
    assert by_trials.steps == "after"
    assert by_hours.x[-1] == pytest.approx(3.0)
    assert chart(figures, "hypervolume").panels[1].x.label == "CPU-hours"


def test_area_beyond_the_baseline(figures: dict[str, Figure], tmp_path: Path) -> None:
    assert "attains an area of 0 beyond" in chart(figures, "attainment").caption
    folder = small_results(tmp_path / "demo", [complete_row(0, 0.94, 0.52)])
    found = figures_of(build_report(folder, "validation"))
    assert "attains an area of 0.002 beyond" in chart(found, "attainment").caption


def test_curves_of_trial_and_baseline(figures: dict[str, Figure]) -> None:
    found = chart(figures, "curves")
    assert [panel.title for panel in found.panels] == ["gaussian", "uniform"]
    assert series(found, "trial 0").y.tolist() == [0.9, 0.8, 0.52]
    assert series(found, "baseline").y == pytest.approx([0.92, 0.7, 0.44])
    band = series(found, "baseline ± SD")
    assert band.y_bounds is not None
    assert band.y_bounds[:, 0] == pytest.approx([0.90, 0.94])


def test_warm_starts_are_named_on_the_front_too(tmp_path: Path) -> None:
    folder = small_results(tmp_path / "demo")
    write_space(folder, tuning={"warm_starts": [{"regularizer.alpha": 1.0}]})
    report = build_report(folder, "validation")
    found = chart(figures_of(report), "curves")
    assert series(found, "trial 0 (warm start)").y.tolist() == [0.9, 0.8, 0.52]
    assert "Warm starts: trial 0." in found.caption
    assert "<td>0 (warm start)</td>" in render_page(report)
    assert trial_table(report.study)["rows"]["origin"] == ["warm start", "", "", ""]


def test_landscape_on_the_scales_of_the_search(figures: dict[str, Figure]) -> None:
    found = chart(figures, "landscape")
    panel = found.panels[0]
    assert (panel.x.label, panel.x.is_log) == ("regularizer.threshold", False)
    assert (panel.y.label, panel.y.is_log) == ("regularizer.alpha", True)
    points = panel.series[0]
    assert points.x.tolist() == [0.2, 0.5, 0.8]
    assert points.y.tolist() == [1.0, 10.0, 100.0]
    assert points.shade is not None
    assert points.shade.values == pytest.approx([0.06, 0.16, -0.24])


def test_parallel_coordinates(figures: dict[str, Figure]) -> None:
    found = figures["parallel"]
    assert isinstance(found, ParallelChart)
    alpha = next(d for d in found.dimensions if d.label == "alpha")
    assert alpha.values.tolist() == [2.0, 0.0, 1.0]  # logarithms, the best score last
    assert alpha.ticks == ((0.0, "1"), (1.0, "10"), (2.0, "100"))
    assert found.shade.values == pytest.approx([-0.24, 0.06, 0.16])


def test_gamma_and_learning_curves(figures: dict[str, Figure]) -> None:
    gamma = chart(figures, "gamma")
    assert [s.y.tolist() for s in gamma.panels[0].series] == [[0.25, 0.25], [0.75, 0.75]]
    learning = chart(figures, "learning")
    assert series(learning, "trial 0").y.tolist() == [0.5, 0.9]
    assert len(learning.panels) == 3


def test_probability_bars_and_why_importance_is_missing(figures: dict[str, Figure]) -> None:
    found = figures["importance"]
    assert isinstance(found, Missing)
    assert found.reason == "it needs 10 complete trials, found 3"
    bars = series(chart(figures, "probability"), "on the front")
    assert bars.trials is not None
    assert sorted(bars.trials.tolist()) == [0, 1]


def test_noise_of_single_networks_is_at_least_that_of_seeds(tmp_path: Path) -> None:
    """Binomial 0.03 and 0.05 against an SD of 0.02 over the baseline's seeds."""
    study = load_study(small_results(tmp_path / "demo"), "validation")
    assert study.noise[0] == pytest.approx([0.03, 0.05])
    many = [complete_row(0, 0.9, 0.5) | {"num_validation": 10**6}]
    of_many = load_study(small_results(tmp_path / "many", many), "validation")
    assert of_many.noise[0] == pytest.approx([0.02, 0.02])
    noise = noise_of_score(study)
    assert noise is not None
    assert noise[0] == pytest.approx(np.sqrt(0.03**2 + 0.05**2 + 2 * 0.02**2 / 3))


def test_reference_search_is_drawn_beside(tmp_path: Path) -> None:
    folder = small_results(tmp_path / "demo")
    other = small_results(tmp_path / "random", small_trials()[:1])
    found = figures_of(build_report(folder, "validation", other))
    reference = series(chart(found, "hypervolume"), "reference: demo (sampler: nehvi)")
    assert reference.y[-1] == pytest.approx(0.45)


def test_front_of_three_objectives_in_three_panels(tmp_path: Path) -> None:
    distances = (0.1, 0.2, 0.9, None)
    trials = [
        row | {"validation.boundary_distance": distance}
        for row, distance in zip(small_trials(), distances, strict=True)
    ]
    folder = small_results(tmp_path / "demo", trials)
    write_space(folder, objectives=["clean_accuracy", "robust_accuracy", "boundary_distance"])
    report = build_report(folder, "validation")
    assert report.study.on_front.tolist() == [True, True, True]
    found = figures_of(report)
    assert len(chart(found, "pareto").panels) == 3
    assert report.study.baseline is not None  # of the accuracies, which its curves give
    assert np.isnan(report.study.baseline[0]).tolist() == [False, False, True]
    assert series(chart(found, "pareto"), "Pareto front").kind == "points"
    assert len(series(chart(found, "pareto"), "front of these two").x) == 2


def test_ticks_of_a_long_logarithmic_range() -> None:
    assert [text for _, text in log_ticks(0.001, 10.0)] == ["0.001", "0.01", "0.1", "1", "10"]
