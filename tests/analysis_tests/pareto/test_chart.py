from __future__ import annotations

from pathlib import Path

import pytest

from analysis.findings.delivered import delivered_front
from analysis.findings.fronts import pareto_info
from analysis.findings.study import read_space
from analysis.pareto.chart import pareto_chart
from analysis.results.load import load_results
from tests.analysis_tests.noisy_searches import noisy_rows, search
from tests.analysis_tests.result_rows import alpha_rows, info_of


@pytest.mark.parametrize("is_modelled", [True, False])
def test_front_that_is_drawn(is_modelled: bool, tmp_path: Path) -> None:
    results = load_results(search(tmp_path, noisy_rows(24)))
    info = pareto_info(results, "clean_accuracy", "robust_accuracy", "validation", None)
    metrics = [axis.metric for axis in info.axes]
    found = delivered_front(results, read_space(tmp_path), "validation", metrics)
    chart = pareto_chart(info, found if is_modelled else None)
    labels = {one.label for one in chart.panels[0].series}
    assert ("Pareto front" in labels, "modelled front" in labels) == (not is_modelled, is_modelled)
    assert chart.name.endswith("_raw") == (not is_modelled)


def test_note_states_the_conditions(tmp_path: Path) -> None:
    chart = pareto_chart(info_of(tmp_path, alpha_rows()[:2], split="test"))
    assert chart.title.startswith("demo")
    for part in ("Test split", "n = 400 images", "2 complete", "one seed per trial", "95 %"):
        assert part in chart.note
