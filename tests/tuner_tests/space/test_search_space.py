from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
from pydantic import ValidationError

from simreg_core.errors import ConfigError
from tests.tuner_tests.spaces import GOOD_SPACE, Run, assert_refused, make_space, write_space
from tuner.space.distributions import Choices, FloatRange, IntRange
from tuner.space.loading import load_space

THRESHOLD = "regularizer.threshold: {type: float, low: 0.1, high: 0.9}"
ALPHA = "regularizer.alpha: {type: float, low: 0.01, high: 3.0, log: true}"
TUNING = "tuning: {num_trials: 2, sampler: random}"
OBJECTIVES = "objectives: [clean_accuracy, robust_accuracy]"


WRONG_FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "the file is empty; expected a mapping of keys to values"),
    "comments-only": (b"# nothing yet\n", "the file is empty; expected a mapping"),
    "list": (b"- name: tiny\n", "expected a mapping of keys to values, found a list"),
    "text": (b"th_alpha\n", "expected a mapping of keys to values, found the text 'th_alpha'"),
    "not-yaml": (b"name: tiny\n\tsearch: {}\n", "line 2: not valid YAML"),
    "not-utf8": (b"name: t\xefny\n", "not a text file (byte 7 is not UTF-8)"),
    "binary": (b"PAR1\x00\x01", "not valid YAML"),
    "deeply-nested": (b"name: " + b"[" * 5000, "not valid YAML"),
}


@pytest.mark.parametrize(("content", "fragment"), WRONG_FILES.values(), ids=WRONG_FILES)
def test_file_that_holds_no_mapping_is_refused_in_one_line(
    content: bytes, fragment: str, tmp_path: Path, dry_run: Callable[..., Run]
) -> None:
    path = tmp_path / "space.yaml"
    path.write_bytes(content)
    assert_refused(dry_run(path), tmp_path / "output", [f"{path}:", fragment])


def test_missing_file_is_refused_in_one_line(tmp_path: Path, dry_run: Callable[..., Run]) -> None:
    path = tmp_path / "nowhere.yaml"
    fragments = [f"{path}: cannot be read: No such file or directory"]
    assert_refused(dry_run(path), tmp_path / "output", fragments)


def test_folder_in_place_of_the_file_is_refused_in_one_line(
    tmp_path: Path, dry_run: Callable[..., Run]
) -> None:
    fragments = [f"{tmp_path}: cannot be read: Is a directory"]
    assert_refused(dry_run(tmp_path), tmp_path / "output", fragments)


WRONG_FLAGS: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "set-without-value": (
        ["--set", "training.epochs"],
        ["--set training.epochs: expected key=value, for example training.epochs=5"],
    ),
    "set-without-key": (["--set", "=5"], ["--set =5: expected key=value"]),
    "set-of-an-unknown-key": (
        ["--set", "training.epoch=5"],
        ["trial.training.epoch: unknown key", "did you mean 'epochs'?"],
    ),
    "set-of-an-unknown-section": (
        ["--set", "trainings.epochs=5"],
        ["trial.trainings: unknown key", "did you mean 'training'?"],
    ),
    "set-of-an-unknown-key-of-a-range": (
        ["--set", "search.regularizer.alpha.hi=5.0"],
        ["search.regularizer.alpha.hi: unknown key", "did you mean 'high'?"],
    ),
    "set-below-a-list": (
        ["--set", "objectives.first=clean_accuracy"],
        ["--set objectives.first: objectives is a list, so objectives.first cannot be set"],
    ),
    "set-to-no-yaml": (["--set", "model.blocks=[1,"], ["--set model.blocks: line 1: not valid"]),
    "set-to-nothing": (
        ["--set", "training.epochs="],
        ["trial.training.epochs: expected a valid integer, found nothing"],
    ),
    "set-to-the-wrong-type": (
        ["--set", "training.learning_rate=1e-4"],
        ["trial.training.learning_rate: expected a valid number", "1.0e-4"],
    ),
    "set-to-what-the-field-refuses": (
        ["--set", "search.regularizer.threshold.high=1.0"],
        ["search.regularizer.threshold.high: expected less than 1, found the number 1.0"],
    ),
    "negative-seed": (["--seed", "-1"], ["--seed: expected a whole number of at least 0"]),
    "long-name": (["--name", "a" * 129], ["name: expected text that matches"]),
    "name-with-a-slash": (["--name", "a/b"], ["name: expected text that matches", "'a/b'"]),
    "empty-name": (["--name", ""], ["name: expected text that matches", "found ''"]),
    "name-of-the-cache": (["--name", "references"], ["name: references is the folder of"]),
}


@pytest.mark.parametrize(("flags", "fragments"), WRONG_FLAGS.values(), ids=WRONG_FLAGS)
def test_wrong_flag_is_refused_in_one_line(
    flags: Sequence[str], fragments: Sequence[str], tmp_path: Path, dry_run: Callable[..., Run]
) -> None:
    run = dry_run(write_space(tmp_path), *flags)
    assert_refused(run, tmp_path / "output", fragments)


def test_name_that_exists_is_refused_and_left_alone(
    tmp_path: Path, dry_run: Callable[..., Run]
) -> None:
    folder = tmp_path / "output" / "mine"
    folder.mkdir(parents=True)
    run = dry_run(write_space(tmp_path), "--name", "mine")
    assert run.code == 2
    assert run.errors == (
        f"tuner.run: {folder} exists; choose another --name (nothing is overwritten)\n"
    )
    assert list((tmp_path / "output").rglob("*")) == [folder]


def test_damaged_data_file_is_refused_in_one_line(
    tmp_path: Path, dry_run: Callable[..., Run]
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "train.parquet").write_bytes(b"PAR1 cut off")
    path = write_space(tmp_path, ("dataset: digits", f"dataset: 'parquet:{data}'"))
    fragments = [f"{path}: trial.task.dataset: {data}/train.parquet is not a readable Parquet file"]
    assert_refused(dry_run(path), tmp_path / "output", fragments)


def test_damaged_image_is_refused_in_one_line(
    tmp_path: Path,
    dry_run: Callable[..., Run],
    make_png: Callable[..., bytes],
    write_parquet: Callable[..., None],
) -> None:
    images = [make_png(0), make_png(1)[:40], make_png(2)]
    write_parquet(tmp_path / "data" / "train.parquet", images, [0, 1, 0])
    path = write_space(tmp_path, ("dataset: digits", f"dataset: 'parquet:{tmp_path}/data'"))
    fragments = [f"{path}: trial.task.dataset:", "row 1 is not a readable image"]
    assert_refused(dry_run(path), tmp_path / "output", fragments)


def test_data_of_a_searched_choice_is_checked_too(
    tmp_path: Path, dry_run: Callable[..., Run]
) -> None:
    choices = "regularizer.dataset: {type: categorical, choices: [task, 'parquet:/nowhere']}"
    path = write_space(tmp_path, (THRESHOLD, choices))
    fragments = [f"{path}: trial.regularizer.dataset: /nowhere/train.parquet does not exist"]
    assert_refused(dry_run(path), tmp_path / "output", fragments)


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
        pytest.param([], id="as-it-is"),
        pytest.param(
            [(THRESHOLD, "regularizer.dataset: {type: categorical, choices: [task, natural]}")],
            id="text-choices",
        ),
        pytest.param(
            [
                ("base_channels: 4, blocks: [1, 1]", "base_channels: 4"),
                (THRESHOLD, "model.blocks: {type: categorical, choices: [[1], [1, 1], null]}"),
            ],
            id="list-choices",
        ),
        pytest.param([("low: 0.01", "low: 1.0e-07")], id="small-number"),
        pytest.param([("high: 0.9", "high: 0.9, step: 0.2")], id="step"),
        pytest.param([(ALPHA, "seed: {type: int, low: 1, high: 4294967295}")], id="large-number"),
        pytest.param([("name: tiny", "name: '1e-4'")], id="name-like-a-number"),
        pytest.param(
            [(TUNING, "tuning: {num_trials: 3, seed: 4, confirm: {top: 1, seeds: 2}, "
              "warm_starts: [{regularizer.alpha: 0.3}]}")],
            id="warm-starts-and-confirmation",
        ),
    ],
)  # fmt: skip
def test_yaml_text_reads_back_as_an_equal_space(
    changes: Sequence[tuple[str, str]], tmp_path: Path
) -> None:
    space = make_space(tmp_path, *changes)
    again = tmp_path / "again.yaml"
    again.write_text(space.to_yaml(), encoding="utf-8")
    assert load_space(again) == space


@pytest.mark.parametrize(
    ("override", "found"),
    [
        ("tuning.num_trials=9", lambda space: space.tuning.num_trials == 9),
        ("name=other", lambda space: space.name == "other"),
        ("training.epochs=7", lambda space: space.trial["training"]["epochs"] == 7),
        ("trial.training.epochs=7", lambda space: space.trial["training"]["epochs"] == 7),
        ("seed=3", lambda space: space.trial["seed"] == 3),
        ("objectives=[tradeoff_score]", lambda space: space.objectives == ["tradeoff_score"]),
        (
            "search.regularizer.alpha.high=9.0",
            lambda space: space.search["regularizer.alpha"].high == 9.0,
        ),
        (
            "search.regularizer.alpha={type: float, low: 0.5, high: 0.6}",
            lambda space: space.search["regularizer.alpha"].log is False,
        ),
        (
            "search.regularizer.mean_decay={type: float, low: 0.5, high: 0.9}",
            lambda space: list(space.search)[-1] == "regularizer.mean_decay",
        ),
    ],
)
def test_override_reaches_its_key(
    override: str, found: Callable[[Any], bool], tmp_path: Path
) -> None:
    assert found(load_space(write_space(tmp_path), [override]))


def test_overridden_number_of_trials_keeps_all_warm_starts(tmp_path: Path) -> None:
    starts = [{"regularizer.alpha": 0.3}, {"regularizer.alpha": 0.4}]
    tuning = f"tuning: {{num_trials: 2, warm_starts: {starts}}}"
    path = write_space(tmp_path, (TUNING, tuning))
    assert load_space(path).tuning.warm_starts == starts
    assert load_space(path, ["tuning.num_trials=1"]).tuning.warm_starts == starts
    assert load_space(path, ["tuning.num_trials=5"]).tuning.warm_starts == starts


def test_later_override_wins(tmp_path: Path) -> None:
    space = load_space(write_space(tmp_path), ["training.epochs=7", "training.epochs=8"])
    assert space.trial["training"]["epochs"] == 8


def test_override_of_a_range_leaves_the_file_alone(tmp_path: Path) -> None:
    path = write_space(tmp_path)
    load_space(path, ["search.regularizer.alpha.high=9.0"])
    assert path.read_text(encoding="utf-8") == GOOD_SPACE


def test_relative_data_path_is_made_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    space = make_space(tmp_path, ("dataset: digits", "dataset: 'parquet:data'"))
    assert space.trial["task"]["dataset"] == f"parquet:{tmp_path}/data"


@pytest.mark.parametrize(
    "choices",
    [
        pytest.param([[1, 1], [2], None], id="lists"),
        pytest.param([{"gaussian": 0.4}, {"gaussian": 0.4, "uniform": 0.1}], id="mappings"),
        pytest.param([True, False], id="truth-values"),
        pytest.param([4, 8.5, "x"], id="mixed"),
    ],
)
def test_choices_come_back_from_optuna_as_they_were(choices: list[Any]) -> None:
    distribution = Choices(type="categorical", choices=choices)
    stored = distribution.to_optuna().to_internal_repr
    for choice in choices:
        code = stored(distribution.encode(choice))
        assert distribution.decode(distribution.to_optuna().to_external_repr(code)) == choice


def test_decoded_list_is_the_callers_own() -> None:
    distribution = Choices(type="categorical", choices=[[1, 1], [2]])
    distribution.decode("[1, 1]").append(9)
    assert distribution.decode("[1, 1]") == [1, 1]


@pytest.mark.parametrize(
    ("distribution", "expected"),
    [
        (
            FloatRange(type="float", low=0.1, high=0.9, step=0.2),
            optuna.distributions.FloatDistribution(0.1, 0.9, step=0.2),
        ),
        (
            FloatRange(type="float", low=0.01, high=3.0, log=True),
            optuna.distributions.FloatDistribution(0.01, 3.0, log=True),
        ),
        (
            IntRange(type="int", low=1, high=64, log=True),
            optuna.distributions.IntDistribution(1, 64, log=True),
        ),
        (
            IntRange(type="int", low=1, high=9, step=4),
            optuna.distributions.IntDistribution(1, 9, step=4),
        ),
    ],
    ids=["stepped", "logarithmic", "whole-logarithmic", "whole-stepped"],
)
def test_range_means_the_same_to_optuna(
    distribution: FloatRange | IntRange, expected: optuna.distributions.BaseDistribution
) -> None:
    assert distribution.to_optuna() == expected


@pytest.mark.parametrize(
    ("key", "varies"),
    [
        ("regularizer.alpha", False),
        ("seed", False),
        ("model.scale", True),
        ("training.epochs", True),
        ("robustness.num_epsilons", True),
    ],
)
def test_baseline_varies_only_with_what_it_depends_on(
    key: str, varies: bool, tmp_path: Path
) -> None:
    changes = [
        (THRESHOLD, f"{key}: {{type: int, low: 2, high: 3}}"),
        (f"  {ALPHA}\n", ""),
        ("{epochs: 2}", "{}"),
        ("    num_epsilons: 3\n", ""),
    ]
    assert make_space(tmp_path, *changes).baseline_varies() is varies


def test_error_of_a_file_names_the_file_it_came_from(tmp_path: Path) -> None:
    path = write_space(tmp_path, ("high: 0.9", "high: 1.5"))
    with pytest.raises(ConfigError, match=f"^{path}: search"):
        load_space(path)
