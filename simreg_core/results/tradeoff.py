"""The accuracy-robustness tradeoff of a network compared with the unregularized baseline.

    accuracy_cost   = C_0 - C_N            robustness_gain = R_N - R_0
    tradeoff_score  = robustness_gain - weight * accuracy_cost
    tradeoff_ratio  = accuracy_cost / robustness_gain

C is accuracy at zero distortion, R the mean accuracy over the reference attacks. The score is
finite everywhere and 0 for the baseline; the ratio is defined only if both terms are positive.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple


class BaselineAccuracy(NamedTuple):
    """C_0 and R_0 on one split: means over the baseline seeds, and their spread."""

    clean_accuracy: float
    robust_accuracy: float
    clean_accuracy_std: float | None
    """Sample standard deviation; None with a single seed."""
    robust_accuracy_std: float | None


def baseline_accuracy(clean: Sequence[float], robust: Sequence[float]) -> BaselineAccuracy:
    """Mean and spread over the accuracies of one or more unregularized networks."""
    spread = [statistics.stdev(values) if len(values) > 1 else None for values in (clean, robust)]
    return BaselineAccuracy(statistics.fmean(clean), statistics.fmean(robust), *spread)


def tradeoff(
    clean_accuracy: float, robust_accuracy: float, baseline: BaselineAccuracy, weight: float
) -> dict[str, float | None]:
    """Cost, gain, score and ratio of a network, by name; accuracies are in [0, 1]."""
    cost = baseline.clean_accuracy - clean_accuracy
    gain = robust_accuracy - baseline.robust_accuracy
    return {
        "accuracy_cost": cost,
        "robustness_gain": gain,
        "tradeoff_score": gain - weight * cost,
        "tradeoff_ratio": cost / gain if cost > 0 and gain > 0 else None,
    }
