from __future__ import annotations

import pickle
from types import SimpleNamespace
from typing import Any

import optuna
import pytest

from tuner.loggers.callback import LogCallback, log_id
from tuner.loggers.channel import LogChannel, Run

CONFIG = {"regularizer": {"alpha": 0.5, "layers": [1, 2], "dataset": None}, "seed": 3}
KEYS = ("regularizer.alpha", "regularizer.layers", "regularizer.dataset")


class Search(LogChannel):
    """A callback that is called as Tune calls it, for one run; keeps the runs that it logs."""

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.callback = LogCallback([self], "study", KEYS, "id")
        config = {"trial": 4, "folder": "00004/seed-3", "config": CONFIG}
        self.trial: Any = SimpleNamespace(trial_id="tune", config=config, last_result=None)

    def put(self, run: Run) -> None:
        self.runs.append(run)

    def start(self) -> None:
        self.callback.on_trial_start(0, [], self.trial)

    def report(self, **result: Any) -> None:
        self.trial.last_result = result
        self.callback.on_trial_result(0, [], self.trial, result)

    def complete(self) -> None:
        self.callback.on_trial_complete(0, [], self.trial)


@pytest.fixture
def search() -> Search:
    found = Search()
    found.start()
    return found


def test_run_has_its_parameters_as_numbers_or_text(search: Search) -> None:
    params: dict[str, bool | int | float | str] = {
        "regularizer.alpha": 0.5,
        "regularizer.layers": "[1, 2]",
        "regularizer.dataset": "null",
        "seed": 3,
    }
    assert search.runs == [Run("id-00004-seed-3", "study", 4, "00004-seed-3", params)]


def test_values_are_collected_by_step_also_after_a_restart(search: Search) -> None:
    search.report(epochs_done=1, values=[(1, {"loss": 1.0})])
    search.start()
    search.report(epochs_done=2, values=[(1, {"loss": 1.0}), (2, {"loss": 0.5})])
    search.report(epochs_done=3, values=[(3, {"loss": 0.25})])
    search.report(epochs_done=3, clean_accuracy=0.5)
    search.report(epochs_done=3, values=[(3, {"test.clean_accuracy": 0.9})])
    search.complete()
    assert search.runs[-1].values == {
        1: {"loss": 1.0},
        2: {"loss": 0.5},
        3: {"loss": 0.25, "test.clean_accuracy": 0.9},
    }
    assert search.runs[-1].status == "finished"


@pytest.mark.parametrize(
    ("result", "status"),
    [({"failure": "RuntimeError: no"}, "failed"), ({"full_disk": "no space left"}, "running")],
)
def test_failed_run_is_closed_and_stays_open_after_a_full_disk(
    result: dict[str, str], status: str, search: Search
) -> None:
    search.report(epochs_done=0, **result)
    search.complete()
    assert search.runs[-1].status == status


def test_run_of_a_lost_worker_is_failed(search: Search) -> None:
    search.callback.on_trial_error(0, [], search.trial)
    assert search.runs[-1].status == "failed"


def test_run_that_ends_before_it_starts_is_not_logged() -> None:
    search = Search()
    search.complete()
    assert search.runs == []


def test_pickled_callback_is_empty(search: Search) -> None:
    assert vars(pickle.loads(pickle.dumps(search.callback))) == {}


def test_id_of_a_study_is_stable_and_unique() -> None:
    studies = [optuna.create_study() for _ in range(2)]
    ids = [log_id(study) for study in studies]
    assert ids == [log_id(study) for study in studies]
    assert ids[0] != ids[1]
