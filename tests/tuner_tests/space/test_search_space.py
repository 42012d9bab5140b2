from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from pydantic import ValidationError

from simreg_core.config.yaml_io import get_dotted
from tests.tuner_tests.spaces import (
    ALPHA,
    GOOD_SPACE,
    THRESHOLD,
    TUNING,
    Run,
    make_space,
    write_space,
)
from tuner.space.distributions import Choices, FloatRange, IntRange
from tuner.space.loading import load_space


def test_good_space_is_described_and_writes_nothing(
    tmp_path: Path, dry_run: Callable[..., Run]
) -> None:
    run = dry_run(write_space(tmp_path), "--num-trials", "7", "--seed", "5")
    assert run.code == 0
    assert run.errors == ""
    assert "tiny: 7 trials, sampler random, seed 5" in run.printed
    assert "regularizer.alpha: type float, low 0.01, high 3.0, log True" in run.printed
    assert not (tmp_path / "output").exists()


def test_values_that_go_together_only_sometimes_do_not_refuse_the_file(tmp_path: Path) -> None:
    # Padding of 4 pixels does not fit images of 4, but does those of 8.
    space = make_space(
        tmp_path,
        ("image_size: 8, ", ""),
        (THRESHOLD, "task.image_size: {type: categorical, choices: [4, 8]}"),
        (ALPHA, "training.augmentation.crop_padding: {type: int, low: 1, high: 4}"),
    )
    padding = "training.augmentation.crop_padding"
    assert space.trial_config({"task.image_size": 8, padding: 4}).task.image_size == 8
    with pytest.raises(ValidationError, match="crop_padding"):
        space.trial_config({"task.image_size": 4, padding: 4})
    assert len(list(space.extreme_configs())) == 3


@pytest.mark.parametrize(
    "changes",
    [
        [],
        [(THRESHOLD, "regularizer.dataset: {type: categorical, choices: [task, natural]}")],
        [
            (", blocks: [1, 1]", ""),
            (THRESHOLD, "model.blocks: {type: categorical, choices: [[1], [1, 1], null]}"),
        ],
        [(ALPHA, "seed: {type: int, low: 1, high: 4294967295}")],
        [("name: tiny", "name: '1e-4'")],
        [("sampler: random", "warm_starts: [{regularizer.alpha: 0.3}]")],
    ],
)
def test_yaml_text_reads_back_as_an_equal_space(
    changes: Sequence[tuple[str, str]], tmp_path: Path
) -> None:
    space = make_space(tmp_path, *changes)
    again = tmp_path / "again.yaml"
    again.write_text(space.to_yaml(), encoding="utf-8")
    assert load_space(again) == space


def test_entry_of_the_options_of_a_network_is_searched(tmp_path: Path) -> None:
    model = ("{base_channels: 4, blocks: [1, 1]}", "{architecture: 'mine:net', options: {deep: 2}}")
    key = "model.options.width"
    space = make_space(tmp_path, model, (ALPHA, f"{key}: {{type: int, low: 4, high: 8}}"))
    config = space.trial_config({key: 5})
    assert json.loads(config.flat()["model.options"]) == {"deep": 2, "width": 5}
    assert space.baseline_varies()


@pytest.mark.parametrize(
    ("override", "keys", "value"),
    [
        ("name=other", "name", "other"),
        ("training.epochs=7", "trial.training.epochs", 7),
        ("trial.training.epochs=7", "trial.training.epochs", 7),
        ("objectives=[tradeoff_score]", "objectives", ["tradeoff_score"]),
    ],
)
def test_override_reaches_its_key(override: str, keys: str, value: Any, tmp_path: Path) -> None:
    space = load_space(write_space(tmp_path), [override])
    assert get_dotted(space.model_dump(), keys) == value


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("alpha.high=9.0", FloatRange(type="float", low=0.01, high=9.0, log=True)),
        ("mean_decay={type: float, low: 0, high: .9}", FloatRange(type="float", low=0, high=0.9)),
    ],
)
def test_override_of_a_range_leaves_the_file_alone(
    override: str, expected: FloatRange, tmp_path: Path
) -> None:
    path = write_space(tmp_path)
    space = load_space(path, [f"search.regularizer.{override}"])
    assert expected in space.search.values()
    assert path.read_text(encoding="utf-8") == GOOD_SPACE


def test_overridden_number_of_trials_keeps_all_warm_starts(tmp_path: Path) -> None:
    starts = [{"regularizer.alpha": 0.3}, {"regularizer.alpha": 0.4}]
    path = write_space(tmp_path, (TUNING, f"tuning: {{num_trials: 2, warm_starts: {starts}}}"))
    for overrides in ([], ["tuning.num_trials=1"], ["tuning.num_trials=5"]):
        assert load_space(path, overrides).tuning.warm_starts == starts


def test_relative_data_path_is_made_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    space = make_space(tmp_path, ("dataset: digits", "dataset: 'parquet:data'"))
    assert space.trial["task"]["dataset"] == f"parquet:{tmp_path}/data"


@pytest.mark.parametrize(
    "choices",
    [
        [[1, 1], [2], None],
        [{"gaussian": 0.4}, {"gaussian": 0.4, "uniform": 0.1}],
        [True, False],
        [4, 8.5, "x"],
    ],
    ids=["lists", "mappings", "truth-values", "mixed"],
)
def test_choices_come_back_from_optuna_as_they_were(choices: list[Any]) -> None:
    distribution = Choices(type="categorical", choices=choices)
    optunas = distribution.to_optuna()
    for choice in choices:
        code = optunas.to_internal_repr(distribution.encode(choice))
        decoded = distribution.decode(optunas.to_external_repr(code))
        assert decoded == choice
        assert decoded is not choice or not isinstance(choice, list)  # the caller's own


@pytest.mark.parametrize(
    ("distribution", "expected"),
    [
        (FloatRange(type="float", low=1, high=9, step=2), FloatDistribution(1, 9, step=2)),
        (FloatRange(type="float", low=1, high=3, log=True), FloatDistribution(1, 3, log=True)),
        (IntRange(type="int", low=1, high=64, log=True), IntDistribution(1, 64, log=True)),
        (IntRange(type="int", low=1, high=9, step=4), IntDistribution(1, 9, step=4)),
    ],
    ids=["stepped", "logarithmic", "whole-logarithmic", "whole-stepped"],
)
def test_range_means_the_same_to_optuna(
    distribution: FloatRange | IntRange, expected: BaseDistribution
) -> None:
    assert distribution.to_optuna() == expected


@pytest.mark.parametrize(
    "key",
    ["regularizer.alpha", "seed", "model.scale", "training.epochs", "robustness.num_epsilons"],
)
def test_baseline_varies_only_with_what_it_depends_on(key: str, tmp_path: Path) -> None:
    changes = [
        (THRESHOLD, f"{key}: {{type: int, low: 2, high: 3}}"),
        (f"  {ALPHA}\n", ""),
        ("{epochs: 2}", "{}"),
        ("    num_epsilons: 3\n", ""),
    ]
    varies = make_space(tmp_path, *changes).baseline_varies()
    assert varies == key.startswith(("model", "training", "robustness"))
