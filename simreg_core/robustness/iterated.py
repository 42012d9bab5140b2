"""Iterated gradient attacks (PGD, MI-FGSM), computed on a surrogate network and transferred."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from simreg_core.registry import attack
from simreg_core.robustness.attack import AttackInput, Perturbation
from simreg_core.robustness.foolbox_bridge import frozen
from simreg_core.robustness.gradients import slope
from simreg_core.seeding import generator

_LEVELS = 127  # perturbations are multiples of epsilon / 127, so that int8 holds them
_TINY = 1e-30
_Steps = Annotated[int, Field(ge=1)]
_Step = Annotated[float, Field(gt=0)]
_Decay = Annotated[float, Field(ge=0)]


def pgd_changes(
    surrogate: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    steps: _Steps = 10,
    step: _Step = 0.25,
) -> Tensor:
    """Perturbations by PGD on the surrogate in units of epsilon / 127, int8 (B, C, H, W).

    All images start from the same draw, so that results do not depend on batches.
    """
    noise = torch.rand(images.shape[1:], generator=generator(0, "transfer_pgd")) * 2 - 1
    start = noise.to(images).expand_as(images)
    return _ascend(surrogate, images, labels, epsilon, start, steps, step, decay=0)


def mifgsm_changes(
    surrogate: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    steps: _Steps = 10,
    decay: _Decay = 1.0,
) -> Tensor:
    """Perturbations by MI-FGSM on the surrogate, as :func:`pgd_changes`."""
    start = torch.zeros_like(images)
    return _ascend(surrogate, images, labels, epsilon, start, steps, 1 / steps, decay)


@attack(
    "transfer_pgd",
    label="transferred PGD",
    max_epsilon=0.02,
    reference=0.02,
    transfers=True,
    precompute=pgd_changes,
    per_epsilon=True,
)
def transfer_pgd(batch: AttackInput, *, steps: _Steps = 10, step: _Step = 0.25) -> Perturbation:
    """Transferred PGD: projected gradient ascent on the surrogate's cross-entropy, Linf.

    It takes ``steps`` of ``step`` times epsilon from a random start (Madry et al.,
    arXiv:1706.06083).
    """
    return _scaled(batch)


@attack(
    "transfer_mifgsm",
    label="transferred MI-FGSM",
    max_epsilon=0.02,
    reference=0.02,
    transfers=True,
    precompute=mifgsm_changes,
    per_epsilon=True,
)
def transfer_mifgsm(batch: AttackInput, *, steps: _Steps = 10, decay: _Decay = 1.0) -> Perturbation:
    """Transferred MI-FGSM: gradient ascent with momentum on the surrogate's cross-entropy, Linf.

    It takes ``steps`` of epsilon / ``steps`` in the directions of a sum of normalised gradients,
    of which earlier ones are weighted by powers of ``decay`` (Dong et al., arXiv:1710.06081).
    """
    return _scaled(batch)


def _scaled(batch: AttackInput) -> Perturbation:
    changes = batch.precomputed
    assert changes is not None
    return lambda epsilon: batch.images + epsilon * (changes(epsilon).to(batch.images) / _LEVELS)


def _ascend(
    surrogate: nn.Module,
    images: Tensor,
    labels: Tensor,
    epsilon: float,
    start: Tensor,
    steps: int,
    step: float,
    decay: float,
) -> Tensor:
    """Sign steps on the cross-entropy within the ball and [0, 1]; ``start`` is in [-1, 1]."""

    def loss(logits: Tensor) -> Tensor:
        return functional.cross_entropy(logits, labels, reduction="none")

    velocity = torch.zeros_like(images)
    moved = (images + epsilon * start).clamp(0, 1)
    with frozen(surrogate):
        for _ in range(steps):
            gradient = slope(surrogate, moved, loss).gradient
            size = gradient.abs().mean(dim=(1, 2, 3), keepdim=True).clamp_min(_TINY)
            velocity = decay * velocity + gradient / size
            change = moved + step * epsilon * velocity.sign() - images
            moved = (images + change.clamp(-epsilon, epsilon)).clamp(0, 1)
    levels = (moved - images) / max(epsilon, _TINY) * _LEVELS
    return levels.round().to(torch.int8)
