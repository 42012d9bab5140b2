from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.tuner_tests.spaces import (
    ALPHA,
    OBJECTIVES,
    THRESHOLD,
    TUNING,
    Run,
    assert_refused,
    write_space,
)

REFERENCE = "    reference: {gaussian: 0.4, transfer_fgsm: 0.15}\n"
MODEL = "model: {base_channels: 4, blocks: [1, 1]}"
SAMPLER = "sampler: random"
STOPPING = "early_stopping: {type: asha, metric: clean_accuracy, "


def _searched(key: str, kind: str, rest: str) -> tuple[str, str]:
    """Searches another key in place of the threshold."""
    return (THRESHOLD, f"{key}: {{type: {kind}, {rest}}}")


def _choices(key: str, choices: str) -> tuple[str, str]:
    return _searched(key, "categorical", f"choices: {choices}")


def _demand(constraints: str) -> tuple[str, str]:
    return (OBJECTIVES, f"{OBJECTIVES}\nconstraints: {constraints}")


# The key that the message names, what it says was found, and what is changed in the good space.
WRONG_SPACES: list[tuple[str, str, *tuple[tuple[str, str], ...]]] = [
    # types and numbers
    ("trial.training.epochs", "'two'", ("epochs: 2", "epochs: two")),
    ("tuning.num_trials", "2.5", ("num_trials: 2", "num_trials: 2.5")),
    ("trial.training.epochs", "a whole number greater", ("epochs: 2", "epochs: 0")),
    ("search.regularizer.threshold.low", "True", ("low: 0.1", "low: true")),
    ("objectives", "text 'clean_acc", (OBJECTIVES, "objectives: clean_accuracy")),
    ("search.regularizer.threshold.low", "nan", ("low: 0.1", "low: .nan")),
    # keys
    ("objective", "constraints, tuning", (TUNING, f"{TUNING}\nobjective: clean_accuracy")),
    ("search.regularizer.threshold.lo", "'low'?", ("low: 0.1,", "low: 0.1, lo: 0.2,")),
    ("name", "required", ("name: tiny\n", "")),
    ("line 14", "given twice", (THRESHOLD, f"{THRESHOLD}\n  {THRESHOLD}")),
    ("search.regularizer.treshold", "regularizer.thr", ("regularizer.thr", "regularizer.tr")),
    ("search.regularizer", "no field", _choices("regularizer", "[1, 2]")),
    (
        "search.regularizer.alpha",
        "trial.regularizer.alpha",
        ("{num_images", "{alpha: 0.3, num_images"),
    ),
    (
        "search",
        "model is nothing",
        (MODEL, "model:"),
        _searched("model.scale", "float", "low: 1.0, high: 5.0"),
    ),
    (
        "search.robustness.reference.gaussian",
        "within robustness.reference",
        (REFERENCE, ""),
        _choices("robustness.reference", "[{uniform: 1}, {gaussian: 1}]"),
        (ALPHA, "robustness.reference.gaussian: {type: float, low: 0.1, high: 0.4}"),
    ),
    (
        "trial.robustness.attacks.pgd",
        "'pgd'",
        _searched("robustness.attacks.pgd.max_epsilon", "float", "low: 0.1, high: 0.4"),
    ),
    (
        "trial: model",
        "no effect with architecture resnet18",
        _choices("model.options.width", "[4, 8]"),
    ),
    (
        "search.model.options.width",
        "trial.model.options.width",
        (MODEL, "model: {architecture: 'mine:net', options: {width: 4}}"),
        _choices("model.options.width", "[4, 8]"),
    ),
    # ranges and choices
    ("search.regularizer.threshold.type", "'uniform'", ("float, low: 0.1", "uniform, low: 0.1")),
    ("search.regularizer.threshold", "0.5", (THRESHOLD, "regularizer.threshold: 0.5")),
    ("search.regularizer.threshold", "low (0.95)", ("low: 0.1", "low: 0.95")),
    ("search.regularizer.threshold", "constant", ("low: 0.1", "low: 0.9")),
    ("search.regularizer.alpha", "log range", ("low: 0.01", "low: 0.0")),
    ("search.regularizer.alpha", "log and step", ("log: true", "log: true, step: 0.1")),
    ("search.regularizer.threshold", "multiple of step", ("high: 0.9", "high: 0.9, step: 0.3")),
    ("search.seed", "multiple of step", _searched("seed", "int", "low: 1, high: 8, step: 3")),
    ("search.seed.high", "less than", _searched("seed", "int", "low: 1, high: 9007199254740993")),
    (
        "search.training.batch_size.low",
        "2.5",
        _searched("training.batch_size", "float", "low: 2.5, high: 8.0"),
    ),
    ("search.regularizer.dataset.choices", "found 1", _choices("regularizer.dataset", "[digits]")),
    (
        "search.regularizer.dataset.choices",
        "twice",
        _choices("regularizer.dataset", "[digits, task, digits]"),
    ),
    (
        "search.regularizer.dataset.choices.1",
        "'mnist5'",
        _choices("regularizer.dataset", "[digits, mnist5]"),
    ),
    ("search.regularizer.threshold.high", "1.5", ("high: 0.9", "high: 1.5")),
    ("search", "at least 1", (f"search:\n  {THRESHOLD}\n  {ALPHA}\n", "search: {}\n")),
    # names
    ("trial.task.dataset", "'cifar11'; allowed: ", ("dataset: digits", "dataset: cifar11")),
    ("objectives", "'accuracy'", ("[clean_accuracy,", "[accuracy,")),
    ("objectives", "'tradeoff_ratio'", (OBJECTIVES, "objectives: [tradeoff_ratio]")),
    ("objectives", "twice", ("[clean_accuracy, robust", "[robust_accuracy, robust")),
    ("objectives", "trial.robustness.ref", ("[clean_accuracy,", "[robust_accuracy.uniform,")),
    ("objectives", "corruption:fog in", ("[clean_accuracy,", "[robust_accuracy.corruption:fog,")),
    ("objectives", "trial.robustness.boundary", ("[clean_accuracy,", "[boundary_distance,")),
    ("name", "'a/b'", ("name: tiny", "name: a/b")),
    ("name", "'..'", ("name: tiny", "name: ..")),
    ("name", "baselines", ("name: tiny", "name: baselines")),
    # tuning
    (
        "tuning.warm_starts.0.regularizer.alpha",
        "'high': 3.0",
        (SAMPLER, "warm_starts: [{regularizer.alpha: 30.0}]"),
    ),
    (
        "tuning.warm_starts.1.training.epochs",
        "not a searched key",
        (SAMPLER, "warm_starts: [{regularizer.alpha: 0.3}, {training.epochs: 3}]"),
    ),
    (
        "tuning.warm_starts.0.regularizer.alpha",
        "'much'",
        (SAMPLER, "warm_starts: [{regularizer.alpha: much}]"),
    ),
    (
        "tuning.warm_starts.0.regularizer.threshold",
        "'step': 0.2",
        ("high: 0.9", "high: 0.9, step: 0.2"),
        (SAMPLER, "warm_starts: [{regularizer.threshold: 0.4}]"),
    ),
    ("tuning.warm_starts.0", "0.3", (SAMPLER, "warm_starts: [0.3]")),
    ("tuning.confirm.seeds", "number 1", (SAMPLER, "confirm: {top: 1, seeds: 1}")),
    ("tuning.early_stopping.grace_epochs", "1 to 1", (SAMPLER, STOPPING + "grace_epochs: 2}")),
    ("tuning.early_stopping", "min_trials", (SAMPLER, STOPPING + "min_trials: 2}")),
    (
        "tuning.early_stopping.metric",
        "'accuracy_cost'",
        (SAMPLER, "early_stopping: {type: median, metric: accuracy_cost}"),
    ),
    (
        "seed is searched",
        "tuning.num_seeds",
        _searched("seed", "int", "low: 0, high: 4"),
        (SAMPLER, "num_seeds: 2"),
    ),
    # constraints
    ("constraints", "cannot both be met", _demand("[accuracy_cost >= 0.1, accuracy_cost <= 0]")),
    ("constraints", "keep one", _demand("[clean_accuracy >= .9, clean_accuracy>=0.9]")),
    ("constraints", "METRIC >= NUMBER", _demand("[clean_accuracy > 0.9]")),
    ("constraints", "METRIC >= NUMBER", _demand("[clean_accuracy >= nan]")),
    ("constraints", "'accuracy'", _demand("[accuracy >= 0.9]")),
    ("constraints", "percent", _demand("[clean_accuracy >= 90]")),
    ("constraints", "trial.robustness.corruptions", _demand("[corruption_accuracy >= 0.5]")),
    # data
    (
        "trial.task.dataset",
        "/nowhere/train.parquet",
        ("dataset: digits", "dataset: 'parquet:/nowhere'"),
    ),
    (  # also where it is only one of the choices
        "trial.regularizer.dataset",
        "/nowhere/train.parquet",
        _choices("regularizer.dataset", "[task, 'parquet:/nowhere']"),
    ),
    ("trial.regularizer.num_images", "has 128", ("num_images: 64", "num_images: 999999")),
    ("trial.task.num_train", "1733", ("num_train: 128", "num_train: 5000")),
    (
        "trial: training.augmentation.crop_padding",
        "task.image_size",
        ("{epochs: 2}", "{epochs: 2, augmentation: {crop_padding: 8}}"),
    ),
    # what is not even YAML of JSON's types
    ("line 1", "os.getcwd", ("name: tiny", "name: !!python/object/apply:os.getcwd []")),
    ("line 1: not valid YAML", "alias", ("name: tiny", "name: &again [*again]")),
    ("line 16", "not valid YAML", (OBJECTIVES, "objectives: [clean_accuracy")),
]


@pytest.mark.parametrize("case", WRONG_SPACES, ids=[case[0] for case in WRONG_SPACES])
def test_wrong_space_is_refused_by_its_key(
    case: tuple[str, str, *tuple[tuple[str, str], ...]], tmp_path: Path, dry_run: Callable[..., Run]
) -> None:
    key, found, *changes = case
    path = write_space(tmp_path, *changes)
    assert_refused(dry_run(path), tmp_path / "output", [f"{path}: {key}", found])


WRONG_FLAGS: list[tuple[str, str, Sequence[str]]] = [
    ("--set training.epochs", "key=value", ["--set", "training.epochs"]),
    ("--set model.blocks", "line 1", ["--set", "model.blocks=[1,"]),
    ("--set objectives.first", "a list", ["--set", "objectives.first=clean_accuracy"]),
    ("trial.training.epoch", "'epochs'?", ["--set", "training.epoch=5"]),
    (
        "search.regularizer.threshold.high",
        "1.0",
        ["--set", "search.regularizer.threshold.high=1.0"],
    ),
    ("--seed", "at least 0", ["--seed", "-1"]),
    ("name", "'aaa", ["--name", "a" * 129]),
    ("name", "''", ["--name", ""]),
]


@pytest.mark.parametrize(
    ("key", "found", "flags"), WRONG_FLAGS, ids=[" ".join(flags) for *_, flags in WRONG_FLAGS]
)
def test_wrong_flag_is_refused_by_its_key(
    key: str, found: str, flags: Sequence[str], tmp_path: Path, dry_run: Callable[..., Run]
) -> None:
    run = dry_run(write_space(tmp_path), *flags)
    assert_refused(run, tmp_path / "output", [f"{key}: ", found])


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (None, "No such file"),
        (b"- name: tiny\n", "a list"),
    ],
)
def test_file_that_is_no_mapping_is_refused(
    content: bytes | None, found: str, tmp_path: Path, dry_run: Callable[..., Run]
) -> None:
    path = tmp_path / "space.yaml"
    if content is not None:
        path.write_bytes(content)
    assert_refused(dry_run(path), tmp_path / "output", [f"{path}: ", found])


def test_damaged_image_is_refused(
    tmp_path: Path,
    dry_run: Callable[..., Run],
    make_png: Callable[..., bytes],
    write_parquet: Callable[..., None],
) -> None:
    images = [make_png(0), make_png(1)[:40], make_png(2)]
    write_parquet(tmp_path / "data" / "train.parquet", images, [0, 1, 0])
    path = write_space(tmp_path, ("dataset: digits", f"dataset: 'parquet:{tmp_path}/data'"))
    assert_refused(
        dry_run(path),
        tmp_path / "output",
        [f"{path}: trial.task.dataset:", "row 1 is not a readable"],
    )
