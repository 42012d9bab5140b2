"""Each module of ``examples/`` in a real trial, named as its comment says."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from simreg_core.config.protocols import merge
from simreg_core.config.trial import TrialConfig
from simreg_core.config.yaml_io import parse_yaml
from simreg_core.data.task import load_task
from simreg_core.training.baselines import BaselineCache
from simreg_core.training.experiment import TrialResult, run_experiment

EXAMPLES = Path(__file__).parents[2] / "examples"


def trial_in_comment(name: str) -> dict[str, Any]:
    """What stands under ``trial:`` in the comment of an example."""
    text = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
    tree = parse_yaml("\n".join(re.findall(r"^#   (.*)$", text, re.MULTILINE)), name)
    trial: dict[str, Any] = tree["trial"]
    return trial


@pytest.fixture
def run_example(
    tmp_path: Path, tiny_trial: Callable[..., dict[str, Any]]
) -> Callable[[str], TrialResult]:
    def run(name: str) -> TrialResult:
        trial = merge(tiny_trial({"training.epochs": 1}), trial_in_comment(name))
        config = TrialConfig.from_dict(trial)
        cache = BaselineCache(tmp_path, load_task(config.task), torch.device("cpu"))
        return run_experiment(config, cache)

    return run


def test_attack_is_measured_and_counts(run_example: Callable[[str], TrialResult]) -> None:
    result = run_example("own_attack")
    name = "examples.own_attack:stripes"
    measured = [p for p in result.curves if (p.split, p.attack) == ("test", name)]
    assert [point.epsilon for point in measured] == [0.0, 0.1, 0.2]
    assert [point.is_reference for point in measured] == [False, False, True]
    assert result.metric(f"robust_accuracy.{name}", "test") == measured[-1].accuracy


def test_dataset_is_the_task_with_its_protocol(run_example: Callable[[str], TrialResult]) -> None:
    result = run_example("own_dataset")
    assert result.config.task.protocol == "examples.own_dataset:gratings"
    assert result.baselines.surrogate.model.num_classes == 4
    assert result.columns["num_test"] == 200


def test_metric_is_a_column_of_both_splits(run_example: Callable[[str], TrialResult]) -> None:
    result = run_example("own_metric")
    for split in ("validation", "test"):
        reference = [p.accuracy for p in result.curves if p.split == split and p.is_reference]
        assert len(reference) == 2
        assert result.metric("examples.own_metric:worst_accuracy", split) == min(reference)
