"""A user's own attacks, corruptions and metrics, each in one small experiment."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pytest

from simreg_core.config.trial import TrialConfig
from simreg_core.results.schema import SPLITS, TRIAL_COLUMNS
from simreg_core.training.baseline_files import measured_digest
from tests.core_tests.conftest import MakeModule
from tests.core_tests.measuring import assert_refused, run
from tests.core_tests.trained_networks import MakeConfig

# Attacks and corruptions

ATTACK = """
    from simreg_core.registry import attack

    def first_row(surrogate, images, labels):
        rows = images.new_zeros(images.shape)
        rows[:, :, 0] = 1
        return rows

    @attack("stripes", max_epsilon=0.3, reference=0.2, precompute=first_row)
    def stripes(batch):
        return lambda epsilon: batch.images + epsilon * batch.precomputed(epsilon)

    def bare(batch):
        return lambda epsilon: batch.images
"""


def test_attack_is_named_without_numbers_and_has_a_metric(
    make_module: MakeModule, tiny_config: MakeConfig, tmp_path: Path
) -> None:
    make_module(ATTACK)
    names = ["mine:stripes", "gaussian"]
    attacks: dict[str, Any] = {name: {} for name in names}
    config = tiny_config({"robustness.attacks": attacks, "robustness.reference": names})
    assert config.robustness.attacks["mine:stripes"].max_epsilon == 0.3
    assert config.robustness.attacks["gaussian"].max_epsilon == 0.1
    assert config.robustness.reference == {"mine:stripes": 0.2, "gaussian": 0.1}
    assert TrialConfig.from_dict(config.to_dict()) == config
    result = run(config, tmp_path / "cache")
    for split in SPLITS:
        points = [p for p in result.curves if p.split == split and p.is_reference]
        assert {point.attack: point.epsilon for point in points} == config.robustness.reference
        mean = statistics.fmean(point.accuracy for point in points)
        assert result.metric("robust_accuracy", split) == mean
        for point in points:
            assert result.metric(f"robust_accuracy.{point.attack}", split) == point.accuracy
    own = set(result.columns) - {column.name for column in TRIAL_COLUMNS}
    assert own == {f"{s}.robust_accuracy.{n}" for s in SPLITS for n in names}


@pytest.mark.parametrize(
    ("attacks", "message"),
    [
        ({"mine:bare": {}}, "mine:bare: max_epsilon is required"),
        ({"mine:absent": {}}, "mine:absent: .*has no function"),
        ({"stripes": {}}, "unknown attack 'stripes'"),
    ],
)
def test_attack_that_declares_no_number_needs_one(
    attacks: dict[str, Any], message: str, make_module: MakeModule, tiny_config: MakeConfig
) -> None:
    make_module(ATTACK)
    with pytest.raises(ValueError, match=message):
        tiny_config({"robustness.attacks": attacks, "robustness.reference": {"mine:bare": 0.1}})


CORRUPTION = """
    def fade(images, severity, rng):
        return images * (1 - severity / 5)

    def raises(images, severity, rng):
        raise ValueError("boom")
"""


def test_corruption_has_a_curve(
    make_module: MakeModule, tiny_config: MakeConfig, tmp_path: Path
) -> None:
    make_module(CORRUPTION)
    corruptions = {"kinds": ["mine:fade"], "severities": [1, 5]}
    config = tiny_config({"robustness.corruptions": corruptions})
    result = run(config, tmp_path / "cache")
    points = [p for p in result.curves if p.attack == "corruption:mine:fade"]
    assert [(p.split, p.epsilon) for p in points] == [(s, e) for s in SPLITS for e in (1, 5)]
    for split in SPLITS:
        mean = sum(p.accuracy for p in points if p.split == split) / 2
        assert result.metric("corruption_accuracy", split) == pytest.approx(mean)
    name = "corruption:mine:fade"
    robustness = {"robustness.attacks": {name: {}}, "robustness.reference": {name: 5}}
    config = tiny_config(robustness)
    before = measured_digest(config)
    attacked = run(config, tmp_path / "cache")
    for split in SPLITS:
        (last,) = (p for p in points if p.split == split and p.epsilon == 5)
        assert attacked.metric("robust_accuracy", split) == last.accuracy
    make_module(f"{CORRUPTION}\n    # edited")
    assert measured_digest(config) != before


# Metrics

METRIC = """
    from simreg_core.registry import metric

    @metric("worst_case", direction="maximize", worst=0.0, is_accuracy=True, label="worst case")
    def worst_case(measured):
        return min(point.accuracy for point in measured.curves)

    @metric("endless", direction="minimize")
    def endless(measured):
        return float("inf")

    @metric("raises", direction="minimize")
    def raises(measured):
        return 1 / 0

    @metric("text", direction="minimize")
    def text(measured):
        return "much"

    def bare(measured):
        return 1.0
"""


def test_metric_is_recorded(
    make_module: MakeModule, tiny_config: MakeConfig, tmp_path: Path
) -> None:
    make_module(METRIC)
    config = tiny_config({"robustness.metrics": ["mine:worst_case", "mine:endless"]})
    result = run(config, tmp_path / "cache")
    for split in SPLITS:
        lowest = min(point.accuracy for point in result.curves if point.split == split)
        assert result.metric("mine:worst_case", split) == lowest
        assert result.metric("mine:endless", split) is None  # as where a value does not exist


def _kind(name: str) -> dict[str, Any]:
    return {"robustness.corruptions": {"kinds": [f"mine:{name}"]}}


def _metric(name: str) -> dict[str, Any]:
    return {"robustness.metrics": [f"mine:{name}"]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (_kind("raises"), "^attack corruption:mine:raises: boom$"),
        (_kind("absent"), r"^robustness\.corruptions\.kinds: mine:absent: "),
        (_metric("raises"), r"^robustness\.metrics: mine:raises: division by zero"),
        (_metric("text"), r"^robustness\.metrics: mine:text: expected a number"),
        (_metric("bare"), r"^robustness\.metrics: mine:bare: .*not declared"),
        (_metric("absent"), r"^robustness\.metrics: mine:absent: .*has no function"),
    ],
)
def test_wrong_function_is_refused(
    changes: dict[str, Any],
    message: str,
    make_module: MakeModule,
    tiny_config: MakeConfig,
    tmp_path: Path,
    trained: list[int],
) -> None:
    make_module(METRIC if "robustness.metrics" in changes else CORRUPTION)
    assert_refused(tiny_config(changes), tmp_path / "cache", message)
    assert trained == [] or "robustness.metrics" in changes
