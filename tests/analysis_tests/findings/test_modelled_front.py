from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from matplotlib.lines import Line2D

from analysis.findings.fronts import NoCompleteTrialsError, pareto_info
from analysis.findings.modelled_front import NoiseAwareFront, front_probability, noise_aware_front
from analysis.pareto.__main__ import main
from analysis.pareto.picture import draw_pareto
from analysis.results.load import ResultsError, load_results
from tests.analysis_tests.result_rows import Row, complete_row, ended_row, write_part, write_results

ALPHA, THRESHOLD = "regularizer.alpha", "regularizer.threshold"
SEARCH = {
    THRESHOLD: {"type": "float", "low": 0.1, "high": 0.9},
    ALPHA: {"type": "float", "low": 0.01, "high": 1.0, "log": True},
}
SPACE = {
    "name": "demo",
    "search": SEARCH,
    "objectives": ["clean_accuracy", "robust_accuracy"],
}


def truth(threshold: float, alpha: float) -> tuple[float, float]:
    """A tradeoff in alpha (s from 0 to 1), best at a threshold of 0.5."""
    strength = math.log10(alpha) / 2 + 1
    loss = 0.2 * (threshold - 0.5) ** 2
    return 0.95 - 0.2 * strength**2 - loss, 0.4 + 0.2 * strength - loss


def noisy_rows(number: int, noise: float = 0.05, seed: int = 0, **changes: Any) -> list[Row]:
    rng = np.random.default_rng(seed)
    rows = []
    for trial in range(number):
        threshold, alpha = float(rng.uniform(0.1, 0.9)), float(10 ** rng.uniform(-2, 0))
        clean, robust = truth(threshold, alpha)
        parameters = {THRESHOLD: threshold, ALPHA: alpha}
        clean, robust = clean + rng.normal(0, noise / 10), robust + rng.normal(0, noise)
        rows.append(complete_row(trial, clean, robust, **parameters, **changes))
    return rows


def search(folder: Path, rows: Sequence[Row], space: object = SPACE) -> Path:
    write_results(folder, rows)
    (folder / "space.yaml").write_text(yaml.safe_dump(space, sort_keys=False))
    return folder


def front_of(folder: Path, split: str = "validation", **options: Any) -> NoiseAwareFront:
    return noise_aware_front(load_results(folder), split, **options)


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
    assert front.models[1].noise_std == pytest.approx(0.05, rel=0.4)
    assert front.is_trustworthy
    assert front.parameters == (THRESHOLD, ALPHA)


def test_fronts_are_those_of_raw_figures_and_of_modelled_means(tmp_path: Path) -> None:
    front = front_of(search(tmp_path, noisy_rows(30)))
    assert front.on_front.tolist() == [not d for d in dominated(front.means.tolist())]
    assert front.on_raw_front.tolist() == [not d for d in dominated(front.raw.tolist())]
    assert front.on_front.any()
    assert front.probability[front.on_front].mean() > front.probability[~front.on_front].mean()


def test_objectives_of_the_space_are_the_metrics_unless_others_are_asked(tmp_path: Path) -> None:
    objectives = ["accuracy_cost", "robustness_gain", "robust_accuracy.gaussian"]
    folder = search(tmp_path, noisy_rows(12), {**SPACE, "objectives": objectives})
    front = front_of(folder)
    assert [metric.name for metric in front.metrics] == objectives
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
    assert [metric.name for metric in front.metrics] == ["clean_accuracy", "robust_accuracy"]


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
    assert front.num_left_out == 2
    assert not {3, 5} & set(front.trials.tolist())
    assert [model.num_trials for model in front.models] == [12, 10]


def test_seeds_of_trials_bound_the_noise_from_below(tmp_path: Path) -> None:
    rows = noisy_rows(12, noise=0.001, num_seeds=2)
    folder = search(tmp_path, rows)
    networks = []
    for row in rows:
        for seed, shift in enumerate((0.1, -0.1)):
            robust = row["validation.robust_accuracy"] + shift
            networks.append({**row, "seed": seed, "validation.robust_accuracy": robust})
    write_part(folder, "seeds", "a.parquet", networks)
    # Deviations of 0.1 from each mean of two: variance 0.02 of a network, half of it of the mean.
    assert front_of(folder).models[1].noise_std >= 0.1


def test_noise_of_seeds_that_are_searched_is_no_input(tmp_path: Path) -> None:
    rows = noisy_rows(12)
    for number, row in enumerate(rows):
        row["seed"] = number
    searched = {"seed": {"type": "int", "low": 0, "high": 99}, **SEARCH}
    space = {**SPACE, "search": searched}
    assert front_of(search(tmp_path, rows, space)).parameters == (THRESHOLD, ALPHA)


# few, odd and wrong results


@pytest.mark.parametrize("number", [1, 2, 3])
def test_few_trials_have_equal_means_and_no_trust(number: int, tmp_path: Path) -> None:
    front = front_of(search(tmp_path, noisy_rows(number)))
    assert front.on_front.all()
    assert ((front.probability > 0) & (front.probability <= 1)).all()
    assert not front.is_trustworthy


def test_no_feasible_trial_gives_an_empty_front(tmp_path: Path) -> None:
    front = front_of(search(tmp_path, noisy_rows(6, feasible=False)))
    assert front.means.shape == (0, 2)
    assert front.table().empty


def test_no_complete_trial_is_said(tmp_path: Path) -> None:
    with pytest.raises(NoCompleteTrialsError, match="none of 1 trials is complete"):
        front_of(search(tmp_path, [ended_row(0, "failed", "no memory")]))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"split": "train"}, "unknown split 'train'"),
        ({"metrics": ["accuracy"]}, "no front in 'accuracy'; allowed: clean_accuracy"),
        ({"metrics": ["tradeoff_ratio"]}, "no front in 'tradeoff_ratio'"),
        ({"metrics": ["boundary_distance"]}, "no complete trial has a value of"),
    ],
)
def test_wrong_arguments_are_refused(options: Any, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=reason):
        front_of(search(tmp_path, noisy_rows(3)), **options)


@pytest.mark.parametrize("damage", [{ALPHA: {"type": "float", "low": 1}}, {ALPHA: 3}, [1]])
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


# probabilities


def test_probability_of_two_is_that_of_their_difference() -> None:
    # One metric, means 1 and 0, deviations 0.6 and 0.8: the difference is normal, 1 with SD 1.
    means, deviations = np.array([[1.0], [0.0]]), np.array([[0.6], [0.8]])
    found = front_probability(means, deviations, [True], 5_000, seed=1)
    first = 0.5 * (1 + math.erf(1 / math.sqrt(2)))
    assert found == pytest.approx([first, 1 - first], abs=0.025)
    turned = front_probability(means, deviations, [False], 5_000, seed=1)
    assert turned == pytest.approx([1 - first, first], abs=0.025)


def test_probability_of_two_metrics_is_that_of_not_being_dominated() -> None:
    # Equal in both metrics: the one is dominated if it loses both, which are independent.
    found = front_probability(np.zeros((2, 2)), np.ones((2, 2)), [True, False], 5_000, seed=0)
    assert found == pytest.approx([0.75, 0.75], abs=0.025)


def test_certain_means_are_on_the_front_or_not() -> None:
    means = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, -1.0]])
    deviations = np.array([[0.0, 0.0], [np.nan, np.nan], [0.0, 0.0]])
    found = front_probability(means, deviations, [True, True], 10, seed=0)
    assert found.tolist() == [1, 1, 0]


def test_leaving_hopeless_points_out_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    means = rng.normal(size=(60, 2))
    found = front_probability(means, np.full((60, 2), 0.2), [True, True], 2000, seed=0)
    counts = np.zeros(60)
    for _ in range(500):
        draw = (means + 0.2 * rng.normal(size=means.shape)).tolist()
        counts += ~np.array(dominated(draw))
    assert found == pytest.approx(counts / 500, abs=0.1)


# program, text, picture


def test_program_shows_both_fronts_and_how_well_the_models_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = search(tmp_path / "demo", noisy_rows(24))
    assert main([str(folder), "--front", "both"]) == 0
    printed = capsys.readouterr().out
    assert "\nPareto front, clean accuracy" in printed
    assert "Modelled front, clean accuracy (maximize) against robust accuracy" in printed
    assert f"over {THRESHOLD}, {ALPHA}" in printed
    front = front_of(folder)
    for model in front.models:
        found = f"model of {model.metric.label}, each of 24 trials predicted by the others: R2_LOO"
        assert f"{found} {model.r2:.4f}, mean error {model.mean_absolute_error:.4f}" in printed
    assert "WARNING" not in printed
    stem = "pareto_clean_accuracy_robust_accuracy_validation_both"
    names = sorted(path.name for path in (folder / "figures").iterdir())
    assert names == [f"{stem}.csv", f"{stem}.pdf", f"{stem}.png"]
    table = pd.read_csv(folder / "figures" / f"{stem}.csv")
    assert table["on_model_front"].tolist() == front.on_front.tolist()
    assert table["validation.robust_accuracy.model"].to_list() == pytest.approx(front.means[:, 1])
    assert table["front_probability"].to_list() == pytest.approx(front.probability)


def test_program_shows_the_modelled_front_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = search(tmp_path / "demo", noisy_rows(24))
    assert main([str(folder), "--front", "model", "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "\nPareto front" not in printed
    lines = printed.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("Modelled front"))
    front = front_of(folder)
    rows = [line.split() for line in lines[start + 3 : start + 3 + int(front.on_front.sum())]]
    assert {int(row[0]) for row in rows} == set(front.trials[front.on_front].tolist())


def test_raw_front_is_the_default_and_the_same_as_without_models(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = search(tmp_path / "demo", noisy_rows(12))
    main([str(folder), "--out", str(tmp_path / "out")])
    first = capsys.readouterr().out
    main([str(folder), "--front", "raw", "--out", str(tmp_path / "out")])
    assert capsys.readouterr().out == first
    assert "odel" not in first


def test_model_that_explains_nothing_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = search(tmp_path / "demo", noisy_rows(3))
    assert main([str(folder), "--front", "model"]) == 0
    expected = (
        "WARNING: the parameters explain nothing of clean accuracy and robust accuracy here: "
        "do not trust the modelled front."
    )
    assert expected in capsys.readouterr().out


def test_program_without_feasible_trials(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = search(tmp_path / "demo", noisy_rows(6, feasible=False))
    assert main([str(folder), "--front", "both"]) == 0
    assert "there is no modelled front" in capsys.readouterr().out


def test_picture_has_the_modelled_front_at_its_means(tmp_path: Path) -> None:
    results = load_results(search(tmp_path, noisy_rows(24)))
    info = pareto_info(results, "clean_accuracy", "robust_accuracy", "validation", None)
    front = noise_aware_front(results, "validation")
    both, alone = (draw_pareto(info, front, with_raw=raw).axes[0] for raw in (True, False))

    def labelled(lines: Sequence[Line2D]) -> dict[str, Line2D]:
        return {str(line.get_label()): line for line in lines}

    drawn = np.asarray(labelled(both.lines)["modelled front"].get_xydata())
    assert sorted(drawn.tolist()) == sorted(front.means[front.on_front].tolist())
    assert "raw Pareto front" in labelled(both.lines)
    assert "raw Pareto front" not in labelled(alone.lines)
