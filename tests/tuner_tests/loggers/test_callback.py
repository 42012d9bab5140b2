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


class Channel(LogChannel):
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.given: list[Run] = []

    def put(self, run: Run) -> None:
        self.given.append(run)


class Search:
    """A callback that is called as Tune calls it, for one run."""

    def __init__(self) -> None:
        self.channel = Channel()
        self.callback = LogCallback([self.channel], "study", KEYS, "id")
        config = {"trial": 4, "folder": "00004/seed-3", "config": CONFIG}
        self.trial: Any = SimpleNamespace(trial_id="tune", config=config, last_result=None)

    def start(self) -> None:
        self.callback.on_trial_start(0, [], self.trial)

    def report(self, **result: Any) -> None:
        self.trial.last_result = result
        self.callback.on_trial_result(0, [], self.trial, result)

    def complete(self) -> None:
        self.callback.on_trial_complete(0, [], self.trial)

    def lose(self) -> None:
        self.callback.on_trial_error(0, [], self.trial)

    @property
    def run(self) -> Run:
        return self.channel.given[-1]


@pytest.fixture
def search() -> Search:
    found = Search()
    found.start()
    return found


def test_run_has_its_parameters_as_numbers_or_text(search: Search) -> None:
    assert search.run == Run(
        key="id-00004-seed-3",
        study="study",
        trial=4,
        name="00004-seed-3",
        params={
            "regularizer.alpha": 0.5,
            "regularizer.layers": "[1, 2]",
            "regularizer.dataset": "null",
            "seed": 3,
        },
    )


def test_values_are_collected_by_step(search: Search) -> None:
    search.report(epochs_done=1, values=[(1, {"loss": 1.0}), (2, {"loss": 0.5})])
    search.report(epochs_done=3, values=[(3, {"loss": 0.25})])
    search.report(epochs_done=3, clean_accuracy=0.5)
    search.report(epochs_done=3, values=[(3, {"test.clean_accuracy": 0.9})])
    search.complete()
    assert search.run.values == {
        1: {"loss": 1.0},
        2: {"loss": 0.5},
        3: {"loss": 0.25, "test.clean_accuracy": 0.9},
    }
    assert search.run.status == "finished"


def test_run_that_starts_again_goes_on(search: Search) -> None:
    search.report(epochs_done=1, values=[(1, {"loss": 1.0})])
    search.start()
    search.report(epochs_done=2, values=[(1, {"loss": 1.0}), (2, {"loss": 0.5})])
    assert search.run.values == {1: {"loss": 1.0}, 2: {"loss": 0.5}}


def test_run_that_fails_is_failed(search: Search) -> None:
    search.report(epochs_done=0, failure="RuntimeError: no")
    search.complete()
    assert search.run.status == "failed"


def test_run_whose_worker_is_lost_is_failed(search: Search) -> None:
    search.lose()
    assert search.run.status == "failed"


def test_run_stays_open_after_a_full_disk(search: Search) -> None:
    search.report(epochs_done=0, full_disk="no space left")
    search.complete()
    assert search.run.status == "running"


def test_run_that_ends_before_it_starts_is_not_logged() -> None:
    search = Search()
    search.complete()
    assert search.channel.given == []


def test_snapshot_of_ray_holds_nothing(search: Search) -> None:
    assert vars(pickle.loads(pickle.dumps(search.callback))) == {}


def test_id_of_a_study_stays_and_is_its_own() -> None:
    studies = [optuna.create_study() for _ in range(2)]
    ids = [log_id(study) for study in studies]
    assert ids == [log_id(study) for study in studies]
    assert ids[0] != ids[1]
