from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from simreg_core.results.delivered import Delivered, best_of, columns_for, delivered
from simreg_core.results.objectives import objective, parse_constraint

SEARCH: dict[str, dict[str, Any]] = {
    "regularizer.alpha": {"type": "float", "low": 0.01, "high": 1.0, "log": True}
}
NAMES = ("clean_accuracy", "robust_accuracy")


def row_of(number: int, clean: float, robust: float, alpha: float = 0.1) -> dict[str, Any]:
    return {
        "trial": number,
        "status": "complete",
        "regularizer.alpha": alpha,
        "robustness.tradeoff_weight": 2.0,
        "validation.clean_accuracy": clean,
        "validation.robust_accuracy": robust,
        "validation.tradeoff_score": robust - 0.5 - 2 * (0.95 - clean),
    }


def front(
    rows: list[dict[str, Any]],
    networks: list[dict[str, Any]] | None = None,
    constraints: tuple[str, ...] = (),
    names: tuple[str, ...] = NAMES,
) -> Delivered:
    bounds = [parse_constraint(text) for text in constraints]
    ranking = objective("tradeoff_score" if len(names) > 1 else names[0])
    metrics = [objective(name) for name in names]
    return delivered(SEARCH, rows, networks or [], metrics, bounds, ranking=ranking)


def order(found: Delivered) -> list[int]:
    return [int(found.trials[row]) for row in found.best_first()]


def noisy_rows(number: int = 40, spread: float = 0.03) -> list[dict[str, Any]]:
    """Strong regularization costs clean and brings robust accuracy."""
    rng, rows = np.random.default_rng(0), []
    for trial, x in enumerate(rng.random(number)):
        clean, robust = np.array([0.97 - 0.2 * x**2, 0.5 + 0.2 * x]) + spread * rng.normal(size=2)
        rows.append(row_of(trial, float(clean.clip(0, 1)), float(robust), 0.01 * 100**x))
    return rows


def test_few_trials_are_ranked_by_measured_values_front_first() -> None:
    found = front([row_of(0, 0.9, 0.6), row_of(1, 0.95, 0.5), row_of(2, 0.89, 0.59)])
    assert found.problem
    assert found.on_front.tolist() == [True, True, False]
    assert order(found) == [0, 1, 2]  # scores 0.0, 0.0, -0.03
    assert [int(found.trials[row]) for row in found.shown()] == [1, 0]
    best = best_of(found)
    assert best is not None
    assert (best.trial, best.is_modelled) == (0, False)
    assert found.entry(2, 1) == "0.590"


def test_infeasible_trials_come_last_by_their_violation() -> None:
    rows = [row_of(0, 0.4, 0.9), row_of(1, 0.6, 0.5), row_of(2, 0.7, 0.4), row_of(3, 0.3, 0.9)]
    found = front(rows, constraints=("clean_accuracy >= 0.5",))
    assert found.feasible.tolist() == [False, True, True, False]
    assert order(found)[2:] == [0, 3]
    none = front(rows, constraints=("clean_accuracy >= 0.8",))
    assert not none.on_front.any()
    assert none.shown() == []
    assert order(none) == [2, 1, 0, 3]
    assert none.none_feasible("x >= 1") == "None of 4 complete trials meets x >= 1"


def test_modelled_means_may_meet_no_constraint_that_measured_values_meet() -> None:
    rows = noisy_rows()
    found = front(rows, constraints=("clean_accuracy >= 1.0",))
    assert not found.feasible.any()
    assert "by the models (3 as measured)" in found.none_feasible()
    assert (np.diff(found.mean[found.best_first(), 0]) <= 1e-12).all()  # the closest first


def test_constraint_on_an_objective_is_judged_by_the_estimate_that_is_shown() -> None:
    for bound in np.linspace(0.8, 0.96, 9):
        found = front(noisy_rows(), constraints=(f"clean_accuracy >= {bound}",))
        assert found.is_modelled
        np.testing.assert_array_equal(found.feasible, found.mean[:, 0] >= bound)


def test_score_follows_cost_and_gain() -> None:
    rows = noisy_rows()
    for row in rows:
        row["validation.accuracy_cost"] = 0.95 - row["validation.clean_accuracy"]
        row["validation.robustness_gain"] = row["validation.robust_accuracy"] - 0.5
    found = front(rows, names=("accuracy_cost", "robustness_gain"))
    assert found.is_rank_modelled
    np.testing.assert_allclose(found.rank, found.mean[:, 1] - 2 * found.mean[:, 0])


def test_range_without_extent_is_refused() -> None:
    for low, high in ((0.1, 0.1), (None, 1.0), (0.1, math.nan), (0.0, 1.0)):
        search = {"regularizer.alpha": {"type": "float", "low": low, "high": high, "log": True}}
        with pytest.raises(ValueError, match=r"^regularizer\.alpha: expected numbers low < high"):
            delivered(search, noisy_rows(), [], [objective("clean_accuracy")])


def test_ranking_metric_that_is_no_objective_is_modelled_by_itself() -> None:
    rows = noisy_rows()
    metrics, ranking = [objective("clean_accuracy")], objective("tradeoff_score")
    found = delivered(SEARCH, rows, [], metrics, ranking=ranking)
    measured = np.array([row["validation.tradeoff_score"] for row in rows])
    x = np.log10([row["regularizer.alpha"] / 0.01 for row in rows]) / 2
    truth = 0.2 * x - 2 * (0.2 * x**2 - 0.02)
    assert found.is_rank_modelled
    assert np.abs(found.rank - truth).mean() < 0.6 * np.abs(measured - truth).mean()

    for place, row in enumerate(sorted(rows, key=lambda row: row["regularizer.alpha"])):
        row["validation.tradeoff_score"] = float(place % 2)  # alpha does not predict this
    found = delivered(SEARCH, rows, [], metrics, ranking=ranking)
    assert found.is_modelled
    assert not found.is_rank_modelled
    best = best_of(found)
    assert best is not None
    assert not best.is_modelled
    assert found.rank.tolist() == [row["validation.tradeoff_score"] for row in rows]


def test_trials_without_values_are_left_out() -> None:
    rows = [
        row_of(0, 0.9, 0.5),
        row_of(1, math.nan, 0.5),
        row_of(2, 0.9, 0.5) | {"status": "failed"},
    ]
    assert front(rows).trials.tolist() == [0]
    assert front([]).best_first() == front([]).shown() == []
    assert best_of(front([])) is None


def test_modelled_score_shifts_with_the_modelled_accuracies() -> None:
    found = front(noisy_rows())
    assert found.is_modelled
    assert found.parameters == ("regularizer.alpha",)
    clean, robust = found.mean.T
    np.testing.assert_allclose(found.rank, robust - 0.5 - 2 * (0.95 - clean))
    feasible_order = found.rank[found.best_first()]
    size = int(found.on_front.sum())
    assert (np.diff(feasible_order[:size]) <= 0).all()
    assert (np.diff(feasible_order[size:]) <= 0).all()
    best = best_of(found)
    assert best is not None
    assert best.is_modelled
    assert len(found.shown()) == min(size, 8)
    numbers = [a[0, 1] for a in (found.mean, found.low, found.high, found.measured)]
    assert found.entry(0, 1) == "{:.3f} [{:.3f}, {:.3f}] ({:.3f})".format(*numbers)


def test_every_network_is_a_measurement() -> None:
    rows = noisy_rows(15)
    networks = []
    for row in rows:
        for shift in (-0.02, 0.02):
            values = {f"validation.{name}": row[f"validation.{name}"] + shift for name in NAMES}
            networks.append({**row, **values})
    found, alone = front(rows, networks), front(rows)
    np.testing.assert_array_equal(found.trials, alone.trials)
    np.testing.assert_array_equal(found.measured, alone.measured)
    assert not np.allclose(found.mean, alone.mean)


@pytest.mark.parametrize("name", ["clean_accuracy", "accuracy_cost"])
def test_front_of_one_objective_is_its_best_estimate(name: str) -> None:
    rows = noisy_rows()
    for row in rows:
        row["validation.accuracy_cost"] = 0.97 - row["validation.clean_accuracy"]
    found = front(rows, names=(name,))
    assert found.is_modelled
    best = found.best_first()[0]
    assert found.on_front[best]
    expected = found.mean.min() if name == "accuracy_cost" else found.mean.max()
    assert found.mean[best, 0] == expected == found.rank_value(best)


def test_columns_include_nested_parameters() -> None:
    columns = columns_for(["robustness.attacks.gaussian.max_epsilon", "seed"], [])
    assert {"trial", "status", "robustness.attacks", "seed"} <= set(columns)
    assert "regularizer.alpha" not in columns
