"""Signs that a network hides its gradients instead of being robust (masked gradients).

A gradient attack that fails proves nothing if the gradients are useless. The signs are those of
Athalye et al. (arXiv:1802.00420) and Carlini et al. (arXiv:1902.06705); a sign is a reason to
distrust the white-box figures, its absence is no proof.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

_SIGMAS = 2.0  # differences below so many standard errors are taken for noise
_NEAR_ZERO = 0.05  # accuracy that counts as fooled throughout
_MUCH = 0.1  # accuracy that restarts may cost without suspicion
_NORM_SLACK = 1.1  # a decision-based attack may be this much weaker, never stronger


class AuditCurve(NamedTuple):
    """Accuracy under one attack at each epsilon; the same images throughout."""

    attack: str
    norm: str
    conditions: str
    """Steps, restarts and the like, in words."""
    num_images: int
    epsilons: tuple[float, ...]
    accuracies: tuple[float, ...]


class MinimalNorms(NamedTuple):
    """What an attack that minimises the L2 norm achieved."""

    attack: str
    conditions: str
    num_images: int
    success_rate: float
    """Fraction of all images, those misclassified from the start included."""
    median_l2: float | None
    """Over all images, 0 where misclassified from the start; None if half are not fooled."""


def exceeds(one: float, other: float, num_images: int) -> bool:
    """Whether an accuracy is above another beyond binomial noise, both over ``num_images``.

    The two are taken for independent, which for the same images is cautious.
    """
    variance = (one * (1 - one) + other * (1 - other)) / num_images
    return one - other > _SIGMAS * math.sqrt(variance) + 1 / num_images


def masking_warnings(
    strong: AuditCurve,
    few_steps: AuditCurve,
    one_restart: AuditCurve,
    black_box: Sequence[AuditCurve],
    minimal: Sequence[MinimalNorms],
    decision_based: MinimalNorms,
) -> list[str]:
    """Every sign of masked gradients in the figures of an audit, in words.

    Args:
        strong: White-box PGD with all steps and restarts; its last epsilon is a large one, at
            which every image can be made any other.
        few_steps: The same attack with fewer steps.
        one_restart: The same attack with its first restart only.
        black_box: Attacks that do not see the network, at the same epsilons or some of them.
        minimal: Gradient attacks that minimise the norm.
        decision_based: Such an attack that sees decisions only, on the same images.
    """
    found = []
    white = dict(zip(strong.epsilons, strong.accuracies, strict=True))
    n = strong.num_images

    def compare(curve: AuditCurve, message: str) -> None:
        for epsilon, accuracy in zip(curve.epsilons, curve.accuracies, strict=True):
            if exceeds(white[epsilon], accuracy, n):
                found.append(
                    f"{message} at epsilon {epsilon:g}: accuracy {accuracy:.3f} against "
                    f"{white[epsilon]:.3f} under {strong.attack} (n = {n})"
                )

    for curve in black_box:
        compare(curve, f"{curve.attack} beats the white-box attack")
    compare(few_steps, f"more steps are weaker: {few_steps.conditions} is stronger")
    last = strong.epsilons[-1]
    if white[last] > _NEAR_ZERO:
        found.append(
            f"accuracy {white[last]:.3f} under {strong.attack} at epsilon {last:g}, where it "
            f"should be near 0 (n = {n})"
        )
    for epsilon, accuracy in zip(one_restart.epsilons, one_restart.accuracies, strict=True):
        if accuracy - white[epsilon] > _MUCH and exceeds(accuracy, white[epsilon], n):
            found.append(
                f"random restarts matter much at epsilon {epsilon:g}: accuracy {accuracy:.3f} "
                f"after one, {white[epsilon]:.3f} after all (n = {n})"
            )
    return found + _norm_warnings(minimal, decision_based)


def _norm_warnings(minimal: Sequence[MinimalNorms], decision_based: MinimalNorms) -> list[str]:
    own = decision_based.median_l2
    gradient = [attack.median_l2 for attack in minimal if attack.median_l2 is not None]
    if own is None or (gradient and min(gradient) <= _NORM_SLACK * own):
        return []
    best = f"{min(gradient):.4g}" if gradient else "none"
    names = ", ".join(attack.attack for attack in minimal)
    return [
        f"{decision_based.attack}, which sees decisions only, finds smaller perturbations than the "
        f"gradient attacks: median L2 {own:.4g} against {best} ({names}; "
        f"n = {decision_based.num_images})"
    ]
