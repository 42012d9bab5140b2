from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml

from analysis.findings.delivered import delivered_front, front_columns
from analysis.findings.study import read_space
from analysis.results.load import ResultsError, load_results
from simreg_core.results.delivered import Delivered
from tests.analysis_tests.noisy_searches import (
    ALPHA,
    SEARCH,
    SPACE,
    THRESHOLD,
    noisy_rows,
    search,
    truth,
)
from tests.analysis_tests.result_rows import write_part, write_results

ACCURACIES = ("clean_accuracy", "robust_accuracy")


def front_of(
    folder: Path, split: str = "validation", metrics: Sequence[str] = ACCURACIES
) -> Delivered:
    results = load_results(folder)
    return delivered_front(
        results, read_space(folder), split, [results.metrics[m] for m in metrics]
    )


def test_estimates_are_nearer_to_the_truth_than_measured_values(tmp_path: Path) -> None:
    rows = noisy_rows(48)
    front = front_of(search(tmp_path, rows))
    expected = np.array([truth(row[THRESHOLD], row[ALPHA]) for row in rows])
    assert front.is_modelled
    assert front.parameters == (THRESHOLD, ALPHA)
    error, raw = np.abs(front.mean - expected), np.abs(front.measured - expected)
    assert (error.mean(axis=0) < 0.7 * raw.mean(axis=0)).all()


def test_metrics_may_be_any_with_a_direction(tmp_path: Path) -> None:
    folder = search(tmp_path, noisy_rows(24))
    front = front_of(folder, metrics=["accuracy_cost", "robustness_gain"])
    better = front.mean * [-1, 1]
    for row in np.flatnonzero(front.on_front):
        assert not ((better >= better[row]).all(axis=1) & (better > better[row]).any(axis=1)).any()
    assert front_of(folder, metrics=["tradeoff_score"]).on_front.sum() == 1


def test_split_decides_whose_figures_are_modelled(tmp_path: Path) -> None:
    folder = search(tmp_path, noisy_rows(24))
    validation, test = front_of(folder), front_of(folder, "test")
    assert test.measured == pytest.approx(validation.measured - 0.01)
    assert test.mean == pytest.approx(validation.mean - 0.01, abs=5e-3)


def test_without_a_space_file_what_varies_is_the_input(tmp_path: Path) -> None:
    folder = search(tmp_path, noisy_rows(20))
    (folder / "space.yaml").unlink()
    assert set(front_of(folder).parameters) == {THRESHOLD, ALPHA}


def test_infeasible_trials_teach_the_model_but_are_on_no_front(tmp_path: Path) -> None:
    rows = noisy_rows(20)
    everyone = front_of(search(tmp_path / "a", rows))
    best = int(np.argmax(everyone.mean[:, 1]))
    rows[best]["feasible"] = False
    front = front_of(search(tmp_path / "b", rows))
    assert not front.on_front[best]
    assert front.mean == pytest.approx(everyone.mean)
    assert front.best_first()[-1] == best


def test_every_seed_is_a_measurement(tmp_path: Path) -> None:
    rows = noisy_rows(16, noise=0.001, num_seeds=2)
    folder = search(tmp_path, rows)
    name = "validation.robust_accuracy"
    alone = front_of(folder)
    networks = [
        {**row, "seed": seed, name: row[name] + shift}
        for row in rows
        for seed, shift in enumerate((0.1, -0.1))
    ]
    write_part(folder, "seeds", "a.parquet", networks)
    width = (front_of(folder).high - front_of(folder).low)[:, 1].mean()
    assert width > 3 * (alone.high - alone.low)[:, 1].mean()


def test_seed_that_is_searched_is_no_input(tmp_path: Path) -> None:
    rows = [row | {"seed": number} for number, row in enumerate(noisy_rows(12))]
    searched = {"seed": {"type": "int", "low": 0, "high": 99}, **SEARCH}
    folder = search(tmp_path, rows, {**SPACE, "search": searched})
    assert front_of(folder).parameters == (THRESHOLD, ALPHA)


@pytest.mark.parametrize("number", [3, 24])
def test_columns_for_a_table(number: int, tmp_path: Path) -> None:
    front = front_of(search(tmp_path, noisy_rows(number)))
    table = front_columns(front, "validation")
    assert table["trial"].tolist() == list(range(number))
    estimates = table["validation.robust_accuracy.model"]
    assert (
        estimates.isna().all() if number == 3 else estimates.tolist() == front.mean[:, 1].tolist()
    )
    assert table["on_modelled_front"].isna().all() == (number == 3)


@pytest.mark.parametrize("damage", [{ALPHA: {"type": "float", "low": 1}}, [1]])
def test_damaged_space_file_is_refused(damage: object, tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"space\.yaml: damaged"):
        front_of(search(tmp_path, noisy_rows(3), {**SPACE, "search": damage}))


def test_many_trials_take_seconds(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    write_results(folder, [])
    rows = noisy_rows(3000)
    write_part(folder, "trials", "00000.parquet", rows)
    (folder / "space.yaml").write_text(yaml.safe_dump(SPACE, sort_keys=False))
    front = front_of(folder)
    assert len(front.trials) == 3000
    expected = np.array([truth(row[THRESHOLD], row[ALPHA]) for row in rows])
    assert np.abs(front.mean - expected).mean() < 0.01
