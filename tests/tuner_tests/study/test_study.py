from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from simreg_core.errors import ConfigError
from tests.tuner_tests.spaces import ALPHA, THRESHOLD, make_space
from tuner.space.search_space import SearchSpace
from tuner.study.storage import STUDY_FILE
from tuner.study.study import open_study, read_study, reconcile, resume

RUNNING = (TrialState.RUNNING,)


@pytest.fixture
def space(tmp_path: Path) -> SearchSpace:
    return make_space(tmp_path, ("num_trials: 2,", "num_trials: 20,"))


def row(number: int, status: str, **metrics: float) -> dict[str, object]:
    values = {f"validation.{name}": value for name, value in metrics.items()}
    reason = None if status == "complete" else "why"
    return {"trial": number, "status": status, "reason": reason, **values}


def ask(folder: Path, space: SearchSpace, count: int = 1) -> list[optuna.Trial]:
    """Trials that a driver, new each time, asks for and never ends."""
    study = open_study(folder, space)
    return [study.ask(space.distributions()) for _ in range(count)]


# going on


def test_rows_that_the_study_was_not_told_of_are_told(tmp_path: Path, space: SearchSpace) -> None:
    ask(tmp_path, space, 4)
    study = open_study(tmp_path, space)
    good = row(0, "complete", clean_accuracy=0.75, robust_accuracy=0.5)
    rows = [good, row(1, "failed"), row(3, "pruned")]
    assert reconcile(study, rows, space) == reconcile(study, rows, space) == [2]
    states = [trial.state.name for trial in open_study(tmp_path, space).trials]
    assert states == ["COMPLETE", "FAIL", "RUNNING", "PRUNED"]
    assert study.trials[0].values == [0.75, 0.5]
    assert study.trials[1].user_attrs["reason"] == "why"


def test_interrupted_trial_keeps_its_values_and_missing_ones_are_drawn(
    tmp_path: Path, space: SearchSpace
) -> None:
    (asked,) = ask(tmp_path, space)
    study = open_study(tmp_path, space)
    alpha = study.ask().suggest_float("regularizer.alpha", 0.01, 3.0, log=True)  # then a kill
    study = open_study(tmp_path, space)
    whole, cut = (resume(study, number, space.distributions()) for number in (0, 1))
    assert (whole.number, whole.params) == (0, asked.params)
    assert cut.params["regularizer.alpha"] == alpha
    assert 0.1 <= cut.params["regularizer.threshold"] <= 0.9


@pytest.mark.parametrize("sampler", ["random", "tpe", "nehvi", "nsgaii", "grid"])
def test_resumed_sampler_does_not_repeat_itself(sampler: str, tmp_path: Path) -> None:
    choices = "regularizer.{}: {{type: categorical, choices: [0.1, 0.2, 0.3]}}"
    grid = [(THRESHOLD, choices.format("threshold")), (ALPHA, choices.format("alpha"))]
    tried = []
    for count in (2, 4, 6):
        tuning = ("num_trials: 2, sampler: random", f"num_trials: {count}, sampler: {sampler}")
        space = make_space(tmp_path, tuning, *(grid if sampler == "grid" else []))
        tried += [tuple(trial.params.values()) for trial in ask(tmp_path, space, 2)]
    assert len(set(tried)) == 6


def test_queue_that_was_cut_short_is_completed(tmp_path: Path) -> None:
    starts = "warm_starts: [{regularizer.alpha: 0.5}, {regularizer.alpha: 0.75}]"
    space = make_space(tmp_path, ("sampler: random", starts))
    open_study(tmp_path, space)
    path = tmp_path / STUDY_FILE
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))  # killed before the last warm start
    alphas = [trial.params["regularizer.alpha"] for trial in ask(tmp_path, space, 2)]
    assert alphas == [0.5, 0.75]


# the space


def test_another_space_is_refused_unless_only_the_amount_of_work_differs(
    tmp_path: Path, space: SearchSpace
) -> None:
    open_study(tmp_path, space)
    other = make_space(tmp_path, ("epochs: 2", "epochs: 3"), ("high: 3.0", "high: 4.0"))
    with pytest.raises(ConfigError) as refused:
        open_study(tmp_path, other)
    assert "trial.training.epochs: 2 there, 3 requested" in str(refused.value)
    assert "search.regularizer.alpha.high: 3.0 there, 4.0 requested" in str(refused.value)
    tuning = "num_trials: 30, retries: 9, stall_timeout: 60, confirm: {top: front, seeds: 3},"
    open_study(tmp_path, make_space(tmp_path, ("num_trials: 2,", tuning)))


# the file


def test_line_that_a_kill_cut_off_costs_nothing_else(tmp_path: Path, space: SearchSpace) -> None:
    ask(tmp_path, space, 2)
    path = tmp_path / STUDY_FILE
    whole = path.read_bytes()
    for size in range(len(whole) - 40, len(whole)):
        path.write_bytes(whole[:size])
        ask(tmp_path, space)
        assert len(read_study(tmp_path, space).get_trials(states=RUNNING)) >= 2


def test_lock_of_a_killed_writer_does_not_hold_the_next_one_up(
    tmp_path: Path, space: SearchSpace
) -> None:
    ask(tmp_path, space)
    (tmp_path / f"{STUDY_FILE}.lock").symlink_to(tmp_path / STUDY_FILE)
    ask(tmp_path, space)
    assert len(read_study(tmp_path, space).trials) == 2


def test_reading_writes_nothing(tmp_path: Path, space: SearchSpace) -> None:
    ask(tmp_path, space)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    read_study(tmp_path, space)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_missing_study_is_named(tmp_path: Path, space: SearchSpace) -> None:
    with pytest.raises(ConfigError, match=f"^{tmp_path}: has no study"):
        read_study(tmp_path, space)
    assert not (tmp_path / STUDY_FILE).exists()
