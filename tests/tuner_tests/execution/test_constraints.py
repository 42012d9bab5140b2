"""Constraints as Optuna's study and samplers see them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from simreg_core.results.delivered import delivered_in
from simreg_core.results.objectives import parse_constraint, total_violation
from simreg_core.results.request import SPACE_FILE
from simreg_core.results.tables import ResultStore
from tests.tuner_tests.drivers import Driver, report
from tests.tuner_tests.spaces import OBJECTIVES, make_space
from tuner.search import front_table
from tuner.study.folder import SearchPlan

BOUND = "robust_accuracy >= 0.45"
CONSTRAINED = (OBJECTIVES, f"{OBJECTIVES}\nconstraints: [{BOUND}, clean_accuracy <= 0.95]")


def constrained(folder: Path, sampler: str = "random", num_trials: int = 6) -> Driver:
    tuning = ("num_trials: 2, sampler: random", f"num_trials: {num_trials}, sampler: {sampler}")
    return Driver(folder, make_space(folder, CONSTRAINED, tuning))


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("clean_accuracy >= 0.9", 0.8, 0.1),
        ("clean_accuracy>=0.9", 0.9, 0.0),
        ("accuracy_cost <= 0.05", 0.15, 0.1),
        ("accuracy_cost <= -1e-2", -0.03, -0.02),
    ],
)
def test_violation_is_the_distance_to_the_bound(text: str, value: float, expected: float) -> None:
    bound = parse_constraint(text)
    assert bound.violation({f"validation.{bound.metric}": value}) == pytest.approx(expected)


def test_violations_do_not_make_up_for_each_other() -> None:
    row = {"validation.clean_accuracy": 0.7, "validation.robust_accuracy": 0.9}
    bounds = ["clean_accuracy >= 0.8", "robust_accuracy >= 0.5", "clean_accuracy >= 0.9"]
    assert total_violation(row, bounds) == pytest.approx(0.1 + 0.2)


# what Optuna receives


def test_study_has_the_violations_of_complete_trials(tmp_path: Path) -> None:
    driver = constrained(tmp_path)
    driver.run(
        report(clean_accuracy=0.9, robust_accuracy=0.5),
        report(clean_accuracy=1.0, robust_accuracy=0.4),
        report(num_epochs=1),
        {"failure": "RuntimeError: no"},
    )
    first, second, *others = (driver.trial(number).constraints for number in range(4))
    assert first == {BOUND: pytest.approx(-0.05), "clean_accuracy <= 0.95": pytest.approx(-0.05)}
    assert second == {BOUND: pytest.approx(0.05), "clean_accuracy <= 0.95": pytest.approx(0.05)}
    assert others == [{}, {}]


def test_trials_that_miss_a_constraint_are_not_among_the_best(tmp_path: Path) -> None:
    driver = constrained(tmp_path)
    driver.run(
        report(clean_accuracy=0.9, robust_accuracy=0.44),  # would be on the front
        report(clean_accuracy=0.8, robust_accuracy=0.46),
        report(clean_accuracy=0.7, robust_accuracy=0.50),
        report(num_epochs=1),
    )
    assert [trial.number for trial in driver.study.best_trials] == [1, 2]


def test_metric_of_a_constraint_that_is_missing_fails_the_trial_by_name(tmp_path: Path) -> None:
    extra = (OBJECTIVES, f"{OBJECTIVES}\nconstraints: [accuracy_cost <= 0.1]")
    driver = Driver(tmp_path, make_space(tmp_path, extra))
    driver.run(report())
    assert driver.trial().state is TrialState.FAIL
    assert "accuracy_cost is None" in driver.trial().user_attrs["reason"]


@pytest.mark.parametrize("sampler", ["nehvi", "tpe", "gp"])
def test_sampler_goes_on_with_feasible_infeasible_pruned_and_failed_trials(
    sampler: str, tmp_path: Path
) -> None:
    driver = constrained(tmp_path, sampler, num_trials=18)
    good = [report(clean_accuracy=0.5 + i / 50, robust_accuracy=0.6 - i / 30) for i in range(10)]
    driver.run(*good, report(num_epochs=1), {"failure": "RuntimeError: no"}, report())
    assert driver.searcher.error is None
    assert len(driver.study.trials) == 13


@pytest.mark.parametrize(("sampler", "num_trials"), [("tpe", 100), ("nsgaii", 150)])
def test_sampler_turns_to_where_the_constraint_is_met(
    sampler: str, num_trials: int, tmp_path: Path
) -> None:
    """The objectives pull towards small thresholds, which the constraint forbids."""
    driver = constrained(tmp_path, sampler, num_trials)
    for number in range(num_trials):
        threshold = driver.ask(f"t{number}")["config"]["regularizer"]["threshold"]
        robust = 0.5 if threshold > 0.6 else 0.44
        result = report(clean_accuracy=0.9 - threshold / 2, robust_accuracy=robust)
        driver.searcher.on_trial_complete(f"t{number}", result)
    late = [trial.params["regularizer.threshold"] > 0.6 for trial in driver.study.trials[-40:]]
    assert sum(late) / len(late) > 0.6  # at random 0.375


# what follows from it


def rows_of(*accuracies: tuple[float, float]) -> list[dict[str, Any]]:
    return [
        {
            "trial": number,
            "status": "complete",
            "validation.clean_accuracy": clean,
            "validation.robust_accuracy": robust,
            "validation.tradeoff_score": clean + robust - 1,
        }
        for number, (clean, robust) in enumerate(accuracies)
    ]


@pytest.mark.parametrize(
    ("accuracies", "title", "numbers"),
    [
        (((0.9, 0.44), (0.8, 0.46)), "Pareto front of 2 trials under ", ["1"]),
        (
            ((0.9, 0.1), (0.8, 0.44), (0.7, 0.3), (0.6, 0.2)),
            "None of 4 complete trials ",
            ["1", "2", "3"],
        ),
    ],
    ids=["feasible", "none-is-feasible"],
)
def test_printed_front_is_that_of_feasible_trials_or_of_the_nearest(
    accuracies: tuple[tuple[float, float], ...], title: str, numbers: list[str], tmp_path: Path
) -> None:
    driver = constrained(tmp_path)
    driver.run(*(report(clean_accuracy=c, robust_accuracy=r) for c, r in accuracies))
    store = ResultStore(tmp_path)
    store.create()
    for row in rows_of(*accuracies):
        store.write_trial("trials", row["trial"], [row])
    (tmp_path / SPACE_FILE).write_text(driver.space.to_yaml())
    table = front_table(SearchPlan(driver.space, tmp_path), store, delivered_in(tmp_path))
    assert str(table.title).startswith(title)
    assert [str(cell) for cell in table.columns[0].cells] == numbers
