"""A good space file, and the ways in which tests of ``tuner`` change it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tuner.space.loading import load_space
from tuner.space.search_space import SearchSpace

GOOD_SPACE = """\
name: tiny
trial:
  task: {dataset: digits, image_size: 8, num_train: 128, num_validation: 64, num_test: 64}
  model: {base_channels: 4, blocks: [1, 1]}
  training: {epochs: 2}
  regularizer: {num_images: 64, batch_size: 4}
  robustness:
    attacks: {gaussian: {max_epsilon: 0.4}, transfer_fgsm: {max_epsilon: 0.2}}
    reference: {gaussian: 0.4, transfer_fgsm: 0.15}
    num_epsilons: 3
    baseline_seeds: [1, 2]
search:
  regularizer.threshold: {type: float, low: 0.1, high: 0.9}
  regularizer.alpha: {type: float, low: 0.01, high: 3.0, log: true}
objectives: [clean_accuracy, robust_accuracy]
tuning: {num_trials: 2, sampler: random}
"""

# Lines that tests replace.
THRESHOLD = "regularizer.threshold: {type: float, low: 0.1, high: 0.9}"
ALPHA = "regularizer.alpha: {type: float, low: 0.01, high: 3.0, log: true}"
OBJECTIVES = "objectives: [clean_accuracy, robust_accuracy]"
TUNING = "tuning: {num_trials: 2, sampler: random}"


def changed(*changes: tuple[str, str]) -> str:
    """Text of the good space with every first text of a pair replaced by the second."""
    text = GOOD_SPACE
    for old, new in changes:
        assert text.count(old) == 1, f"{old!r} must occur once"
        text = text.replace(old, new)
    return text


def write_space(folder: Path, *changes: tuple[str, str]) -> Path:
    path = folder / "space.yaml"
    path.write_text(changed(*changes), encoding="utf-8")
    return path


def make_space(folder: Path, *changes: tuple[str, str]) -> SearchSpace:
    return load_space(write_space(folder, *changes))


class Run(NamedTuple):
    code: int
    printed: str
    errors: str


def assert_refused(run: Run, output: Path, fragments: Sequence[str]) -> None:
    """One line on stderr that holds every fragment, exit code 2, and nothing written."""
    assert run.code == 2
    assert run.printed == ""
    line, end = run.errors[:-1], run.errors[-1:]
    assert end == "\n"
    assert "\n" not in line
    for fragment in fragments:
        assert fragment in line
    assert not output.exists()
