from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml

from analysis.findings.modelled_front import NoiseAwareFront, noise_aware_front
from analysis.results.load import ResultsError, load_results
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
) -> NoiseAwareFront:
    return noise_aware_front(load_results(folder), split, metrics)


def dominated(points: Sequence[Sequence[float]]) -> list[bool]:
    """By comparing all pairs; larger is better."""
    return [
        any(all(b >= a for a, b in zip(p, q, strict=True)) and list(p) != list(q) for q in points)
        for p in points
    ]


# what is modelled


def test_modelled_means_are_nearer_to_the_truth_than_raw_figures(tmp_path: Path) -> None:
    rows = noisy_rows(48)
    front = front_of(search(tmp_path, rows))
    expected = np.array([truth(row[THRESHOLD], row[ALPHA]) for row in rows])
    assert front.raw.tolist() == [
        [row["validation.clean_accuracy"], row["validation.robust_accuracy"]] for row in rows
    ]
    for column in (0, 1):
        error = np.abs(front.means - expected)[:, column].mean()
        assert error < 0.7 * np.abs(front.raw - expected)[:, column].mean()
    assert front.models[1].surface.noise_std == pytest.approx(0.05, rel=0.4)
    assert front.is_trustworthy
    assert front.parameters == (THRESHOLD, ALPHA)


def test_fronts_are_those_of_raw_figures_and_of_modelled_means(tmp_path: Path) -> None:
    front = front_of(search(tmp_path, noisy_rows(30)))
    assert front.on_front.tolist() == [not d for d in dominated(front.means.tolist())]
    assert front.on_raw_front.tolist() == [not d for d in dominated(front.raw.tolist())]
    assert front.on_front.any()
    assert front.probability[front.on_front].mean() > front.probability[~front.on_front].mean()


def test_metrics_may_be_any_with_a_direction(tmp_path: Path) -> None:
    folder = search(tmp_path, noisy_rows(12))
    metrics = ["accuracy_cost", "robustness_gain", "robust_accuracy.gaussian"]
    front = front_of(folder, metrics=metrics)
    assert [metric.name for metric in front.metrics] == metrics
    signed = front.means * [-1, 1, 1]
    assert front.on_front.tolist() == [not d for d in dominated(signed.tolist())]
    assert front_of(folder, metrics=["tradeoff_score"]).on_front.sum() == 1


def test_split_decides_whose_figures_are_modelled(tmp_path: Path) -> None:
    folder = search(tmp_path, noisy_rows(12))
    validation, test = front_of(folder), front_of(folder, "test")
    assert test.raw == pytest.approx(validation.raw - 0.01)
    assert test.means == pytest.approx(validation.means - 0.01, abs=1e-4)


def test_without_a_space_file_what_varies_is_the_input(tmp_path: Path) -> None:
    folder = search(tmp_path, noisy_rows(20))
    (folder / "space.yaml").unlink()
    front = front_of(folder)
    assert set(front.parameters) == {THRESHOLD, ALPHA}


def test_infeasible_trials_teach_the_model_but_are_on_no_front(tmp_path: Path) -> None:
    rows = noisy_rows(20)
    everyone = front_of(search(tmp_path / "a", rows))
    best = int(np.argmax(everyone.means[:, 1]))
    rows[best]["feasible"] = False
    front = front_of(search(tmp_path / "b", rows))
    assert best not in front.trials
    assert front.models[0].num_trials == 20
    assert front.means == pytest.approx(np.delete(everyone.means, best, axis=0))


def test_trial_without_a_figure_is_left_out_and_counted(tmp_path: Path) -> None:
    rows = noisy_rows(12)
    rows[3]["validation.robust_accuracy"] = math.nan
    rows[5]["validation.robust_accuracy"] = None
    front = front_of(search(tmp_path, rows))
    assert not {3, 5} & set(front.trials.tolist())
    assert [model.num_trials for model in front.models] == [12, 10]


def test_seeds_of_trials_bound_the_noise_from_below(tmp_path: Path) -> None:
    rows = noisy_rows(12, noise=0.001, num_seeds=2)
    folder = search(tmp_path, rows)
    name = "validation.robust_accuracy"
    networks = [
        {**row, "seed": seed, name: row[name] + shift}
        for row in rows
        for seed, shift in enumerate((0.1, -0.1))
    ]
    write_part(folder, "seeds", "a.parquet", networks)
    # Deviations of 0.1 from each mean of two: variance 0.02 of a network, half of it of the mean.
    assert front_of(folder).models[1].surface.noise_std >= 0.1


def test_seed_that_is_searched_is_no_input(tmp_path: Path) -> None:
    rows = [row | {"seed": number} for number, row in enumerate(noisy_rows(12))]
    searched = {"seed": {"type": "int", "low": 0, "high": 99}, **SEARCH}
    folder = search(tmp_path, rows, {**SPACE, "search": searched})
    assert front_of(folder).parameters == (THRESHOLD, ALPHA)


# few, odd and wrong results


@pytest.mark.parametrize("number", [1, 3])
def test_few_trials_have_equal_means_and_no_trust(number: int, tmp_path: Path) -> None:
    front = front_of(search(tmp_path, noisy_rows(number)))
    assert front.on_front.all()
    assert ((front.probability > 0) & (front.probability <= 1)).all()
    assert not front.is_trustworthy


def test_no_feasible_trial_gives_an_empty_front(tmp_path: Path) -> None:
    front = front_of(search(tmp_path, noisy_rows(6, feasible=False)))
    assert front.means.shape == (0, 2)
    assert front.table().empty


def test_metric_without_values_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="no complete trial has a value of"):
        front_of(search(tmp_path, noisy_rows(3)), metrics=["boundary_distance"])


@pytest.mark.parametrize("damage", [{ALPHA: {"type": "float", "low": 1}}, [1]])
def test_damaged_space_file_is_refused(damage: object, tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"space\.yaml: search is damaged"):
        front_of(search(tmp_path, noisy_rows(3), {**SPACE, "search": damage}))


def test_many_trials_take_seconds(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    write_results(folder, [])
    rows = noisy_rows(3000)
    write_part(folder, "trials", "00000.parquet", rows)
    (folder / "space.yaml").write_text(yaml.safe_dump(SPACE, sort_keys=False))
    front = front_of(folder)
    assert len(front.trials) == 3000
    assert front.num_draws == 200
    expected = np.array([truth(row[THRESHOLD], row[ALPHA]) for row in rows])
    assert np.abs(front.means - expected).mean() < 0.01
