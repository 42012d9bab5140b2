"""Trials of several networks, and trials that miss constraints."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from analysis.charts.wording import conditions, interval_text
from analysis.findings.fronts import ParetoInfo, pareto_info
from analysis.pareto.__main__ import main
from analysis.pareto.text import pareto_text
from analysis.results.load import ResultsError, load_results
from tests.analysis_tests.result_rows import complete_row, write_part, write_results

ACCURACIES = {
    0: ((0.90, 0.50), (0.92, 0.56), (0.94, 0.53)),
    1: ((0.7, 0.6), (0.8, 0.6), (0.9, 0.6)),
}
THRESHOLD = "regularizer.threshold"


def info_of(folder: Path, split: str = "validation") -> ParetoInfo:
    return pareto_info(load_results(folder), "clean_accuracy", "robust_accuracy", split, None)


def write_several(folder: Path) -> Path:
    """Two trials of three networks each, of another threshold."""
    trials, networks = [], []
    for trial, accuracies in ACCURACIES.items():
        changes: dict[str, Any] = {THRESHOLD: 0.2 + 0.4 * trial}
        means = np.mean(accuracies, axis=0)
        trials.append(complete_row(trial, *means, **changes, num_seeds=3, feasible=True))
        for seed, (clean, robust) in enumerate(accuracies):
            row = complete_row(trial, clean, robust, **changes, num_seeds=1)
            networks.append({**row, "seed": seed})
    write_results(folder, trials)
    for trial in ACCURACIES:
        rows = [row for row in networks if row["trial"] == trial]
        write_part(folder, "seeds", f"trial-{trial:05d}.parquet", rows)
    return folder


def constrained(folder: Path, *feasible: bool) -> Path:
    accuracies = ((0.9, 0.5), (0.8, 0.7), (0.7, 0.9))
    rows = [complete_row(n, *accuracies[n], feasible=own) for n, own in enumerate(feasible)]
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


def test_intervals_of_means_are_by_students_t(tmp_path: Path) -> None:
    info = info_of(write_several(tmp_path))
    half = 4.302653 * info.standard_errors
    assert info.intervals == pytest.approx(np.stack([info.points - half, info.points + half]))


def test_text_says_how_many_seeds_a_trial_has(tmp_path: Path) -> None:
    info = info_of(write_several(tmp_path))
    assert "mean over 3 seeds" in pareto_text(info)
    assert "mean of 3 seeds per trial" in conditions(info)
    assert "Wilson" not in interval_text(info)


def test_missing_network_is_refused_by_its_trial(tmp_path: Path) -> None:
    path = write_several(tmp_path) / "seeds" / "trial-00001.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)
    with pytest.raises(ResultsError, match="seeds: 2 networks of trial 1, which is the mean of 3"):
        info_of(tmp_path)


# constraints


def test_trials_that_miss_the_constraints_are_on_no_front(tmp_path: Path) -> None:
    info = info_of(constrained(tmp_path, True, False, True))
    assert info.on_front.tolist() == [True, False, True]
    assert info.table["feasible"].tolist() == [True, False, True]
    assert info.hypervolume == pytest.approx(0.9 * 0.5 + 0.7 * 0.4)
    assert "1 of them miss the constraints" in pareto_text(info)


def test_without_a_feasible_trial_there_is_no_front(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(constrained(tmp_path, False, False, False))]) == 0
    printed = capsys.readouterr().out
    assert "there is no Pareto front" in printed
    assert "hypervolume of the measured values 0 with" in printed
