"""What a network can do on one split: under attacks and corruptions, and how far its boundary is.

Corruptions are curves as well: the attack is ``corruption:KIND``, its epsilon the severity.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from simreg_core.config.robustness import RobustnessConfig
from simreg_core.config.trial import TrialConfig
from simreg_core.data.images import Split
from simreg_core.data.task import TaskData
from simreg_core.errors import ConfigError
from simreg_core.networks.resnet import build_model
from simreg_core.registry import is_plugin
from simreg_core.robustness.attack import AttackInput, fgsm_direction, freeze, prepare
from simreg_core.robustness.boundary import Perturbations, median_distance, minimal_perturbations
from simreg_core.robustness.cifar10c import StoredCorruptions, open_folder
from simreg_core.robustness.corruptions import corrupt
from simreg_core.robustness.frequency import SpectrumPoint, band_edges, measure_frequencies
from simreg_core.seeding import generator

CORRUPTION_PREFIX = "corruption:"
_DIRECTION_BATCH = 500
_PIECE_PIXELS = 2**17  # on a CPU, passes of more images are slower: layers leave its cache
_MIN_PIECE = 32


class CurvePoint(NamedTuple):
    """Accuracy at one epsilon of one attack."""

    split: str
    attack: str
    epsilon: float
    is_reference: bool
    accuracy: float
    num_images: int


class SplitFigures(NamedTuple):
    """What was measured of one network on one split."""

    curves: list[CurvePoint]
    """Of attacks, then of corruptions."""
    boundary_distance: float | None
    """As ``records`` has it; None if not configured, or if no perturbation was found."""
    spectra: list[SpectrumPoint]
    """Empty if not configured."""


def check_measurable(config: TrialConfig, data: TaskData, device: torch.device) -> None:
    """Refuse before any training what :func:`measure` could not do after it.

    Every plug-in attacks two images, with a network that is not trained as surrogate.

    Args:
        config: A trial's configuration.
        data: The task's splits, on any device.
        device: Where the plug-ins compute.

    Raises:
        ConfigError: a plug-in fails, or the images are too small for bands of frequencies.
    """
    robustness = config.robustness
    if robustness.frequency:
        try:
            band_edges(*data.test.images.shape[-2:])
        except ValueError as err:
            raise ConfigError(f"robustness.frequency: {err}") from err
    plugins = [name for name in robustness.attacks if is_plugin(name)]
    if not plugins:
        return
    channels = data.test.images.shape[1]
    model = build_model(config.model, channels=channels, num_classes=data.num_classes, seed=0)
    surrogate = freeze(model.to(device))
    images = data.test.images[:2].to(device, torch.float32) / 255
    labels = data.test.labels[:2].to(device)
    for name in plugins:
        attack = robustness.attacks[name]
        rng = generator(robustness.noise_seed, f"{name} tried", device=device)
        batch = AttackInput(images, labels, rng, surrogate)
        prepare(name, batch, attack.options)(attack.max_epsilon)


def measure(
    model: nn.Module,
    split: Split,
    name: str,
    config: TrialConfig,
    surrogate: nn.Module,
    directions: Tensor | None = None,
) -> SplitFigures:
    """Everything that a configuration asks to be measured of a network on one split.

    Arguments as of :func:`evaluate`; ``config`` is the whole trial's.

    Raises:
        ConfigError: a plug-in returns no images, or the folder of corruptions cannot be used.
    """
    robustness = config.robustness
    curves = evaluate(model, split, name, robustness, surrogate, directions)
    if robustness.corruptions is not None:
        stored = None
        if name == "test":
            stored = open_folder(robustness.corruptions, config.task, split)
        curves += corruption_curves(model, split, name, robustness, stored)
    found = boundary_perturbations(model, split, name, robustness)
    if found is None:
        return SplitFigures(curves, None, [])
    spectra = []
    if robustness.frequency:
        originals = split.images[: len(found.adversarial)].to(torch.float32) / 255
        moved = (found.adversarial - originals)[found.found]
        spectra = measure_frequencies(model, split, name, robustness, moved)
    return SplitFigures(curves, median_distance(found), spectra)


def boundary_perturbations(
    model: nn.Module, split: Split, name: str, config: RobustnessConfig
) -> Perturbations | None:
    """Minimal perturbations of the split's first ``boundary.num_images`` images.

    Returns:
        None if the boundary attack is not configured.
    """
    if config.boundary is None:
        return None
    num_images = config.boundary.num_images
    images = split.images[:num_images].to(torch.float32) / 255
    rng = generator(config.noise_seed, f"boundary on {name}")
    return minimal_perturbations(model, images, split.labels[:num_images], config.boundary, rng)


def corruption_curves(
    model: nn.Module,
    split: Split,
    name: str,
    config: RobustnessConfig,
    stored: StoredCorruptions | None = None,
) -> list[CurvePoint]:
    """Accuracy under every configured corruption and severity, in the configured order.

    What a corruption draws depends on the configuration and the split's name alone.

    Args:
        model: The network; pixels (B, C, H, W) in [0, 1] to logits.
        split: uint8 images and labels, on the network's device.
        name: Name of the split.
        config: Corruptions, noise seed, batch size.
        stored: Corrupted images to use where a kind is among them; the others are made here.
    """
    assert config.corruptions is not None
    was_training = model.training
    model.eval()
    points = []
    for kind in config.corruptions.kinds:
        for severity in config.corruptions.severities:
            correct = torch.zeros((), dtype=torch.int64, device=split.images.device)
            for number, start in enumerate(range(0, len(split.labels), config.batch_size)):
                stop = start + config.batch_size
                if stored is not None and kind in stored.files:
                    images = stored.images(kind, severity, start, stop).to(split.images.device)
                else:
                    rng = generator(
                        config.noise_seed, f"{kind} on {name}", number, device=split.images.device
                    )
                    images = corrupt(split.images[start:stop], kind, severity, rng)
                pixels = images.to(torch.float32) / 255
                correct += _num_correct(model, pixels, split.labels[start:stop])
            num_images = len(split.labels)
            points.append(
                CurvePoint(
                    split=name,
                    attack=f"{CORRUPTION_PREFIX}{kind}",
                    epsilon=float(severity),
                    is_reference=False,
                    accuracy=int(correct) / num_images,
                    num_images=num_images,
                )
            )
    model.train(was_training)
    return points


def fgsm_directions(surrogate: nn.Module, split: Split) -> Tensor:
    """The surrogate's FGSM directions for every image of a split, int8 (N, C, H, W).

    In batches of a fixed size: in the last digits, gradients depend on it.
    """
    parts = zip(
        split.images.split(_DIRECTION_BATCH), split.labels.split(_DIRECTION_BATCH), strict=True
    )
    return torch.cat(
        [
            fgsm_direction(surrogate, images.to(torch.float32) / 255, labels)
            for images, labels in parts
        ]
    )


def evaluate(
    model: nn.Module,
    split: Split,
    name: str,
    config: RobustnessConfig,
    surrogate: nn.Module,
    directions: Tensor | None = None,
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
        directions: From :func:`fgsm_directions`; computed here if not given.
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
        start = number * config.batch_size
        direction = None if directions is None else directions[start : start + len(labels)]
        for attack, count in counts.items():
            rng = generator(config.noise_seed, f"{attack} on {name}", number, device=device)
            batch = AttackInput(images, labels, rng, surrogate, direction)
            options = config.attacks[attack].options
            perturbed = prepare(attack, batch, options)
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
    """The accuracies of ``records`` that the curves of one split hold.

    Returns:
        ``clean_accuracy``; ``robust_accuracy``, the mean over the reference attacks; and
        ``robust_accuracy.ATTACK`` for each of them; where there are corruptions,
        ``corruption_accuracy``, the mean over kinds and severities.
    """
    corrupted = [p.accuracy for p in points if p.attack.startswith(CORRUPTION_PREFIX)]
    attacked = [p for p in points if not p.attack.startswith(CORRUPTION_PREFIX)]
    under = {point.attack: point.accuracy for point in attacked if point.is_reference}
    return {
        "clean_accuracy": next(point.accuracy for point in attacked if point.epsilon == 0),
        "robust_accuracy": statistics.fmean(under.values()),
        **{f"robust_accuracy.{attack}": accuracy for attack, accuracy in under.items()},
        **({"corruption_accuracy": statistics.fmean(corrupted)} if corrupted else {}),
    }


@torch.no_grad()
def _num_correct(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    size = len(images)
    if images.device.type == "cpu":
        size = max(_MIN_PIECE, _PIECE_PIXELS // images[0, 0].numel())
    pieces = zip(images.split(size), labels.split(size), strict=True)
    return torch.stack([(model(i).argmax(dim=1) == own).sum() for i, own in pieces]).sum()
