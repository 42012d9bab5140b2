"""Trials of several networks, trials that miss constraints, and results of the version before."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from matplotlib.collections import PathCollection

from analysis.findings.fronts import ParetoInfo, pareto_info
from analysis.pareto.__main__ import main
from analysis.pareto.picture import draw_pareto
from analysis.pareto.text import pareto_text
from analysis.poster.panel import LinePlot
from analysis.poster.panels import curves_panel, tradeoff_panel
from analysis.poster.variants import conditions, load_study
from analysis.results.load import ResultsError, load_results
from analysis.results.seed_groups import trial_networks
from simreg_core.results.schema import SCHEMA_VERSION
from tests.analysis_tests.posters import curve_rows
from tests.analysis_tests.result_rows import (
    Row,
    baseline_curves,
    complete_row,
    write_part,
    write_results,
)

ACCURACIES = {
    0: ((0.90, 0.50), (0.92, 0.56), (0.94, 0.53)),
    1: ((0.7, 0.6), (0.8, 0.6), (0.9, 0.6)),
}
THRESHOLD = "regularizer.threshold"


def info_of(folder: Path, split: str = "validation") -> ParetoInfo:
    return pareto_info(load_results(folder), "clean_accuracy", "robust_accuracy", split, None)


def write_several(folder: Path) -> Path:
    """Two trials of three networks each, of another threshold."""
    trials, networks, curves = [], [], baseline_curves()
    for trial, accuracies in ACCURACIES.items():
        changes: dict[str, Any] = {THRESHOLD: 0.2 + 0.4 * trial}
        means = np.mean(accuracies, axis=0)
        trials.append(complete_row(trial, *means, **changes, num_seeds=3, feasible=True))
        for seed, (clean, robust) in enumerate(accuracies):
            row = complete_row(trial, clean, robust, **changes, num_seeds=1)
            networks.append({**row, "seed": seed})
            curves += curve_rows("trial", trial, seed, clean, robust)
    write_results(folder, trials, curves)
    for trial in ACCURACIES:
        rows = [row for row in networks if row["trial"] == trial]
        write_part(folder, "seeds", f"trial-{trial:05d}.parquet", rows)
    return folder


def constrained(folder: Path, *feasible: bool) -> Path:
    accuracies = ((0.9, 0.5), (0.8, 0.7), (0.7, 0.9))
    rows: list[Row] = [
        complete_row(number, clean, robust, feasible=is_feasible, **{THRESHOLD: 0.1 + number / 10})
        for number, ((clean, robust), is_feasible) in enumerate(
            zip(accuracies, feasible, strict=True)
        )
    ]
    return write_results(folder, rows)


# several networks


def test_error_of_a_mean_is_that_over_its_seeds(tmp_path: Path) -> None:
    info = info_of(write_several(tmp_path))
    assert info.num_seeds == (3, 3)
    for trial, accuracies in ACCURACIES.items():
        expected = [
            math.sqrt(sum((v - sum(vs) / 3) ** 2 for v in vs) / 2 / 3)
            for vs in zip(*accuracies, strict=True)
        ]
        assert info.standard_errors[trial] == pytest.approx(expected, abs=1e-12)


def test_text_and_picture_say_how_many_seeds_a_trial_has(tmp_path: Path) -> None:
    info = info_of(write_several(tmp_path))
    text = pareto_text(info)
    assert "± standard error of the mean over 3 seeds where given" in text
    assert "3 seeds per trial: a screening" in text
    labels = [entry.get_text() for entry in draw_pareto(info).legends[0].get_texts()]
    assert "± standard error of the mean over 3 seeds" in labels


def test_networks_of_a_trial_are_its_rows_of_the_table_of_seeds(tmp_path: Path) -> None:
    results = load_results(write_several(tmp_path))
    networks = trial_networks(results, results.trials)
    assert networks["trial"].tolist() == [0, 0, 0, 1, 1, 1]
    assert networks["seed"].tolist() == [0, 1, 2, 0, 1, 2]
    assert networks["validation.clean_accuracy"].tolist() == pytest.approx(
        [clean for accuracies in ACCURACIES.values() for clean, _ in accuracies]
    )


def test_missing_network_is_refused_by_its_trial(tmp_path: Path) -> None:
    path = write_several(tmp_path) / "seeds" / "trial-00001.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)
    with pytest.raises(ResultsError, match="seeds: 2 networks of trial 1, which is the mean of 3"):
        info_of(tmp_path)


def test_poster_has_mean_and_deviation_over_the_networks(tmp_path: Path) -> None:
    panel = tradeoff_panel(write_several(tmp_path), "validation")
    (cost,) = [p for p in panel.plots if isinstance(p, LinePlot) and "cost" in p.title]
    (line,) = cost.lines
    for place, accuracies in enumerate(ACCURACIES.values()):
        costs = [0.92 - clean for clean, _ in accuracies]
        assert line.mean[place] == pytest.approx(np.mean(costs))
        assert line.std[place] == pytest.approx(np.std(costs, ddof=1))
    assert "mean ± SD of 3 seeds" in conditions(load_study(tmp_path, "validation"), "n")


def test_curves_of_one_trials_networks_are_one_line(tmp_path: Path) -> None:
    panel = curves_panel(write_several(tmp_path), "validation")
    (plot,) = [p for p in panel.plots if isinstance(p, LinePlot) and p.title == "Gaussian noise"]
    assert len(plot.lines) == 3  # the baseline and two thresholds
    for line, accuracies in zip(plot.lines[1:], ACCURACIES.values(), strict=True):
        clean = [value for value, _ in accuracies]
        assert line.mean[0] == pytest.approx(np.mean(clean))
        assert line.std[0] == pytest.approx(np.std(clean, ddof=1))


# constraints


def test_trials_that_miss_the_constraints_are_on_no_front(tmp_path: Path) -> None:
    info = info_of(constrained(tmp_path, True, False, True))
    assert info.on_front.tolist() == [True, False, True]
    assert info.table["feasible"].tolist() == [True, False, True]
    assert info.hypervolume == pytest.approx(0.9 * 0.5 + 0.7 * 0.4)
    assert "3 complete (1 of them miss the constraints), 0 pruned" in pareto_text(info)


def test_trials_that_miss_the_constraints_are_drawn_apart(tmp_path: Path) -> None:
    axes = draw_pareto(info_of(constrained(tmp_path, True, False, True))).axes[0]
    drawn = [c for c in axes.collections if isinstance(c, PathCollection)]
    (apart,) = [c for c in drawn if c.get_label() == "trial that misses the constraints"]
    assert np.asarray(apart.get_offsets()).tolist() == [[0.8, 0.7]]
    others = np.concatenate(
        [np.asarray(c.get_offsets()) for c in drawn if c is not apart and c.get_zorder() == 3]
    )
    assert [0.8, 0.7] not in others.tolist()


def test_without_a_feasible_trial_there_is_no_front(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(constrained(tmp_path, False, False, False))]) == 0
    printed = capsys.readouterr().out
    assert "No complete trial meets the search's constraints: there is no Pareto front." in printed
    assert "hypervolume 0 with" in printed


@pytest.mark.parametrize("version", [str(SCHEMA_VERSION - 1), str(SCHEMA_VERSION + 1)])
def test_other_versions_are_refused_in_one_line(
    version: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_results(tmp_path, [complete_row(0, 0.9, 0.5)])
    write_part(tmp_path, "trials", "00001.parquet", [complete_row(1, 0.9, 0.5)], version=version)
    assert main([str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"00001.parquet: schema version {version}" in line
