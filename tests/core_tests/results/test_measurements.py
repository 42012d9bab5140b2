from __future__ import annotations

import pytest

from simreg_core.results.measurements import CurvePoint, Measurements
from tests.core_tests.measuring import accuracies

POINTS = [
    CurvePoint("test", attack, epsilon, is_reference, accuracy, 40)
    for attack, epsilon, is_reference, accuracy in (
        ("gaussian", 0.0, False, 0.9),
        ("gaussian", 0.2, True, 0.6),
        ("gaussian", 0.3, False, 0.5),
        ("uniform", 0.3, False, 0.1),
        ("transfer_fgsm", 0.0, False, 0.9),
        ("transfer_fgsm", 0.3, True, 0.3),
    )
]
CORRUPTED = [
    CurvePoint("test", "corruption:contrast", severity, False, accuracy, 40)
    for severity, accuracy in ((1.0, 0.5), (5.0, 0.2))
]


def test_robust_accuracy_is_the_mean_over_the_reference_points_without_corruptions() -> None:
    expected = {
        "clean_accuracy": 0.9,
        "robust_accuracy": pytest.approx(0.45),
        "robust_accuracy.gaussian": 0.6,
        "robust_accuracy.transfer_fgsm": 0.3,
    }
    assert accuracies(POINTS) == expected
    found = accuracies([*CORRUPTED, *POINTS])
    assert found == {**expected, "corruption_accuracy": pytest.approx(0.35)}
    assert Measurements(POINTS).corruption_accuracy is None


def test_corruption_at_its_reference_counts_towards_robust_accuracy() -> None:
    clean, half, strong = (
        CurvePoint("test", "corruption:contrast", severity, severity == 3, accuracy, 40)
        for severity, accuracy in ((0.0, 0.9), (3.0, 0.6), (5.0, 0.2))
    )
    found = accuracies([clean, half, strong, *POINTS])
    assert found["robust_accuracy"] == pytest.approx((0.6 + 0.3 + 0.6) / 3)
    assert found["robust_accuracy.corruption:contrast"] == 0.6
    assert found["corruption_accuracy"] == pytest.approx(0.4)  # severity 0 is no corruption
