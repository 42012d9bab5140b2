from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from tests.tuner_tests.spaces import make_space
from tuner.confirmation.selection import choose, choose_by, describe_models, model_trials
from tuner.space.search_space import ConfirmConfig, SearchSpace

ALPHA, THRESHOLD = "regularizer.alpha", "regularizer.threshold"
LUCKY = 7
"""A mediocre trial whose seed makes it look the best of all."""


def truth(threshold: float, alpha: float) -> tuple[float, float]:
    """A small alpha is best for clean accuracy, a threshold of 0.5 for robust accuracy."""
    return 0.9 - 0.05 * np.log10(alpha / 0.01), 0.6 - (threshold - 0.5) ** 2


def searched(number: int = 30, noise: float = 0.01, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of a search with small noise, but for the lucky trial."""
    rng = np.random.default_rng(seed)
    rows = []
    for trial in range(number):
        threshold, alpha = rng.uniform(0.1, 0.9), 10 ** rng.uniform(-2, 0.4)
        if trial == LUCKY:
            threshold, alpha = 0.15, 1.0
        clean, robust = np.array(truth(threshold, alpha)) + rng.normal(0, noise, 2)
        if trial == LUCKY:
            robust += 0.3
        rows.append(
            {
                "trial": trial,
                "status": "complete",
                "num_seeds": 1,
                THRESHOLD: threshold,
                ALPHA: alpha,
                "validation.clean_accuracy": clean,
                "validation.robust_accuracy": robust,
                "validation.tradeoff_score": clean + robust - 1.4,
            }
        )
    return rows


def front_of(rows: Sequence[dict[str, Any]]) -> set[int]:
    """Numbers of the trials on the raw front, by comparing all pairs."""
    columns = ("validation.clean_accuracy", "validation.robust_accuracy")
    points = {
        row["trial"]: tuple(row[column] for column in columns)
        for row in rows
        if row["status"] == "complete"
    }
    return {
        number
        for number, (clean, robust) in points.items()
        if not any(
            c >= clean and r >= robust and (c, r) != (clean, robust) for c, r in points.values()
        )
    }


def chosen(
    rows: Sequence[dict[str, Any]],
    space: SearchSpace,
    by: Literal["raw", "model"],
    top: int | Literal["front"] = 3,
) -> list[int]:
    wanted = ConfirmConfig(top=top, seeds=2, by=by)
    return choose_by(wanted, rows, [], front_of(rows), space)[0]


def test_lucky_trial_is_chosen_by_raw_figures_and_not_by_the_model(tmp_path: Path) -> None:
    rows, space = searched(), make_space(tmp_path)
    assert chosen(rows, space, "raw", 1) == [LUCKY]
    by_model = chosen(rows, space, "model")
    assert LUCKY not in by_model
    scores = {row["trial"]: sum(truth(row[THRESHOLD], row[ALPHA])) for row in rows}
    assert set(by_model) <= set(sorted(scores, key=lambda number: -scores[number])[:6])


def test_whole_front_is_that_of_the_modelled_means(tmp_path: Path) -> None:
    rows, space = searched(), make_space(tmp_path)
    found = model_trials(rows, [], space)
    assert LUCKY in front_of(rows)
    assert LUCKY not in found.front
    assert set(chosen(rows, space, "model", "front")) == found.front


def test_single_objective_is_ranked_by_its_modelled_mean(tmp_path: Path) -> None:
    space = make_space(tmp_path, ("[clean_accuracy, robust_accuracy]", "[robust_accuracy]"))
    rows = searched()
    found = model_trials(rows, [], space)
    assert set(found.r2) == {"robust_accuracy"}
    best = max(found.scores, key=lambda number: found.scores[number])
    assert found.front == {best}
    assert chosen(rows, space, "model", 1) == [best]
    assert abs(rows[best][THRESHOLD] - 0.5) < 0.2


def test_objective_that_is_minimized_is_the_less_the_better(tmp_path: Path) -> None:
    space = make_space(tmp_path, ("[clean_accuracy, robust_accuracy]", "[accuracy_cost]"))
    rows = searched()
    for row in rows:
        row["validation.accuracy_cost"] = 0.95 - row["validation.clean_accuracy"]
    (best,) = chosen(rows, space, "model", 1)
    assert rows[best][ALPHA] < 0.03
    assert model_trials(rows, [], space).front == {best}


def test_given_scores_take_the_place_of_recorded_ones(tmp_path: Path) -> None:
    rows = searched(4)
    scores = {0: 0.1, 1: 0.4, 2: 0.3, 3: 0.2}
    assert choose(rows, {0, 2}, make_space(tmp_path), 4, scores) == [2, 0, 1, 3]


def test_only_complete_trials_are_modelled_and_chosen(tmp_path: Path) -> None:
    rows = searched()
    failed = dict.fromkeys(k for k in rows[0] if k.startswith("validation."))
    rows[3] = {**rows[3], **failed, "status": "failed"}
    found = model_trials(rows, [], make_space(tmp_path))
    assert set(found.scores) == set(range(30)) - {3}
    assert 3 not in chosen(rows, make_space(tmp_path), "model", 30)


def test_constraints_are_met_by_recorded_figures(tmp_path: Path) -> None:
    objectives = "objectives: [clean_accuracy, robust_accuracy]"
    constraint = 'constraints: ["clean_accuracy >= 0.85"]'
    space = make_space(tmp_path, (objectives, f"{objectives}\n{constraint}"))
    rows = searched()
    met = {row["trial"] for row in rows if row["validation.clean_accuracy"] >= 0.85}
    assert model_trials(rows, [], space).front <= met
    assert set(chosen(rows, space, "model", len(met))) == met


def test_several_seeds_show_how_much_is_noise(tmp_path: Path) -> None:
    rows = searched()
    networks = []
    for row in rows:
        row["num_seeds"] = 2
        for shift in (0.4, -0.4):
            robust = row["validation.robust_accuracy"] + shift
            networks.append({**row, "validation.robust_accuracy": robust})
    space = make_space(tmp_path)
    quiet, loud = (model_trials(rows, seeds, space) for seeds in ([], networks))
    # Means of two whose networks differ by 0.8 say little of a range of 0.3.
    assert loud.r2["robust_accuracy"] < quiet.r2["robust_accuracy"]


def test_models_are_described_with_a_warning_where_they_explain_nothing(tmp_path: Path) -> None:
    space = make_space(tmp_path)
    text = describe_models(model_trials(searched(), [], space))
    assert text.startswith("chosen by a model of each metric (R2_LOO: clean accuracy 0.")
    assert "WARNING" not in text
    few = model_trials(searched(3), [], space)
    assert few.unexplained == ("clean_accuracy", "robust_accuracy", "tradeoff_score")
    text = describe_models(few)
    assert text.startswith("WARNING: a model explains nothing of clean accuracy and robust")
    assert text.endswith("chosen by the raw figures")


def test_without_a_complete_trial_nothing_is_chosen(tmp_path: Path) -> None:
    wanted = ConfirmConfig(top=3, seeds=2, by="model")
    assert choose_by(wanted, [], [], set(), make_space(tmp_path)) == ([], "")


@pytest.mark.parametrize("number", [1, 2, 4])
def test_raw_figures_choose_where_the_model_explains_nothing(number: int, tmp_path: Path) -> None:
    rows, space = searched(number), make_space(tmp_path)
    for top in (1, 3):
        assert chosen(rows, space, "model", top) == chosen(rows, space, "raw", top)
