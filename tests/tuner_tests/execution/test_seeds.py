"""Trials of several networks: what is asked for, and what becomes of their outcomes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher

from simreg_core.registry import METRICS
from simreg_core.results.schema import SPLITS
from tests.tuner_tests.drivers import Driver, report, write_record
from tests.tuner_tests.spaces import ALPHA, THRESHOLD, make_space
from tuner.execution.records import read_record

SEEDS = ("sampler: random", "num_seeds: 3")


@pytest.fixture
def driver(tmp_path: Path) -> Driver:
    return Driver(tmp_path, make_space(tmp_path, SEEDS))


def network(seed: int, clean: float = 0.9, robust: float = 0.5) -> dict[str, Any]:
    """The last report of one network, with every column that a mean is over."""
    result = report(clean_accuracy=clean, robust_accuracy=robust)
    record = read_record(result)
    columns = {f"{split}.{name}": 0.1 for split in SPLITS for name in METRICS.own}
    times = {"train_seconds": 1.0, "evaluate_seconds": 1.0, "started_at": "a", "finished_at": "b"}
    record["columns"] = columns | times | record["columns"] | {"seed": seed}
    return {**result, "record": write_record(record)}


def ask_all(driver: Driver, count: int) -> list[dict[str, Any]]:
    return [driver.ask(f"n{place}") for place in range(count)]


def test_networks_of_a_trial_differ_in_their_seed_and_folder_alone(driver: Driver) -> None:
    assert driver.searcher.num_networks == 6
    asked = ask_all(driver, 3)
    assert [suggestion["trial"] for suggestion in asked] == [0, 0, 0]
    assert [suggestion["config"]["seed"] for suggestion in asked] == [0, 1, 2]
    folders = [suggestion["folder"] for suggestion in asked]
    assert folders == ["00000/seed-0", "00000/seed-1", "00000/seed-2"]
    same = [{**suggestion["config"], "seed": 0} for suggestion in asked]
    assert same[0] == same[1] == same[2]
    later = ask_all(driver, 3)
    assert [suggestion["trial"] for suggestion in later] == [1, 1, 1]
    assert [suggestion["config"]["seed"] for suggestion in later] == [3, 4, 5]  # of its own
    assert driver.searcher.suggest("more") == Searcher.FINISHED


@pytest.mark.parametrize("first", [0, 5, 2**32 - 1])
def test_single_networks_have_seeds_from_that_of_the_trial_on(first: int, tmp_path: Path) -> None:
    seed = ("trial:\n", f"trial:\n  seed: {first}\n")
    driver = Driver(tmp_path, make_space(tmp_path, seed, ("num_trials: 2", "num_trials: 3")))
    seeds = [suggestion["config"]["seed"] for suggestion in ask_all(driver, 3)]
    assert seeds == [(first + number) % 2**32 for number in range(3)]


def test_searched_seed_counts_as_it_is(tmp_path: Path) -> None:
    searched = (ALPHA, f"{ALPHA}\n  seed: {{type: int, low: 8, high: 9}}")
    driver = Driver(tmp_path, make_space(tmp_path, searched, ("num_trials: 2", "num_trials: 4")))
    for number, suggestion in enumerate(ask_all(driver, 4)):
        assert suggestion["config"]["seed"] == driver.trial(number).params["seed"]


def test_study_is_told_the_mean_once_all_networks_have_ended(driver: Driver) -> None:
    ask_all(driver, 3)
    for place, clean in ((2, 0.5), (0, 0.7), (1, 0.6)):
        assert driver.trial().state is TrialState.RUNNING
        driver.searcher.on_trial_complete(f"n{place}", network(place, clean, clean / 2))
    assert driver.searcher.error is None
    assert driver.trial().state is TrialState.COMPLETE
    assert driver.trial().values == [pytest.approx(0.6), pytest.approx(0.3)]
    (outcome,) = driver.outcomes
    assert [row["seed"] for row in outcome.record["seeds"]] == [0, 1, 2]


def test_failed_network_fails_the_trial_with_its_seed(driver: Driver) -> None:
    ask_all(driver, 3)
    driver.searcher.on_trial_complete("n0", network(0))
    assert not driver.searcher.is_lost("n2", {})
    driver.searcher.on_trial_complete("n1", {"failure": "RuntimeError: no", "epochs_done": 0})
    assert driver.searcher.is_lost("n2", {})
    stopped = {"epochs_done": 1, "record": write_record({"epochs": [{"epoch": 0}]})}
    driver.searcher.on_trial_complete("n2", stopped)
    assert driver.trial().state is TrialState.FAIL
    assert driver.trial().user_attrs["reason"] == "seed 1: RuntimeError: no"
    (outcome,) = driver.outcomes
    assert "columns" not in outcome.record
    assert [row["seed"] for row in outcome.record["seeds"]] == [0]
    assert driver.ask("next")["trial"] == 1


def test_networks_of_a_lost_trial_that_have_not_begun_are_left_out(driver: Driver) -> None:
    driver.ask("n0")
    driver.searcher.fail("n0", "worker lost")
    assert driver.trial().state is TrialState.FAIL
    assert driver.trial().user_attrs["reason"] == "seed 0: worker lost"
    assert driver.ask("next")["trial"] == 1


def test_network_that_is_stopped_early_prunes_the_trial(tmp_path: Path) -> None:
    rule = "num_seeds: 2, early_stopping: {type: asha, metric: robust_accuracy}"
    driver = Driver(tmp_path, make_space(tmp_path, ("sampler: random", rule)))
    ask_all(driver, 2)
    epochs = write_record({"epochs": [{"epoch": 0}]})
    stopped = {"epochs_done": 1, "record": epochs, "robust_accuracy": 0.25}
    driver.searcher.on_trial_complete("n1", stopped)
    driver.searcher.on_trial_complete("n0", {"epochs_done": 1, "record": epochs})
    assert driver.trial().state is TrialState.PRUNED
    assert driver.trial().values is None
    assert driver.trial().user_attrs["reason"] == (
        "seed 1: stopped after 1 of 2 epochs: asha on robust_accuracy, 0.250"
    )


def test_interrupted_trial_asks_for_all_of_its_networks_again(tmp_path: Path) -> None:
    """Those that were finished are there at once: their workers find their records."""
    first = Driver(tmp_path, make_space(tmp_path, SEEDS))
    asked = ask_all(first, 3)
    first.searcher.on_trial_complete("n0", network(0))
    second = Driver(tmp_path, make_space(tmp_path, SEEDS))
    assert second.searcher.num_networks == 6
    assert ask_all(second, 3) == asked


def test_grid_has_several_networks_per_combination(tmp_path: Path) -> None:
    choices = "regularizer.{}: {{type: categorical, choices: [0.2, 0.4]}}"
    search = ((THRESHOLD, choices.format("threshold")), (ALPHA, choices.format("alpha")))
    space = make_space(tmp_path, *search, ("sampler: random", "sampler: grid, num_seeds: 2"))
    asked = [suggestion["config"] for suggestion in ask_all(Driver(tmp_path, space), 4)]
    assert [config["seed"] for config in asked] == [0, 1, 2, 3]
    values = [(c["regularizer"]["threshold"], c["regularizer"]["alpha"]) for c in asked]
    assert values[0] == values[1] != values[2] == values[3]
