"""Signs that a network masks its gradients instead of being robust.

A gradient attack that fails proves nothing if the gradients are useless. The signs follow Athalye
et al. (arXiv:1802.00420) and Carlini et al. (arXiv:1902.06705). A sign is a reason to distrust the
white-box results; the absence of signs proves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

_SIGMAS = 2.0  # smaller differences, in standard errors, count as noise
_NEAR_ZERO = 0.05  # accuracy at which a network counts as fooled throughout
_LARGE_GAIN = 0.1  # accuracy that restarts may cost without suspicion
_WEAKNESS = 0.05  # accuracy that PGD may leave above AutoAttack, besides one image
_NORM_SLACK = 1.1  # how much larger the norms of the gradient attacks may be


class AuditCurve(NamedTuple):
    """Accuracy under one attack at each epsilon, on the same images."""

    attack: str
    norm: str
    conditions: str
    """Steps, restarts and the like, as text."""
    num_images: int
    epsilons: tuple[float, ...]
    accuracies: tuple[float, ...]


class MinimalNorms(NamedTuple):
    """Result of an attack that minimises the L2 norm."""

    attack: str
    conditions: str
    num_images: int
    success_rate: float
    """Fraction of all images, including those that were misclassified from the start."""
    median_l2: float | None
    """Over all images, with 0 if misclassified from the start; None if half are not fooled."""


def exceeds(one: float, other: float, num_images: int) -> bool:
    """Whether an accuracy is above another beyond binomial noise, both over ``num_images``.

    Treating the two as independent is cautious if the images are the same.
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
    """All signs of masked gradients in the results of an audit, as text.

    Args:
        strong: White-box PGD with all steps and restarts. Its last epsilon is large enough to
            change every image into any other.
        few_steps: The same attack with fewer steps.
        one_restart: The same attack with its first restart only.
        black_box: Attacks that do not see the network, at some of the same epsilons.
        minimal: Gradient attacks that minimise the norm.
        decision_based: An attack that minimises the norm from decisions alone, on the same images.
    """
    white = dict(zip(strong.epsilons, strong.accuracies, strict=True))
    n = strong.num_images
    found = []
    claims = [(curve, f"{curve.attack} beats the white-box attack") for curve in black_box]
    claims.append((few_steps, f"more steps are weaker: {few_steps.conditions} is stronger"))
    for curve, claim in claims:
        for epsilon, accuracy in zip(curve.epsilons, curve.accuracies, strict=True):
            if exceeds(white[epsilon], accuracy, n):
                found.append(
                    f"{claim} at epsilon {epsilon:g}: accuracy {accuracy:.3f} against "
                    f"{white[epsilon]:.3f} under {strong.attack} (n = {n})"
                )
    last = strong.epsilons[-1]
    if white[last] > _NEAR_ZERO:
        found.append(
            f"accuracy {white[last]:.3f} under {strong.attack} at epsilon {last:g}, where it "
            f"should be near 0 (n = {n})"
        )
    for epsilon, accuracy in zip(one_restart.epsilons, one_restart.accuracies, strict=True):
        if accuracy - white[epsilon] > _LARGE_GAIN and exceeds(accuracy, white[epsilon], n):
            found.append(
                f"random restarts matter much at epsilon {epsilon:g}: accuracy {accuracy:.3f} "
                f"after one, {white[epsilon]:.3f} after all (n = {n})"
            )
    own = decision_based.median_l2
    gradient = min((a.median_l2 for a in minimal if a.median_l2 is not None), default=math.inf)
    if own is not None and gradient > _NORM_SLACK * own:
        best = f"{gradient:.4g}" if gradient < math.inf else "none"
        found.append(
            f"{decision_based.attack}, which sees decisions only, finds smaller perturbations than "
            f"the gradient attacks: median L2 {own:.4g} against {best} "
            f"({', '.join(a.attack for a in minimal)}; n = {decision_based.num_images})"
        )
    return found


def weakness_warnings(pgd: AuditCurve, auto: AuditCurve) -> list[str]:
    """The epsilons at which AutoAttack is clearly stronger than PGD on the same images, as text."""
    least = _WEAKNESS + 1 / auto.num_images
    rows = zip(auto.epsilons, pgd.accuracies, auto.accuracies, strict=True)
    return [
        f"{auto.attack} is stronger than {pgd.attack} at epsilon {epsilon:g}: accuracy "
        f"{lower:.3f} against {upper:.3f} on the same images (n = {auto.num_images})"
        for epsilon, upper, lower in rows
        if upper - lower > least
    ]
