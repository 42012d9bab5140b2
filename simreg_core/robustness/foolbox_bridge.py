"""A wrapper of Foolbox's attacks; no other module imports Foolbox.

Draws come from a given seed and leave the global generators unchanged. Networks are attacked in
evaluation mode and without weight gradients. Callers give every parameter of an attack, and check
whether the result is an image and fools the network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from simreg_core.networks.network import evaluation_mode
from simreg_core.seeding import global_rng


def run_foolbox(
    attack: str,
    parameters: Mapping[str, Any],
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    seed: int = 0,
    **call: Any,
) -> Tensor:
    """Run an untargeted attack of Foolbox on a batch.

    Args:
        attack: Name of a class in ``foolbox.attacks``.
        parameters: All arguments of its constructor.
        model: The attacked network.
        images: Float (B, C, H, W) in [0, 1].
        labels: int64 (B,).
        seed: Seed of the attack's draws.
        call: ``epsilon`` of attacks of fixed size, ``starting_points`` of decision-based ones.

    Returns:
        Values of the same shape, neither clipped nor checked.
    """
    import foolbox  # slow to import

    kind = _hop_skip_jump() if attack == "HopSkipJumpAttack" else getattr(foolbox.attacks, attack)
    with frozen(model), global_rng(seed):
        wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device=images.device)
        criterion = foolbox.criteria.Misclassification(labels)
        proposal: Tensor = kind(**parameters).run(wrapped, images, criterion, **call)
    return proposal.detach()


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Inside the block, ``model`` is in evaluation mode and has no weight gradients."""
    gradients = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    with evaluation_mode(model):
        model.requires_grad_(False)
        try:
            yield
        finally:
            for parameter, flag in gradients:
                parameter.requires_grad_(flag)


@torch.no_grad()
def predict(model: nn.Module, images: Tensor) -> Tensor:
    """Predicted class of every image, int64 (B,)."""
    predicted: Tensor = model(images).argmax(dim=1)
    return predicted


def predict_all(model: nn.Module, images: Tensor, batch_size: int) -> Tensor:
    """:func:`predict` in batches, int64 (N,)."""
    return torch.cat([predict(model, batch) for batch in images.split(batch_size)])


def draw_seed(rng: torch.Generator) -> int:
    """Draw a seed from a generator."""
    return int(torch.randint(2**62, (1,), generator=rng, device=rng.device))


def _hop_skip_jump() -> Any:
    """HopSkipJump of Foolbox 3.3.4, corrected.

    Foolbox scales estimated gradients to unit length over the batch instead of per image, which
    makes the steps of a batch of B images about sqrt(B) times too short.
    """
    import foolbox

    class HopSkipJump(foolbox.attacks.HopSkipJumpAttack):  # type: ignore[misc]
        def approximate_gradients(self, *args: Any) -> Any:
            gradients = super().approximate_gradients(*args)
            norms = gradients.raw.flatten(1).norm(dim=1).clamp_min(1e-12)
            return type(gradients)(gradients.raw / norms[:, None, None, None])

    return HopSkipJump
