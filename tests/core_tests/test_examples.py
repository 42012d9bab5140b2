"""Each module of ``examples/`` in a real trial, named as its comment says."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from simreg_core.config.protocols import merge
from simreg_core.config.trial import TrialConfig
from simreg_core.config.yaml_io import parse_yaml
from simreg_core.data.task import RegularizationImages
from simreg_core.regularizer.targets import TargetInput, make_target
from simreg_core.training.experiment import TrialResult
from tests.core_tests.measuring import every_pair, run

EXAMPLES = Path(__file__).parents[2] / "examples"
RunExample = Callable[[str], TrialResult]


@pytest.fixture
def run_example(tmp_path: Path, tiny_trial: Callable[..., dict[str, Any]]) -> RunExample:
    def make(name: str) -> TrialResult:
        text = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
        tree = parse_yaml("\n".join(re.findall(r"^#   (.*)$", text, re.MULTILINE)), name)
        trial = merge(tiny_trial({"training.epochs": 1}), tree["trial"])
        return run(TrialConfig.from_dict(trial), tmp_path)

    return make


def test_attack_is_measured_and_counts(run_example: RunExample) -> None:
    result = run_example("own_attack")
    name = "examples.own_attack:stripes"
    points = [p for p in result.curves if (p.split, p.attack) == ("test", name)]
    measured = [(point.epsilon, point.is_reference) for point in points]
    assert measured == [(0.0, False), (0.1, False), (0.2, True)]
    assert result.metric(f"robust_accuracy.{name}", "test") == points[-1].accuracy


def test_dataset_is_the_task_with_its_protocol(run_example: RunExample) -> None:
    result = run_example("own_dataset")
    assert result.config.task.protocol == "examples.own_dataset:gratings"
    assert result.baselines.surrogates[0].model.num_classes == 4
    assert result.columns["num_test"] == 200


def test_target_is_the_similarity_of_histograms(run_example: RunExample) -> None:
    result = run_example("own_target")
    assert result.columns["similarity_correlation"] is not None
    images = torch.randint(256, (5, 3, 6, 6), dtype=torch.uint8)
    counts = [np.histogram(i, 16, (0, 256))[0] for image in images.numpy() for i in image]
    centred = np.reshape(counts, (5, 48)) - np.reshape(counts, (5, 48)).mean(axis=0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    source = RegularizationImages(images, None, None, None)
    found = make_target(TargetInput.of(source, result.config.regularizer))
    first, second = every_pair(5)
    np.testing.assert_allclose(found(first, second), (unit @ unit.T)[first, second], atol=1e-5)


def test_metric_is_a_column_of_both_splits(run_example: RunExample) -> None:
    result = run_example("own_metric")
    for split in ("validation", "test"):
        reference = [p.accuracy for p in result.curves if p.split == split and p.is_reference]
        assert len(reference) == 2
        assert result.metric("examples.own_metric:worst_accuracy", split) == min(reference)
