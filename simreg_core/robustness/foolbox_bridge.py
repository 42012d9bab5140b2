"""Foolbox's attacks, run on our networks; the only importer of Foolbox.

What Foolbox leaves open is settled here: its draws come from a given seed and leave the global
generators as they were, networks are attacked in evaluation mode and without weight gradients,
and every attack parameter is stated by the caller. What comes back is a proposal: callers check
that it is an image, and whether it fools the network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

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
    """What one of Foolbox's attacks makes of a batch.

    Args:
        attack: Name of a class in ``foolbox.attacks``.
        parameters: All arguments of its constructor.
        model: The attacked network: pixels (B, C, H, W) in [0, 1] to logits.
        images: Float (B, C, H, W) in [0, 1].
        labels: int64 (B,); the attack is untargeted.
        seed: Of the attack's draws.
        call: ``epsilon`` of attacks of fixed size, ``starting_points`` of decision-based ones.

    Returns:
        Images of the same shape; nothing is promised about them.
    """
    import foolbox  # heavy; needed by attacks only

    kind = _hop_skip_jump() if attack == "HopSkipJumpAttack" else getattr(foolbox.attacks, attack)
    with frozen(model), global_rng(seed):
        wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device=images.device)
        criterion = foolbox.criteria.Misclassification(labels)
        proposal: Tensor = kind(**parameters).run(wrapped, images, criterion, **call)
    return proposal.detach()


@contextmanager
def frozen(model: nn.Module) -> Iterator[nn.Module]:
    """``model`` in evaluation mode and without weight gradients inside the block, then as before.

    Foolbox would otherwise compute the weights' gradients as well, which nobody reads.
    """
    modes = [(module, module.training) for module in model.modules()]
    gradients = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    model.eval().requires_grad_(False)
    try:
        yield model
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, flag in gradients:
            parameter.requires_grad_(flag)


@torch.no_grad()
def predict(model: nn.Module, images: Tensor) -> Tensor:
    """Predicted class of every image, int64 (B,)."""
    predicted: Tensor = model(images).argmax(dim=1)
    return predicted


def predict_all(model: nn.Module, images: Tensor, batch_size: int) -> Tensor:
    """:func:`predict` in batches of bounded size, int64 (N,)."""
    return torch.cat([predict(model, batch) for batch in images.split(batch_size)])


def draw_seed(rng: torch.Generator) -> int:
    """A seed from a generator, which it advances."""
    return int(torch.randint(2**62, (1,), generator=rng, device=rng.device))


def _hop_skip_jump() -> Any:
    """Foolbox 3.3.4's HopSkipJump with steps of the right length.

    It scales the estimated gradients to unit length over the whole batch instead of per image, so
    a batch of B images takes steps about sqrt(B) times too short.
    """
    import foolbox

    class HopSkipJump(foolbox.attacks.HopSkipJumpAttack):  # type: ignore[misc]
        def approximate_gradients(self, *args: Any) -> Any:
            gradients = super().approximate_gradients(*args)
            norms = gradients.raw.flatten(1).norm(dim=1).clamp_min(1e-12)
            return type(gradients)(gradients.raw / norms[:, None, None, None])

    return HopSkipJump
