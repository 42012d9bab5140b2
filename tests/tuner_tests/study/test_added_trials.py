from __future__ import annotations

from pathlib import Path

import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import create_trial

from simreg_core.errors import ConfigError
from tests.tuner_tests.drivers import Driver, report
from tests.tuner_tests.spaces import OBJECTIVES, make_space
from tuner.space.search_space import SearchSpace
from tuner.study.added_trials import own_trials
from tuner.study.study import check_consistent, open_study, read_study

VALUES = {"regularizer.threshold": 0.5, "regularizer.alpha": 1.0}


def add(folder: Path, space: SearchSpace, *values: float) -> None:
    """What a user does between two runs of a search."""
    study = open_study(folder, space)
    study.add_trial(
        create_trial(params=VALUES, distributions=space.distributions(), values=list(values))
    )


def check(driver: Driver, folder: Path, space: SearchSpace) -> None:
    check_consistent(folder, read_study(folder, space), driver.rows, space.tuning.num_trials)


@pytest.mark.parametrize("sampler", ["random", "tpe", "nehvi", "gp", "nsgaii"])
@pytest.mark.parametrize("constraint", ["", "\nconstraints: [clean_accuracy >= 0.5]"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_added_trial_has_no_row_and_does_not_count(
    sampler: str, constraint: str, tmp_path: Path
) -> None:
    number = f"num_trials: 4, sampler: {sampler}"
    changes = [("num_trials: 2, sampler: random", number), (OBJECTIVES, OBJECTIVES + constraint)]
    space = make_space(tmp_path, *changes)
    driver = Driver(tmp_path, space)
    driver.run(report(), report())
    add(tmp_path, space, 1.0, 1.0)
    check(driver, tmp_path, space)
    again = Driver(tmp_path, space)
    assert again.searcher.num_networks == 2
    again.rows = driver.rows
    again.run(report(), report())
    assert again.searcher.suggest("end") == "FINISHED"
    check(again, tmp_path, space)
    study = read_study(tmp_path, space)
    assert [trial.number for trial in own_trials(study)] == [0, 1, 3, 4]


def test_lost_row_of_an_own_trial_is_still_refused(tmp_path: Path) -> None:
    space = make_space(tmp_path)
    driver = Driver(tmp_path, space)
    driver.run(report(), report())
    add(tmp_path, space, 1.0, 1.0)
    driver.rows.pop(0)
    with pytest.raises(ConfigError, match="has lost the row of trial 0,"):
        check(driver, tmp_path, space)


def test_trials_copied_from_another_search_or_the_same_are_added_ones(tmp_path: Path) -> None:
    space = make_space(tmp_path, ("num_trials: 2", "num_trials: 3"))
    (tmp_path / "other").mkdir()
    other = Driver(tmp_path / "other", space)
    other.run(report(), report())
    driver = Driver(tmp_path, space)
    driver.run(report())
    study = open_study(tmp_path, space)
    study.add_trials([*other.study.trials, *study.trials])
    assert [trial.number for trial in own_trials(study)] == [0]
    check(driver, tmp_path, space)


def test_grid_is_complete_with_an_added_trial(tmp_path: Path) -> None:
    grid = [
        ("{type: float, low: 0.1, high: 0.9}", "{type: categorical, choices: [0.1, 0.5]}"),
        (
            "{type: float, low: 0.01, high: 3.0, log: true}",
            "{type: categorical, choices: [1.0, 2.0]}",
        ),
    ]
    sampler = ("sampler: random", "sampler: grid")
    space = make_space(tmp_path, *grid, sampler, ("num_trials: 2", "num_trials: 1"))
    driver = Driver(tmp_path, space)
    driver.run(report())
    study = open_study(tmp_path, space)
    study.add_trial(study.trials[0])
    longer = make_space(tmp_path, *grid, sampler, ("num_trials: 2", "num_trials: 4"))
    again = Driver(tmp_path, longer)
    again.run(report(), report(), report())
    assert len({str(trial.params) for trial in own_trials(again.study)}) == 4


def test_added_trial_of_another_type_is_refused_by_name(tmp_path: Path) -> None:
    space = make_space(tmp_path)
    study = open_study(tmp_path, space)
    params = {"regularizer.alpha": "high"}
    kinds: dict[str, BaseDistribution] = {"regularizer.alpha": CategoricalDistribution(["high"])}
    study.add_trial(create_trial(params=params, distributions=kinds, values=[0.5, 0.5]))
    with pytest.raises(ConfigError, match=r"^trial 0, added to the study: regularizer\.alpha "):
        open_study(tmp_path, space)
