"""Attacks, corruptions and metrics by their names, as tests of the core use them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from simreg_core.config.trial import TrialConfig
from simreg_core.data.task import load_task
from simreg_core.errors import ConfigError
from simreg_core.plugins import Option
from simreg_core.registry import ATTACKS
from simreg_core.results.measurements import CurvePoint, Measurements
from simreg_core.results.metrics import compute
from simreg_core.robustness.attack import AttackInput, Perturbation, prepare
from simreg_core.robustness.corruptions import corruption_attack
from simreg_core.training.baselines import BaselineCache
from simreg_core.training.experiment import TrialResult, run_experiment
from tests.core_tests.trained_networks import CPU


def attack(
    name: str, batch: AttackInput, options: Mapping[str, Option] | None = None
) -> Perturbation:
    """The attack of a name on a batch."""
    return prepare(ATTACKS.get(name), batch, options)


def corrupt(images: Tensor, kind: str, severity: float, rng: torch.Generator) -> Tensor:
    """Corrupted uint8 images (B, C, H, W) of uint8 images."""
    labels = torch.zeros(len(images), dtype=torch.int64)
    batch = AttackInput(images.to(torch.float32) / 255, labels, rng, nn.Identity())
    corrupted = prepare(corruption_attack(kind), batch)(severity) * 255
    rounded = corrupted.round()
    torch.testing.assert_close(corrupted, rounded, atol=1e-4, rtol=0)  # 8 bits, as stored images
    return rounded.to(torch.uint8)


def every_pair(num_images: int) -> tuple[Tensor, ...]:
    """Indices i and j of every pair i < j."""
    return torch.combinations(torch.arange(num_images)).unbind(1)


def assert_labelled_alike(part: Any, whole: Any) -> None:
    """Every image of a part has the label that it has in the whole."""
    assert part.labels is not None
    assert whole.labels is not None
    label_of = dict(zip([i.numpy().tobytes() for i in whole.images], whole.labels, strict=True))
    for image, label in zip(part.images, part.labels, strict=True):
        assert label_of[image.numpy().tobytes()] == label


def accuracies(points: Sequence[CurvePoint]) -> dict[str, float]:
    """The metrics that one split's curves decide alone."""
    found = compute(Measurements(points))
    return {name: value for name, value in found.items() if value is not None}


def run(config: TrialConfig, folder: Path, **options: Any) -> TrialResult:
    """``run_experiment`` on the CPU, with its baselines in a folder."""
    return run_experiment(config, BaselineCache(folder, load_task(config.task), CPU), **options)


def assert_refused(config: TrialConfig, folder: Path, message: str) -> None:
    """Running a configuration ends with one line that matches ``message``."""
    with pytest.raises(ConfigError, match=message) as caught:
        run(config, folder)
    assert "\n" not in str(caught.value)
