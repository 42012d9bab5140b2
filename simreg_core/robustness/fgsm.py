"""The fast gradient sign method, computed on a surrogate network and transferred.

Goodfellow et al., arXiv:1412.6572.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from simreg_core.registry import attack
from simreg_core.robustness.attack import AttackInput, Perturbation
from simreg_core.robustness.foolbox_bridge import run_foolbox


def fgsm_direction(surrogate: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Sign of the gradient of the surrogate's cross-entropy, int8 (B, C, H, W).

    Computed with Foolbox's LinfFastGradientAttack. Its clipping to [0, 1] makes some signs 0; a
    step in these directions would be clipped at any epsilon.
    """
    moved = run_foolbox(
        "LinfFastGradientAttack", {"random_start": False}, surrogate, images, labels, epsilon=0.5
    )
    return (moved - images).sign().to(torch.int8)


@attack(
    "transfer_fgsm",
    label="transferred FGSM",
    max_epsilon=0.02,
    reference=0.02,
    transfers=True,
    precompute=fgsm_direction,
)
def transfer_fgsm(batch: AttackInput) -> Perturbation:
    """Transferred FGSM: x + eps * sign(gradient of the surrogate's cross-entropy).

    The direction depends neither on epsilon nor on the attacked network, so it is computed once.
    """
    assert batch.precomputed is not None
    direction = batch.precomputed(0.0).to(batch.images)
    return lambda epsilon: batch.images + epsilon * direction
