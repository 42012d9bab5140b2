"""Random noise: perturbations that know nothing of the network."""

from __future__ import annotations

import torch

from simreg_core.registry import attack
from simreg_core.robustness.attack import AttackInput, Perturbation


@attack("gaussian", label="Gaussian noise", max_epsilon=0.1, reference=0.1, is_random=True)
def gaussian(batch: AttackInput) -> Perturbation:
    """Gaussian noise: x + eps * N(0, 1), independently for every pixel and channel."""
    noise = torch.empty_like(batch.images).normal_(generator=batch.rng)
    return lambda epsilon: batch.images + epsilon * noise


@attack("uniform", label="uniform noise", max_epsilon=0.1, reference=0.1, is_random=True)
def uniform(batch: AttackInput) -> Perturbation:
    """Uniform noise: x + U(-eps, eps), independently for every pixel and channel."""
    noise = torch.empty_like(batch.images).uniform_(-1, 1, generator=batch.rng)
    return lambda epsilon: batch.images + epsilon * noise


@attack(
    "salt_pepper", label="salt-and-pepper noise", max_epsilon=0.1, reference=0.1, is_random=True
)
def salt_pepper(batch: AttackInput) -> Perturbation:
    """Each pixel becomes 0 or 1 (in all channels, with equal chances) with probability eps."""
    chance, value = torch.empty(
        (2, len(batch.images), 1, *batch.images.shape[2:]), device=batch.images.device
    ).uniform_(generator=batch.rng)
    return lambda epsilon: torch.where(chance < epsilon, (value < 0.5).float(), batch.images)
