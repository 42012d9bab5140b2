"""Rules of early stopping: what Ray's own make of our reports."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from simreg_core.results.objectives import STOPPING_METRICS
from tests.tuner_tests.spaces import THRESHOLD, make_space
from tuner.execution.tune_runner import make_scheduler
from tuner.space.search_space import SearchSpace
from tuner.space.tuning import EarlyStoppingConfig

STOP, CONTINUE = TrialScheduler.STOP, TrialScheduler.CONTINUE


def stopping_space(folder: Path, rule: str, epochs: int, lowest: int | None = None) -> SearchSpace:
    """A space with a rule; the number of epochs is searched if a lowest one is given."""
    text = f"early_stopping: {{metric: clean_accuracy, {rule}}}"
    if lowest is None:
        return make_space(folder, ("epochs: 2", f"epochs: {epochs}"), ("sampler: random", text))
    searched = f"{THRESHOLD}\n  training.epochs: {{type: int, low: {lowest}, high: {epochs}}}"
    changes = [("training: {epochs: 2}", "training: {}"), (THRESHOLD, searched)]
    return make_space(folder, *changes, ("sampler: random", text))


class Network:
    def __init__(self, trial_id: str) -> None:
        self.trial_id = trial_id
        self.status = "RUNNING"


class Rule:
    """A rule, and networks that report to it as our workers do."""

    def __init__(self, space: SearchSpace, num_waiting: int = 0) -> None:
        self.scheduler = make_scheduler(space)
        self.num_epochs = space.most_epochs()
        waiting = [SimpleNamespace(status="PENDING") for _ in range(num_waiting)]
        self.controller = SimpleNamespace(get_live_trials=lambda: waiting)
        self.num_trials = 0

    def run(self, accuracy: float, num_epochs: int | None = None) -> int:
        """Train one network with this accuracy; the epochs that it was given."""
        trial = self._add()
        last = num_epochs or self.num_epochs
        for epoch in range(1, last):
            decision = self._report(trial, epochs_done=epoch, clean_accuracy=accuracy)
            assert decision in (STOP, CONTINUE)
            if decision == STOP:
                return epoch
        assert self._report(trial, epochs_done=last) == CONTINUE  # evaluated after this
        self._report(trial, epochs_done=last, clean_accuracy=accuracy)
        return last

    def fail(self) -> None:
        """A network that reports one epoch, and then its failure."""
        trial = self._add()
        self._report(trial, epochs_done=1, clean_accuracy=0.99)
        self._report(trial, epochs_done=0, failure="RuntimeError: no")

    def _add(self) -> Any:
        trial = Network(f"t{self.num_trials}")
        self.num_trials += 1
        self.scheduler.on_trial_add(self.controller, trial)
        return trial

    def _report(self, trial: Any, **result: Any) -> str:
        decision: str = self.scheduler.on_trial_result(self.controller, trial, result)
        is_last = "failure" in result or result["epochs_done"] == self.num_epochs
        if decision == STOP or (is_last and len(result) > 1):
            self.scheduler.on_trial_complete(self.controller, trial, result)
        return decision


def test_without_a_rule_nothing_is_stopped(tmp_path: Path) -> None:
    assert type(make_scheduler(make_space(tmp_path))) is FIFOScheduler


@pytest.mark.parametrize("num_epochs", [2, 3, 4, 8, 16])
def test_network_that_asha_lets_into_its_last_epoch_is_evaluated(
    num_epochs: int, tmp_path: Path
) -> None:
    """Also where a rung falls on the last epoch: 4 and 16 by a factor of 2 or 4."""
    rule = Rule(stopping_space(tmp_path, "type: asha, reduction_factor: 2", num_epochs))
    rule.run(0.5)
    assert rule.run(0.5) == num_epochs


def test_asha_stops_what_is_not_the_best_part_at_a_rung(tmp_path: Path) -> None:
    rule = Rule(stopping_space(tmp_path, "type: asha, reduction_factor: 2, grace_epochs: 2", 8))
    assert rule.run(0.5) == 8
    assert rule.run(0.4) == 2
    assert rule.run(0.6) == 8


def test_asha_compares_epochs_of_searched_numbers_at_the_same_epoch(tmp_path: Path) -> None:
    rule = Rule(stopping_space(tmp_path, "type: asha", 9, lowest=2))
    assert rule.num_epochs == 9
    assert rule.run(0.5, num_epochs=2) == 2
    assert rule.run(0.4, num_epochs=9) == 1
    assert rule.run(0.6, num_epochs=9) == 9


def test_median_stops_what_is_worse_than_the_median(tmp_path: Path) -> None:
    rule = Rule(stopping_space(tmp_path, "type: median, min_trials: 3, grace_epochs: 2", 5))
    assert [rule.run(accuracy) for accuracy in (0.2, 0.5, 0.8)] == [5, 5, 5]
    assert rule.run(0.4) == 2
    assert rule.run(0.6) == 5


def test_median_compares_with_networks_of_fewer_epochs_and_with_failed_ones(tmp_path: Path) -> None:
    rule = Rule(stopping_space(tmp_path, "type: median, min_trials: 1", 5, lowest=2))
    rule.fail()  # its 0.99 counts for nothing
    assert rule.run(0.5, num_epochs=2) == 2
    assert rule.run(0.6, num_epochs=5) == 5
    assert rule.run(0.4, num_epochs=5) == 1


def test_median_does_not_swap_running_for_waiting_networks(tmp_path: Path) -> None:
    rule = Rule(stopping_space(tmp_path, "type: median", 4), num_waiting=2)
    assert rule.run(0.5) == 4


def test_rule_follows_what_is_measured_of_every_epoch() -> None:
    for metric in STOPPING_METRICS:
        EarlyStoppingConfig(type="asha", metric=metric)
    with pytest.raises(ValidationError):
        EarlyStoppingConfig(type="asha", metric="accuracy_cost")
