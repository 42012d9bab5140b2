from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis.findings.fronts import pareto_info
from analysis.findings.modelled_front import noise_aware_front
from analysis.pareto.chart import Which, pareto_chart
from analysis.results.load import load_results
from tests.analysis_tests.noisy_searches import noisy_rows, search
from tests.analysis_tests.result_rows import alpha_rows, info_of


@pytest.mark.parametrize(
    ("which", "has_raw", "has_model"),
    [("raw", True, False), ("model", False, True), ("both", True, True)],
)
def test_fronts_that_are_drawn(
    which: Which, has_raw: bool, has_model: bool, tmp_path: Path
) -> None:
    results = load_results(search(tmp_path, noisy_rows(24)))
    info = pareto_info(results, "clean_accuracy", "robust_accuracy", "validation", None)
    front = noise_aware_front(results, "validation", ("clean_accuracy", "robust_accuracy"))
    chart = pareto_chart(info, front if has_model else None, which)
    series = {one.label: one for one in chart.panels[0].series}
    assert ("Pareto front" in series, "modelled front" in series) == (has_raw, has_model)
    if has_model:
        means = series["mean by the model"]
        drawn = np.column_stack([means.x, means.y])
        assert drawn == pytest.approx(front.means[front.on_front])


def test_note_states_the_conditions(tmp_path: Path) -> None:
    chart = pareto_chart(info_of(tmp_path, alpha_rows()[:2], split="test"))
    assert chart.title.startswith("demo")
    for part in ("Test split", "n = 400 images", "2 complete", "one seed per trial", "95 %"):
        assert part in chart.note
