from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.tuner_tests.spaces import Run, assert_refused, write_space

THRESHOLD = "regularizer.threshold: {type: float, low: 0.1, high: 0.9}"
ALPHA = "regularizer.alpha: {type: float, low: 0.01, high: 3.0, log: true}"
TUNING = "tuning: {num_trials: 2, sampler: random}"
OBJECTIVES = "objectives: [clean_accuracy, robust_accuracy]"

# Each case: what is changed in the good space, and what the message must say: the key, what was
# found, and what is allowed.
WRONG_SPACES: dict[str, tuple[Sequence[tuple[str, str]], Sequence[str]]] = {
    # types
    "text-for-a-number": (
        [("epochs: 2", "epochs: two")],
        ["trial.training.epochs: expected a valid integer", "found the text 'two'"],
    ),
    "fraction-for-a-whole-number": (
        [("num_trials: 2", "num_trials: 2.5")],
        ["tuning.num_trials: expected a valid integer", "2.5"],
    ),
    "truth-value-for-a-number": (
        [("low: 0.1", "low: true")],
        ["search.regularizer.threshold.low: expected a valid number", "found the truth value True"],
    ),
    "number-for-a-truth-value": (
        [("log: true", "log: 1")],
        ["search.regularizer.alpha.log: expected a valid boolean", "found the number 1"],
    ),
    "list-for-a-mapping": (
        [("training: {epochs: 2}", "training: [epochs, 2]")],
        ["trial.training: expected a mapping", "found a list"],
    ),
    "text-for-a-list": (
        [(OBJECTIVES, "objectives: clean_accuracy")],
        ["objectives: expected a valid list", "found the text 'clean_accuracy'"],
    ),
    # how YAML reads numbers
    "exponent-without-dot": (
        [("low: 0.01", "low: 1e-4")],
        ["search.regularizer.alpha.low", "found the text '1e-4'", "(YAML needs a dot", "1.0e-4"],
    ),
    "exponent-without-sign": (
        [("high: 3.0", "high: 3e2")],
        ["search.regularizer.alpha.high", "found the text '3e2'", "3.0e+2"],
    ),
    "division": (
        [("{max_epsilon: 0.2}", "{max_epsilon: 8/255}")],
        [
            "trial.robustness.attacks.transfer_fgsm.max_epsilon: expected a valid number",
            "found the text '8/255'",
        ],
    ),
    "leading-zero": (
        [("num_images: 64", "num_images: 012")],
        ["trial.regularizer.num_images: expected a valid integer", "found the text '012'"],
    ),
    "quoted-number": (
        [("epochs: 2", "epochs: '2'")],
        ["trial.training.epochs: expected a valid integer", "found the text '2'"],
    ),
    "not-a-number": (
        [("low: 0.1", "low: .nan")],
        ["search.regularizer.threshold.low: expected a finite number", "nan"],
    ),
    "infinite-bound": (
        [("high: 3.0", "high: .inf")],
        ["search.regularizer.alpha.high: expected a finite number", "inf"],
    ),
    "infinite-value": (
        [("{epochs: 2}", "{epochs: 2, learning_rate: .inf}")],
        ["trial.training.learning_rate: expected a finite number", "inf"],
    ),
    # keys
    "unknown-key-at-the-top": (
        [(TUNING, f"{TUNING}\nobjective: clean_accuracy")],
        [
            "objective: unknown key",
            "allowed here: name, trial, search, objectives, constraints, tuning",
        ],
    ),
    "unknown-key-in-trial": (
        [("{epochs: 2}", "{epoch: 2}")],
        ["trial.training.epoch: unknown key", "epochs, batch_size", "did you mean 'epochs'?"],
    ),
    "unknown-section-in-trial": (
        [("  training:", "  trainings:")],
        ["trial.trainings: unknown key", "did you mean 'training'?"],
    ),
    "unknown-key-in-a-range": (
        [("low: 0.1,", "low: 0.1, lo: 0.2,")],
        ["search.regularizer.threshold.lo: unknown key", "type, low, high, log, step"],
    ),
    "unknown-key-in-tuning": (
        [("sampler: random", "samplers: random")],
        ["tuning.samplers: unknown key", "num_trials, sampler", "did you mean 'sampler'?"],
    ),
    "unknown-key-in-confirm": (
        [("sampler: random", "confirm: {top: 1, seeds: 2, seed: 1}")],
        ["tuning.confirm.seed: unknown key", "allowed here: top, seeds"],
    ),
    "missing-key": ([("name: tiny\n", "")], ["name: required, but not given"]),
    "missing-key-in-a-range": (
        [("{type: float, low: 0.1, high: 0.9}", "{type: float, low: 0.1}")],
        ["search.regularizer.threshold.high: required, but not given"],
    ),
    "missing-task": (
        [
            (
                "  task: {dataset: digits, image_size: 8, num_train: 128, num_validation: 64, "
                "num_test: 64}\n",
                "",
            )
        ],
        ["trial.task: required, but not given"],
    ),
    "repeated-key": (
        [("{epochs: 2}", "{epochs: 2, epochs: 3}")],
        ["line 5", "key 'epochs' is given twice"],
    ),
    "repeated-searched-key": (
        [(THRESHOLD, f"{THRESHOLD}\n  {THRESHOLD}")],
        ["line 14", "key 'regularizer.threshold' is given twice"],
    ),
    "key-that-is-no-text": ([("name: tiny", "1: tiny")], ["line 1", "a key must be text, found 1"]),
    "path-that-does-not-exist": (
        [("regularizer.threshold:", "regularizer.treshold:")],
        ["search.regularizer.treshold: no field", "such as regularizer.threshold"],
    ),
    "path-of-a-whole-section": (
        [(THRESHOLD, "regularizer: {type: categorical, choices: [{alpha: 1.0}, {alpha: 2.0}]}")],
        ["search.regularizer: no field of the trial configuration", "allowed: dotted paths"],
    ),
    "fixed-and-searched": (
        [("{num_images: 64,", "{num_images: 64, alpha: 0.3,")],
        ["search.regularizer.alpha: also fixed, to 0.3, in trial.regularizer.alpha"],
    ),
    "searched-below-nothing": (
        [
            ("model: {base_channels: 4, blocks: [1, 1]}", "model:"),
            (THRESHOLD, "model.scale: {type: float, low: 1.0, high: 5.0}"),
        ],
        ["search: model is nothing, so model.scale cannot be set"],
    ),
    "searched-whole-and-in-part": (
        [
            ("    reference: {gaussian: 0.4, transfer_fgsm: 0.15}\n", ""),
            (
                THRESHOLD,
                "robustness.reference: "
                "{type: categorical, choices: [{gaussian: 0.4}, {gaussian: 0.3}]}",
            ),
            (ALPHA, "robustness.reference.gaussian: {type: float, low: 0.1, high: 0.4}"),
        ],
        ["search.robustness.reference.gaussian: lies within robustness.reference"],
    ),
    "unknown-attack-searched": (
        [(THRESHOLD, "robustness.attacks.pgd.max_epsilon: {type: float, low: 0.1, high: 0.4}")],
        ["trial: robustness.attacks: unknown attack 'pgd'; allowed: gaussian"],
    ),
    # ranges and choices
    # ranges and choices
    "unknown-kind-of-range": (
        [("type: float, low: 0.1", "type: uniform, low: 0.1")],
        ["search.regularizer.threshold.type: expected 'float', 'int', 'categorical'", "'uniform'"],
    ),
    "no-kind-of-range": (
        [("{type: float, low: 0.1", "{low: 0.1")],
        ["search.regularizer.threshold.type: required; one of float, int, categorical"],
    ),
    "bare-value-searched": (
        [(THRESHOLD, "regularizer.threshold: 0.5")],
        ["search.regularizer.threshold: expected a mapping", "found the number 0.5"],
    ),
    "low-above-high": (
        [("low: 0.1", "low: 0.95")],
        ["search.regularizer.threshold: low (0.95) must be below high (0.9)"],
    ),
    "low-equals-high": (
        [("low: 0.1", "low: 0.9")],
        ["search.regularizer.threshold: low and high are both 0.9; write a constant"],
    ),
    "log-from-zero": (
        [("low: 0.01", "low: 0.0")],
        ["search.regularizer.alpha: a log range needs low above 0, found 0"],
    ),
    "log-with-step": (
        [("log: true", "log: true, step: 0.1")],
        ["search.regularizer.alpha: log and step cannot be combined"],
    ),
    "step-of-zero": (
        [("high: 0.9", "high: 0.9, step: 0.0")],
        ["search.regularizer.threshold.step: expected greater than 0", "found the number 0.0"],
    ),
    "range-that-is-no-multiple-of-its-step": (
        [("high: 0.9", "high: 0.9, step: 0.3")],
        ["search.regularizer.threshold: high (0.9) is not low (0.1) plus a multiple of step (0.3)"],
    ),
    "whole-range-that-is-no-multiple-of-its-step": (
        [(ALPHA, "seed: {type: int, low: 1, high: 8, step: 3}")],
        ["search.seed: high (8) is not low (1) plus a multiple of step (3)"],
    ),
    "bound-that-a-float-cannot-hold": (
        [(ALPHA, "seed: {type: int, low: 1, high: 9007199254740993}")],
        ["search.seed.high: expected less than or equal to 9007199254740992"],
    ),
    "fractions-for-a-whole-field": (
        [(THRESHOLD, "training.batch_size: {type: float, low: 2.5, high: 8.0}")],
        ["search.training.batch_size.low: expected a valid integer", "2.5"],
    ),
    "no-choices": (
        [(THRESHOLD, "regularizer.dataset: {type: categorical, choices: []}")],
        ["search.regularizer.dataset.choices: at least 2 entries are needed, found 0"],
    ),
    "one-choice": (
        [(THRESHOLD, "regularizer.dataset: {type: categorical, choices: [digits]}")],
        ["search.regularizer.dataset.choices: at least 2 entries are needed, found 1"],
    ),
    "choice-given-twice": (
        [(THRESHOLD, "regularizer.dataset: {type: categorical, choices: [digits, task, digits]}")],
        ['search.regularizer.dataset.choices: choice "digits" is given twice'],
    ),
    "choice-that-the-field-refuses": (
        [(THRESHOLD, "regularizer.dataset: {type: categorical, choices: [digits, mnist5]}")],
        ["search.regularizer.dataset.choices.1: unknown dataset 'mnist5'", "allowed: task, digits"],
    ),
    "choice-of-the-wrong-type": (
        [(THRESHOLD, "training.keep: {type: categorical, choices: [best, 7]}")],
        ["search.training.keep.choices.1: expected 'best' or 'last'", "found the number 7"],
    ),
    "bound-outside-of-the-field": (
        [("high: 0.9", "high: 1.5")],
        ["search.regularizer.threshold.high: expected less than 1", "found the number 1.5"],
    ),
    "nothing-searched": (
        [(f"search:\n  {THRESHOLD}\n  {ALPHA}\n", "search: {}\n")],
        ["search: at least 1 entries are needed, found 0"],
    ),
    # names
    "unknown-dataset": (
        [("dataset: digits", "dataset: cifar11")],
        ["trial.task.dataset: unknown dataset 'cifar11'", "allowed: digits, cifar10, cifar100"],
    ),
    "dataset-without-labels": (
        [("dataset: digits", "dataset: natural")],
        ["trial.task.dataset: 'natural' has no labels"],
    ),
    "unknown-attack": (
        [("attacks: {gaussian:", "attacks: {pgd: {max_epsilon: 0.1}, gaussian:")],
        ["trial.robustness.attacks: unknown attack 'pgd'", "gaussian, uniform, salt_pepper"],
    ),
    "reference-that-is-not-measured": (
        [("{gaussian: 0.4, transfer", "{uniform: 0.4, transfer")],
        ["trial.robustness: reference names attacks that are not measured: uniform"],
    ),
    "unknown-protocol": (
        [("dataset: digits", "dataset: digits, protocol: imagenet")],
        ["trial.task.protocol: unknown protocol 'imagenet'", "allowed: cifar10"],
    ),
    "unknown-sampler": (
        [("sampler: random", "sampler: cmaes")],
        [
            "tuning.sampler: expected 'tpe', 'nsgaii', 'gp', 'random' or 'grid'",
            "found the text 'cmaes'",
        ],
    ),
    "unknown-objective": (
        [("[clean_accuracy,", "[accuracy,")],
        ["objectives: 'accuracy' is no objective", "allowed: clean_accuracy, robust_accuracy"],
    ),
    "metric-that-is-no-objective": (
        [(OBJECTIVES, "objectives: [tradeoff_ratio]")],
        ["objectives: 'tradeoff_ratio' is no objective", "tradeoff_score"],
    ),
    "objective-given-twice": (
        [("[clean_accuracy, robust", "[robust_accuracy, robust")],
        ["objectives: 'robust_accuracy' is given twice"],
    ),
    "no-objective": (
        [(OBJECTIVES, "objectives: []")],
        ["objectives: at least 1 entries are needed, found 0"],
    ),
    "objective-of-an-attack-without-reference": (
        [("[clean_accuracy,", "[robust_accuracy.uniform,")],
        [
            "objectives: robust_accuracy.uniform needs uniform in trial.robustness.reference",
            "which has: gaussian, transfer_fgsm",
        ],
    ),
    "name-with-a-slash": (
        [("name: tiny", "name: a/b")],
        ["name: expected text that matches", "found 'a/b'"],
    ),
    "name-of-the-parent-folder": (
        [("name: tiny", "name: ..")],
        ["name: expected text that matches", "found '..'"],
    ),
    "name-that-is-a-number": (
        [("name: tiny", "name: 2024")],
        ["name: expected a valid string", "found the number 2024"],
    ),
    "name-of-the-cache": (
        [("name: tiny", "name: references")],
        ["name: references is the folder of reference networks"],
    ),
    # tuning
    "warm-start-out-of-range": (
        [("sampler: random", "warm_starts: [{regularizer.alpha: 30.0}]")],
        ["tuning.warm_starts.0.regularizer.alpha: 30.0 is outside", "'high': 3.0"],
    ),
    "warm-start-of-an-unknown-key": (
        [("sampler: random", "warm_starts: [{regularizer.alpha: 0.3}, {training.epochs: 3}]")],
        [
            "tuning.warm_starts.1.training.epochs: not a searched key",
            "allowed: regularizer.threshold, regularizer.alpha",
        ],
    ),
    "warm-start-of-the-wrong-type": (
        [("sampler: random", "warm_starts: [{regularizer.alpha: much}]")],
        ["tuning.warm_starts.0.regularizer.alpha: 'much' is outside", "'low': 0.01"],
    ),
    "warm-start-between-steps": (
        [
            ("high: 0.9", "high: 0.9, step: 0.2"),
            ("sampler: random", "warm_starts: [{regularizer.threshold: 0.4}]"),
        ],
        ["tuning.warm_starts.0.regularizer.threshold: 0.4 is outside", "'step': 0.2"],
    ),
    "warm-start-that-is-no-mapping": (
        [("sampler: random", "warm_starts: [0.3]")],
        ["tuning.warm_starts.0: expected a mapping", "found the number 0.3"],
    ),
    "no-trials": (
        [("num_trials: 2", "num_trials: 0")],
        ["tuning.num_trials: expected greater than or equal to 1", "found the number 0"],
    ),
    "negative-seed": (
        [("sampler: random", "seed: -1")],
        ["tuning.seed: expected greater than or equal to 0", "found the number -1"],
    ),
    "confirm-without-seeds": (
        [("sampler: random", "confirm: {top: 1}")],
        ["tuning.confirm.seeds: required, but not given"],
    ),
    "confirm-with-one-seed": (
        [("sampler: random", "confirm: {top: 1, seeds: 1}")],
        ["tuning.confirm.seeds: expected greater than or equal to 2", "found the number 1"],
    ),
    # constraints
    "contradictory-constraints": (
        [(OBJECTIVES, f"{OBJECTIVES}\nconstraints: [accuracy_cost >= 0.1, accuracy_cost <= 0]")],
        ["constraints", "'accuracy_cost >= 0.1' and 'accuracy_cost <= 0' cannot both be met"],
    ),
    "constraint-in-two-spellings": (
        [(OBJECTIVES, f"{OBJECTIVES}\nconstraints: [clean_accuracy >= .9, clean_accuracy>=0.9]")],
        ["constraints", "'clean_accuracy >= .9' and 'clean_accuracy>=0.9' bound the same"],
    ),
    "constraint-without-a-bound": (
        [(OBJECTIVES, f"{OBJECTIVES}\nconstraints: [clean_accuracy > 0.9]")],
        ["constraints", "expected METRIC >= NUMBER", "found 'clean_accuracy > 0.9'"],
    ),
    "constraint-on-an-unknown-metric": (
        [(OBJECTIVES, f"{OBJECTIVES}\nconstraints: [accuracy >= 0.9]")],
        ["constraints", "'accuracy' is no metric; allowed: clean_accuracy, robust_accuracy"],
    ),
    "constraint-that-is-not-finite": (
        [(OBJECTIVES, f"{OBJECTIVES}\nconstraints: [clean_accuracy >= nan]")],
        ["constraints", "expected METRIC >= NUMBER"],
    ),
    "constraint-in-percent": (
        [(OBJECTIVES, f"{OBJECTIVES}\nconstraints: [clean_accuracy >= 90]")],
        ["constraints", "'clean_accuracy >= 90': accuracies are in [0, 1], not in percent"],
    ),
    "constraint-that-is-no-list": (
        [(OBJECTIVES, f"{OBJECTIVES}\nconstraints: clean_accuracy >= 0.9")],
        ["constraints: expected a valid list", "clean_accuracy >= 0.9"],
    ),
    "constraint-given-twice": (
        [(OBJECTIVES, f"{OBJECTIVES}\nconstraints: [accuracy_cost <= 0.1, accuracy_cost <= 0.1]")],
        [
            "constraints",
            "'accuracy_cost <= 0.1' and 'accuracy_cost <= 0.1' bound the same; keep one",
        ],
    ),
    "constraint-on-an-attack-that-is-not-measured": (
        [(OBJECTIVES, f"{OBJECTIVES}\nconstraints: [robust_accuracy.uniform >= 0.5]")],
        ["constraints: robust_accuracy.uniform needs uniform in trial.robustness.reference"],
    ),
    "constraint-on-a-metric-that-is-not-measured": (
        [(OBJECTIVES, f"{OBJECTIVES}\nconstraints: [corruption_accuracy >= 0.5]")],
        ["constraints: corruption_accuracy is measured only where trial.robustness.corruptions"],
    ),
    "objective-that-is-not-measured": (
        [(OBJECTIVES, "objectives: [boundary_distance, clean_accuracy]")],
        ["objectives: boundary_distance is measured only where trial.robustness.boundary"],
    ),
    # early stopping and seeds
    "early-stopping-after-the-last-epoch": (
        [
            (
                "sampler: random",
                "early_stopping: {type: asha, metric: clean_accuracy, grace_epochs: 2}",
            )
        ],
        ["tuning.early_stopping.grace_epochs: 2 of at most 2 epochs", "allowed: 1 to 1"],
    ),
    "early-stopping-with-an-option-of-the-other-rule": (
        [
            (
                "sampler: random",
                "early_stopping: {type: asha, metric: clean_accuracy, min_trials: 2}",
            )
        ],
        ["tuning.early_stopping", "min_trials is no option of type asha"],
    ),
    "early-stopping-on-a-metric-that-no-epoch-has": (
        [("sampler: random", "early_stopping: {type: median, metric: accuracy_cost}")],
        ["tuning.early_stopping.metric: expected 'clean_accuracy', 'robust_accuracy'"],
    ),
    "several-seeds-of-a-searched-seed": (
        [
            (THRESHOLD, f"{THRESHOLD}\n  seed: {{type: int, low: 0, high: 4}}"),
            ("sampler: random", "num_seeds: 2"),
        ],
        ["seed is searched, and tuning.num_seeds asks for several"],
    ),
    # data
    "missing-data-folder": (
        [("dataset: digits", "dataset: 'parquet:/nowhere'")],
        ["trial.task.dataset: /nowhere/train.parquet does not exist"],
    ),
    "more-regularization-images-than-there-are": (
        [("num_images: 64", "num_images: 999999")],
        ["trial.regularizer.num_images: 999999 asked", "'task' has 128 images"],
    ),
    "more-training-images-than-there-are": (
        [("num_train: 128", "num_train: 5000")],
        ["trial.task.num_train: 5000 training and 64 validation images", "which has 1733 left"],
    ),
    "padding-wider-than-the-image": (
        [("{epochs: 2}", "{epochs: 2, augmentation: {crop_padding: 8}}")],
        ["trial", "crop_padding (8) must be below task.image_size (8)"],
    ),
    # files that are not even a mapping
    "python-tag": (
        [("name: tiny", "name: !!python/object/apply:os.getcwd []")],
        ["line 1", "not valid YAML", "python/object/apply:os.getcwd"],
    ),
    "tag-of-no-json-type": (
        [("epochs: 2", "epochs: !!timestamp 2001-01-01")],
        ["line 5", "not valid YAML", "timestamp"],
    ),
    "anchor-inside-itself": (
        [("name: tiny", "name: &again [*again]")],
        ["not valid YAML: Circular reference"],
    ),
    "unclosed-bracket": (
        [(OBJECTIVES, "objectives: [clean_accuracy")],
        ["line 16", "not valid YAML"],
    ),
}


@pytest.mark.parametrize(("changes", "fragments"), WRONG_SPACES.values(), ids=WRONG_SPACES)
def test_wrong_space_is_refused_in_one_line_with_key_found_and_allowed(
    changes: Sequence[tuple[str, str]],
    fragments: Sequence[str],
    tmp_path: Path,
    dry_run: Callable[..., Run],
) -> None:
    path = write_space(tmp_path, *changes)
    assert_refused(dry_run(path), tmp_path / "output", [str(path), *fragments])
