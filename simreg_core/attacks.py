"""Black-box attacks, in pixel units of [0, 1]; the only importer of Foolbox.

An attack is one function: it gets a batch, draws all its randomness at once, and returns the
perturbation as a function of epsilon. The same draws serve every epsilon, and every network that
is evaluated with the same seed meets the same noise. To add one, write such a function and enter
its name in :data:`ATTACK_FUNCTIONS` and in ``config.ATTACKS``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn


class AttackInput(NamedTuple):
    """One batch to attack."""

    images: Tensor
    """Float (B, C, H, W) in [0, 1]."""
    labels: Tensor
    """int64 (B,)."""
    rng: torch.Generator
    """Generator on the images' device."""
    surrogate: nn.Module
    """The network that gradient attacks are transferred from; frozen, in evaluation mode."""


Perturbation = Callable[[float], Tensor]


def gaussian(batch: AttackInput) -> Perturbation:
    """Gaussian noise: x + eps * N(0, 1), independently for every pixel and channel."""
    noise = torch.empty_like(batch.images).normal_(generator=batch.rng)
    return lambda epsilon: batch.images + epsilon * noise


def uniform(batch: AttackInput) -> Perturbation:
    """Uniform noise: x + U(-eps, eps), independently for every pixel and channel."""
    noise = torch.empty_like(batch.images).uniform_(-1, 1, generator=batch.rng)
    return lambda epsilon: batch.images + epsilon * noise


def salt_pepper(batch: AttackInput) -> Perturbation:
    """Each pixel becomes 0 or 1 (in all channels, with equal chances) with probability eps."""
    chance, value = torch.empty(
        (2, len(batch.images), 1, *batch.images.shape[2:]), device=batch.images.device
    ).uniform_(generator=batch.rng)
    return lambda epsilon: torch.where(chance < epsilon, (value < 0.5).float(), batch.images)


def transfer_fgsm(batch: AttackInput) -> Perturbation:
    """Transferred FGSM: x + eps * sign(gradient of the surrogate's cross-entropy).

    Goodfellow et al., arXiv:1412.6572, by Foolbox's LinfFastGradientAttack. The direction does
    not depend on epsilon, so the gradient is computed once. Where Foolbox's clipping to [0, 1]
    hides a direction, moving there would be clipped away at any epsilon.
    """
    import foolbox  # heavy; needed by this attack only

    device = batch.images.device
    model = foolbox.PyTorchModel(batch.surrogate, bounds=(0, 1), device=device)
    _, moved, _ = foolbox.attacks.LinfFastGradientAttack(random_start=False)(
        model, batch.images, batch.labels, epsilons=0.5
    )
    direction = (moved - batch.images).sign()
    return lambda epsilon: batch.images + epsilon * direction


ATTACK_FUNCTIONS: dict[str, Callable[[AttackInput], Perturbation]] = {
    "gaussian": gaussian,
    "uniform": uniform,
    "salt_pepper": salt_pepper,
    "transfer_fgsm": transfer_fgsm,
}


def prepare(name: str, batch: AttackInput) -> Perturbation:
    """The named attack on a batch: epsilon in, images clipped to [0, 1] out.

    Raises:
        ValueError: the images are not in [0, 1].
    """
    if not bool(((batch.images >= 0) & (batch.images <= 1)).all()):
        raise ValueError(f"{name}: images must lie in [0, 1]")
    perturbation = ATTACK_FUNCTIONS[name](batch)
    return lambda epsilon: perturbation(epsilon).clamp(0, 1)


def freeze(model: nn.Module) -> nn.Module:
    """``model`` in evaluation mode and without weight gradients, in place."""
    return model.eval().requires_grad_(False)
