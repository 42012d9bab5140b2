from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher

from tests.tuner_tests.drivers import Driver, report, write_record
from tests.tuner_tests.spaces import THRESHOLD, make_space
from tuner.execution.searcher import Outcome
from tuner.study.study import open_study

SINGLE = ("[clean_accuracy, robust_accuracy]", "[tradeoff_score]")


@pytest.fixture
def drive(tmp_path: Path) -> Callable[..., Driver]:
    """Factory of drivers of the good space, changed; the study is in ``tmp_path``."""

    def make(*changes: tuple[str, str], num_trials: int = 5) -> Driver:
        number = ("num_trials: 2,", f"num_trials: {num_trials},")
        return Driver(tmp_path, make_space(tmp_path, number, *changes))

    return make


# outcomes


def test_full_budget_with_finite_values_is_complete_with_these_values_once(
    drive: Callable[..., Driver],
) -> None:
    driver = drive()
    driver.ask("a")
    for _ in range(2):
        driver.searcher.on_trial_complete("a", report(clean_accuracy=0.75, robust_accuracy=0.25))
    driver.searcher.fail("a", "too late")
    assert driver.trial().state is TrialState.COMPLETE
    assert driver.trial().values == [0.75, 0.25]
    assert [(o.status, o.reason) for o in driver.outcomes] == [("complete", None)]
    assert driver.states == [TrialState.RUNNING]  # rows are recorded before the study is told


EPOCHS = {"epochs": [{"epoch": 0}]}


@pytest.mark.parametrize(
    "result",
    [report(num_epochs=1), {"epochs_done": 1, "record": write_record(EPOCHS)}],
    ids=["last-report", "before-its-last-report"],
)
def test_less_than_the_full_budget_is_pruned_without_values_and_keeps_its_epochs(
    result: dict[str, Any], drive: Callable[..., Driver]
) -> None:
    driver = drive()
    driver.run(result)
    trial, (outcome,) = driver.trial(), driver.outcomes
    assert (trial.state, trial.values) == (TrialState.PRUNED, None)
    assert trial.user_attrs["reason"] == outcome.reason == "stopped after 1 of 2 epochs"
    assert outcome.record["epochs"] == EPOCHS["epochs"]
    assert driver.states == [TrialState.RUNNING]


@pytest.mark.parametrize("content", [None, "{"])
def test_trial_whose_record_is_lost_stays_open_and_the_reason_is_kept(
    content: str | None, drive: Callable[..., Driver], tmp_path: Path
) -> None:
    driver = drive()
    path = tmp_path / "lost.json"
    if content is not None:
        path.write_text(content)
    driver.run({"epochs_done": 2, "record": str(path)})
    assert driver.trial().state is TrialState.RUNNING
    assert isinstance(driver.searcher.error, OSError | ValueError)


def test_trial_without_any_report_is_not_complete(drive: Callable[..., Driver]) -> None:
    driver = drive()
    driver.ask("a")
    driver.searcher.on_trial_complete("a", None)
    assert driver.trial().state is TrialState.PRUNED


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        ({"failure": "NonFiniteLossError: loss is nan"}, "NonFiniteLossError: loss is nan"),
        (report(robust_accuracy=math.nan), "robust_accuracy is nan"),
        (report(robust_accuracy=-math.inf), "robust_accuracy is -inf"),
        (report(robust_accuracy=None), "robust_accuracy is None"),
    ],
)
def test_failure_or_objective_that_is_no_finite_number_fails_with_its_reason(
    result: dict[str, Any], reason: str, drive: Callable[..., Driver]
) -> None:
    driver = drive()
    driver.run(result)
    assert driver.trial().state is TrialState.FAIL
    assert driver.trial().user_attrs["reason"].startswith(reason)
    assert driver.outcomes[0].config is not None
    assert driver.states == [TrialState.RUNNING]


@pytest.mark.parametrize("tune_reports_first", [True, False])
def test_lost_worker_fails_with_its_reason(
    tune_reports_first: bool, drive: Callable[..., Driver]
) -> None:
    driver = drive()
    driver.ask("a")
    if tune_reports_first:
        driver.searcher.on_trial_complete("a", None, error=True)
    driver.searcher.fail("a", "worker lost: node died")
    driver.searcher.on_trial_complete("a", None, error=True)
    assert driver.trial().state is TrialState.FAIL
    assert [outcome.reason for outcome in driver.outcomes] == ["worker lost: node died"]


# recording


def test_error_of_recording_is_kept_and_ends_the_search(tmp_path: Path) -> None:
    full = OSError("no space left on device")

    class FullDisk(Driver):
        def ended(self, outcome: Outcome) -> Mapping[str, Any]:
            raise full

    driver = FullDisk(tmp_path, make_space(tmp_path))
    for name in ("a", "b"):
        driver.ask(name)
    driver.searcher.on_trial_complete("a", report())
    assert driver.searcher.error is full
    assert driver.searcher.suggest("c") == Searcher.FINISHED
    # Its rows are not written, so the study must not call it complete.
    assert driver.trial().state is TrialState.RUNNING


def test_full_disk_of_a_worker_ends_the_search_and_leaves_the_trial_open(
    drive: Callable[..., Driver],
) -> None:
    driver = drive()
    driver.run({"full_disk": "OSError: [Errno 28] No space left on device"})
    assert "No space left" in str(driver.searcher.error)
    assert driver.searcher.suggest("next") == Searcher.FINISHED
    assert driver.trial().state is TrialState.RUNNING
    assert driver.outcomes == []


def test_suggestion_holds_number_and_configuration(drive: Callable[..., Driver]) -> None:
    driver = drive(
        (", blocks: [1, 1]", ""),
        (THRESHOLD, "model.blocks: {type: categorical, choices: [[1], [1, 1]]}"),
    )
    suggestion = driver.ask()
    assert suggestion["trial"] == 0
    config = driver.space.trial_config(driver.space.decode(driver.trial().params))
    assert suggestion["config"] == config.to_dict() == json.loads(json.dumps(suggestion["config"]))
    assert suggestion["config"]["model"]["blocks"] in ([1], [1, 1])


def test_combination_that_is_not_valid_is_recorded_as_failed_and_counts(
    drive: Callable[..., Driver],
) -> None:
    padding = "training.augmentation.crop_padding: {type: int, low: 3, high: 4}"
    driver = drive(
        ("image_size: 8, ", ""),
        (THRESHOLD, f"{padding}\n  task.image_size: {{type: categorical, choices: [4, 8]}}"),
        ("sampler: random", "warm_starts: [{training.augmentation.crop_padding: 4, "
         "task.image_size: 4}, {training.augmentation.crop_padding: 4, task.image_size: 8}]"),
        num_trials=2,
    )  # fmt: skip
    assert driver.ask()["trial"] == 1
    assert driver.trial(0).state is TrialState.FAIL
    (outcome,) = driver.outcomes
    assert (outcome.number, outcome.status, outcome.config) == (0, "failed", None)
    assert outcome.reason is not None
    assert outcome.reason.startswith("no valid configuration: training.augmentation.crop_padding")
    assert driver.searcher.suggest("last") == Searcher.FINISHED


def test_every_trial_that_ends_has_started(drive: Callable[..., Driver]) -> None:
    """Among them those without a valid configuration; a search ends after their number."""
    driver = drive(
        ("image_size: 8, ", "image_size: 4, "),
        (THRESHOLD, "training.augmentation.crop_padding: {type: int, low: 3, high: 4}"),
        num_trials=8,
    )
    while driver.searcher.suggest("a") != Searcher.FINISHED:
        driver.searcher.on_trial_complete("a", report())
    assert driver.begun == [outcome.number for outcome in driver.outcomes] == list(range(8))
    assert {outcome.status for outcome in driver.outcomes} == {"complete", "failed"}


# warm starts


def test_warm_starts_come_first_and_what_they_leave_out_is_sampled(
    drive: Callable[..., Driver], tmp_path: Path
) -> None:
    starts = "[{regularizer.alpha: 0.5, regularizer.threshold: 0.25}, {regularizer.alpha: 0.75}]"
    driver = drive(("sampler: random", f"warm_starts: {starts}"))
    driver.run(report(), report(), report())
    assert len(open_study(tmp_path, driver.space).trials) == 3  # they are not repeated
    first, second, third = (driver.trial(number) for number in range(3))
    assert first.params == {"regularizer.threshold": 0.25, "regularizer.alpha": 0.5}
    assert second.params["regularizer.alpha"] == 0.75
    assert 0.1 <= second.params["regularizer.threshold"] <= 0.9
    warm = [trial.user_attrs.get("warm_start") for trial in (first, second, third)]
    assert warm == [True, True, None]


# the file


def test_reopened_study_has_everything(drive: Callable[..., Driver], tmp_path: Path) -> None:
    driver = drive(("[clean_accuracy, robust_accuracy]", "[clean_accuracy, accuracy_cost]"))
    driver.run(report(accuracy_cost=0.05), {"failure": "RuntimeError: no"}, report(num_epochs=1))
    study = open_study(tmp_path, driver.space)
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert study.metric_names == ["clean_accuracy", "accuracy_cost"]
    assert study.study_name == "tiny"
    assert [trial.values for trial in study.trials] == [[0.9, 0.05], None, None]
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "FAIL", "PRUNED"]
    reasons = [trial.user_attrs.get("reason") for trial in study.trials]
    assert reasons == [None, "RuntimeError: no", "stopped after 1 of 2 epochs"]
    params = [trial.params for trial in driver.study.trials]
    assert [trial.params for trial in study.trials] == params


# samplers


@pytest.mark.parametrize(
    ("sampler", "objectives"),
    [("nehvi", 1), ("nehvi", 2), ("tpe", 1), ("nsgaii", 2), ("gp", 1),
     pytest.param("gp", 2, marks=pytest.mark.long), ("random", 2)],
)  # fmt: skip
def test_sampler_proposes_within_the_space_after_good_and_bad_trials(
    sampler: str, objectives: int, drive: Callable[..., Driver]
) -> None:
    changes = [SINGLE] if objectives == 1 else []
    driver = drive(
        ("sampler: random", f"sampler: {sampler}"),
        (THRESHOLD, f"{THRESHOLD}\n  regularizer.transform: "
         "{type: categorical, choices: [arctanh, identity]}"),
        *changes,
        num_trials=20,
    )  # fmt: skip
    good = [report(clean_accuracy=i / 20, robust_accuracy=(i * 7 % 10) / 10) for i in range(10)]
    driver.run(*good, report(num_epochs=1), {"failure": "RuntimeError: no"}, report())
    assert driver.searcher.error is None
    distributions = driver.space.distributions()
    for trial in driver.study.trials:
        assert trial.params.keys() == distributions.keys()
        for key, value in trial.params.items():
            assert driver.space.search[key].contains(value)


@pytest.mark.parametrize("sampler", ["nehvi", "tpe", "nsgaii", "gp", "random"])
def test_same_seed_gives_the_same_suggestions(sampler: str, tmp_path: Path) -> None:
    proposals = []
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        tuning = ("num_trials: 2, sampler: random", f"num_trials: 20, sampler: {sampler}, seed: 3")
        driver = Driver(folder, make_space(folder, tuning, SINGLE))
        driver.run(*[report(tradeoff_score=i / 20) for i in range(12)])
        proposals.append([trial.params for trial in driver.study.trials])
    assert proposals[0] == proposals[1]
