"""Measurements of one network on one split, as plain numbers."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from simreg_core.registry import is_corruption
from simreg_core.results.tradeoff import BaselineAccuracy, tradeoff


class CurvePoint(NamedTuple):
    """Accuracy at one epsilon of one attack; fields as in the table ``curves``."""

    split: str
    attack: str
    epsilon: float
    is_reference: bool
    accuracy: float
    num_images: int


@dataclass(frozen=True)
class Measurements:
    """What metrics are computed from."""

    curves: Sequence[CurvePoint]
    """Attacks, each from epsilon 0 on, and corruptions, on one split."""
    boundary_distance: float | None = None
    """Median over images; None if it is not measured, or nothing was found."""
    baseline: BaselineAccuracy | None = None
    """C_0 and R_0 on the same split; None for the baselines themselves."""
    tradeoff_weight: float = 1.0

    @cached_property
    def clean_accuracy(self) -> float:
        """C: accuracy at zero distortion."""
        return next(point.accuracy for point in self.curves if point.epsilon == 0)

    @cached_property
    def under_attack(self) -> Mapping[str, float]:
        """Accuracy under each reference attack at its reference epsilon."""
        return {point.attack: point.accuracy for point in self.curves if point.is_reference}

    @property
    def robust_accuracy(self) -> float:
        """R: mean accuracy over the reference attacks at their reference epsilons."""
        return statistics.fmean(self.under_attack.values())

    @property
    def corruption_accuracy(self) -> float | None:
        """Mean accuracy over corruptions and severities above 0; None without corruptions."""
        found = [p.accuracy for p in self.curves if is_corruption(p.attack) and p.epsilon]
        return statistics.fmean(found) if found else None

    @cached_property
    def tradeoff(self) -> Mapping[str, float | None]:
        """Cost, gain, score and ratio, by name; empty without a baseline."""
        if self.baseline is None:
            return {}
        accuracies = (self.clean_accuracy, self.robust_accuracy)
        return tradeoff(*accuracies, self.baseline, self.tradeoff_weight)
