"""Accuracy of a network under attack, at every epsilon, on one split."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from simreg_core.attacks import AttackInput, prepare
from simreg_core.config import RobustnessConfig
from simreg_core.data import Split
from simreg_core.seeding import generator


class CurvePoint(NamedTuple):
    """Accuracy at one epsilon of one attack."""

    split: str
    attack: str
    epsilon: float
    is_reference: bool
    accuracy: float
    num_images: int


def evaluate(
    model: nn.Module, split: Split, name: str, config: RobustnessConfig, surrogate: nn.Module
) -> list[CurvePoint]:
    """Accuracy under every configured attack at every epsilon, epsilon 0 first.

    The noise depends on the configuration and the split's name alone, so two networks meet the
    same. The network's mode is restored; its parameters and the global RNG are not touched.

    Args:
        model: The network; pixels (B, C, H, W) in [0, 1] to logits.
        split: uint8 images and labels, on the network's device.
        name: Name of the split, ``validation`` or ``test``.
        config: Attacks, epsilons, noise seed, batch size.
        surrogate: Frozen network that FGSM is transferred from; never ``model`` itself.
    """
    was_training = model.training
    model.eval()
    device = split.images.device
    counts = {
        attack: torch.zeros(len(config.epsilons(attack)), dtype=torch.int64, device=device)
        for attack in config.attacks
    }
    batches = zip(
        split.images.split(config.batch_size), split.labels.split(config.batch_size), strict=True
    )
    for number, (stored, labels) in enumerate(batches):
        images = stored.to(torch.float32) / 255
        clean = _num_correct(model, images, labels)
        for attack, count in counts.items():
            rng = generator(config.noise_seed, f"{attack} on {name}", number, device=device)
            perturbed = prepare(attack, AttackInput(images, labels, rng, surrogate))
            count[0] += clean
            for step, epsilon in enumerate(config.epsilons(attack)[1:], start=1):
                count[step] += _num_correct(model, perturbed(epsilon), labels)
    model.train(was_training)
    num_images = len(split.labels)
    return [
        CurvePoint(
            split=name,
            attack=attack,
            epsilon=epsilon,
            is_reference=config.reference.get(attack) == epsilon,
            accuracy=correct / num_images,
            num_images=num_images,
        )
        for attack, count in counts.items()
        for epsilon, correct in zip(config.epsilons(attack), count.tolist(), strict=True)
    ]


def accuracies(points: Sequence[CurvePoint]) -> dict[str, float]:
    """Clean accuracy, robust accuracy and the accuracy per reference attack, from one split.

    Returns:
        ``clean_accuracy``; ``robust_accuracy``, the mean over the reference attacks; and
        ``robust_accuracy.ATTACK`` for each of them.
    """
    under = {point.attack: point.accuracy for point in points if point.is_reference}
    return {
        "clean_accuracy": next(point.accuracy for point in points if point.epsilon == 0),
        "robust_accuracy": statistics.fmean(under.values()),
        **{f"robust_accuracy.{attack}": accuracy for attack, accuracy in under.items()},
    }


@torch.no_grad()
def _num_correct(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    correct: Tensor = (model(images).argmax(dim=1) == labels).sum()
    return correct
