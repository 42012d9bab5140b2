"""Complete designs, in the real Optuna study."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from simreg_core.errors import ConfigError
from tests.tuner_tests.spaces import ALPHA, THRESHOLD, TUNING, make_space
from tuner.space.distributions import Choices, Distribution, FloatRange, IntRange
from tuner.space.grid import design
from tuner.space.search_space import SearchSpace
from tuner.study.study import open_study

GRID = (
    (THRESHOLD, "regularizer.threshold: {type: float, low: 0.2, high: 0.8, step: 0.2}"),
    (ALPHA, "regularizer.alpha: {type: categorical, choices: [0.1, 1.0]}\n"
            "  seed: {type: categorical, choices: [0, 1, 2]}"),
)  # fmt: skip
EVERY = set(itertools.product((0.2, 0.4, 0.6, 0.8), (0.1, 1.0), (0, 1, 2)))


def grid_space(folder: Path, tuning: str) -> SearchSpace:
    return make_space(folder, *GRID, (TUNING, f"tuning: {{sampler: grid, {tuning}}}"))


def values(params: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(params[key] for key in ("regularizer.threshold", "regularizer.alpha", "seed"))


def asked(study: optuna.Study, space: SearchSpace, number: int) -> list[optuna.Trial]:
    return [study.ask(space.distributions()) for _ in range(number)]


@pytest.mark.parametrize("at_once", [1, 4, 24])
def test_every_combination_occurs_once_however_many_run_at_once(
    at_once: int, tmp_path: Path
) -> None:
    space = grid_space(tmp_path, "num_trials: 24")
    study = open_study(tmp_path, space)
    seen = []
    for _ in range(24 // at_once):
        batch = asked(study, space, at_once)
        seen += [values(trial.params) for trial in batch]
        for trial in reversed(batch):  # reporting the last combination raises nothing either
            study.tell(trial, [0.5, 0.5])
    assert len(seen) == 24
    assert set(seen) == EVERY
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 24


def test_failed_trial_is_not_tried_again_and_a_reopened_study_goes_on(tmp_path: Path) -> None:
    space = grid_space(tmp_path, "num_trials: 24")
    seen = []
    for number in (10, 14):
        study = open_study(tmp_path, space)
        for index in range(number):
            (trial,) = asked(study, space, 1)
            seen.append(values(trial.params))
            failed = index % 2 == 1
            study.tell(trial, None if failed else [0.5, 0.5], TrialState.FAIL if failed else None)
    assert (len(seen), set(seen)) == (24, EVERY)
    configs = [space.trial_config(space.decode(trial.params)) for trial in study.trials]
    assert {config.seed for config in configs} == {0, 1, 2}
    assert not space.baseline_varies()


def test_fewer_trials_are_a_part_of_the_grid_that_the_seed_chooses(tmp_path: Path) -> None:
    chosen = []
    for number, seed in enumerate((0, 0, 1)):
        folder = tmp_path / str(number)
        folder.mkdir()
        space = grid_space(folder, f"num_trials: 12, seed: {seed}")
        trials = asked(open_study(folder, space), space, 12)
        chosen.append([values(trial.params) for trial in trials])
    assert chosen[0] == chosen[1] != chosen[2]
    assert len(set(chosen[0])) == 12
    assert set(chosen[0]) < EVERY


def test_warm_starts_come_first_and_are_not_repeated(tmp_path: Path) -> None:
    starts = (
        "[{regularizer.threshold: 0.8, regularizer.alpha: 1.0, seed: 2}, "
        "{regularizer.threshold: 0.4, regularizer.alpha: 0.1}]"
    )
    space = grid_space(tmp_path, f"num_trials: 24, warm_starts: {starts}")
    seen = [values(trial.params) for trial in asked(open_study(tmp_path, space), space, 24)]
    assert seen[:4] == [(0.8, 1.0, 2), *((0.4, 0.1, seed) for seed in (0, 1, 2))]
    assert set(seen) == EVERY


def test_warm_starts_alone_are_a_design_of_their_own() -> None:
    search: dict[str, Distribution] = {
        "a": Choices(type="categorical", choices=[None, 0.3]),
        "b": Choices(type="categorical", choices=[[1, 1], [2]]),
        "seed": Choices(type="categorical", choices=[0, 1]),
    }
    starts: list[dict[str, Any]] = [{"a": None, "b": [2]}, {"a": 0.3, "b": [2]}, {"a": None}]
    found = list(design(search, starts, 6, seed=0))
    assert found == [
        {"a": None, "b": [2], "seed": 0},
        {"a": None, "b": [2], "seed": 1},
        {"a": 0.3, "b": [2], "seed": 0},
        {"a": 0.3, "b": [2], "seed": 1},
        {"a": None, "b": [1, 1], "seed": 0},
        {"a": None, "b": [1, 1], "seed": 1},
    ]


@pytest.mark.parametrize(
    ("distribution", "expected"),
    [
        (FloatRange(type="float", low=0.1, high=0.7, step=0.2), [0.1, 0.3, 0.5, 0.7]),
        (IntRange(type="int", low=2, high=8, step=3), [2, 5, 8]),
        (IntRange(type="int", low=1, high=4, log=True), [1, 2, 3, 4]),
        (Choices(type="categorical", choices=["b", "a", None]), ["b", "a", None]),
    ],
    ids=["float", "int", "log", "choices"],
)
def test_values_of_a_key(
    distribution: FloatRange | IntRange | Choices, expected: Sequence[Any]
) -> None:
    assert distribution.values() == expected
    assert [type(v) for v in distribution.values()] == [type(v) for v in expected]
    assert distribution.num_values() == len(expected)


WRONG = [
    ("search.regularizer.alpha", [GRID[0], (TUNING, "tuning: {num_trials: 2, sampler: grid}")]),
    ("tuning.num_trials: 25", [*GRID, (TUNING, "tuning: {num_trials: 25, sampler: grid}")]),
    (
        f"search: the grid has {9007199254740991 * 63} ",
        [
            (THRESHOLD, "training.epochs: {type: int, low: 1, high: 9007199254740991}"),
            ("training: {epochs: 2}", "seed: 1"),
            (ALPHA, "regularizer.num_images: {type: int, low: 2, high: 64}"),
            ("{num_images: 64, batch", "{batch"),
            (TUNING, "tuning: {num_trials: 2, sampler: grid}"),
        ],
    ),
]


@pytest.mark.parametrize(("key", "changes"), WRONG, ids=["no-step", "too-many-trials", "huge"])
def test_what_is_no_grid_is_refused_by_its_key(
    key: str, changes: Sequence[tuple[str, str]], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=f": {key}") as caught:
        make_space(tmp_path, *changes)
    assert "\n" not in str(caught.value)
