"""An attack of your own: rows of stripes."""

# Name it in a space file:
#
#   trial:
#     robustness:
#       attacks: {gaussian: {}, "examples.own_attack:stripes": {options: {period: 2}}}
#       reference: [gaussian, "examples.own_attack:stripes"]

import torch

from simreg_core.registry import attack
from simreg_core.robustness.attack import AttackInput, Perturbation


@attack("stripes", label="stripes", max_epsilon=0.2, reference=0.2, is_random=True)
def stripes(batch: AttackInput, *, period: int = 4) -> Perturbation:
    """Every ``period``-th row becomes lighter or darker; a coin decides for each image."""
    rows = torch.arange(batch.images.shape[2], device=batch.images.device) % period == 0
    shape = (len(batch.images), 1, 1, 1)
    sign = 2 * torch.randint(2, shape, generator=batch.rng, device=batch.images.device) - 1
    return lambda epsilon: batch.images + epsilon * sign * rows[:, None]
