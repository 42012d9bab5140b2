"""Measurements of a network on one split: accuracy under attacks, distance to the boundary.

Corruptions are attacks as well: their name is ``corruption:KIND``, their epsilon the severity.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from simreg_core.config.robustness import RobustnessConfig
from simreg_core.data.images import Split
from simreg_core.errors import ConfigError
from simreg_core.networks.network import evaluation_mode
from simreg_core.plugins import Option
from simreg_core.registry import ATTACKS, CORRUPTION_PREFIX, Attack, is_corruption
from simreg_core.results.measurements import CurvePoint
from simreg_core.robustness.attack import AttackInput, batches, precomputed, prepare
from simreg_core.robustness.boundary import median_distance, minimal_perturbations
from simreg_core.robustness.cifar10c import StoredCorruptions
from simreg_core.robustness.frequency import SpectrumPoint, band_edges, measure_frequencies
from simreg_core.seeding import generator

PRECOMPUTE_BATCH = 500
_PIECE_PIXELS = 2**17  # on a CPU, passes of more images are slower: layers leave its cache
_MIN_PIECE = 32
_MAX_STARTS = 1000  # further images of a split that a boundary attack may start from


class Surrogate(NamedTuple):
    """A network that gradient attacks are transferred from, and their results on it."""

    model: nn.Module
    """Frozen, in evaluation mode; never the attacked network itself."""
    precomputed: Mapping[tuple[str, str, float], Tensor] = {}
    """Results of :func:`precompute` by attack, split and epsilon, on any device. The epsilon of
    results that do not depend on it is 0. Missing ones are computed per batch."""


class SplitMeasurements(NamedTuple):
    """Measurements of one network on one split."""

    curves: list[CurvePoint]
    """Attacks, then corruptions."""
    boundary_distance: float | None
    """None if it is not configured, or if no perturbation was found."""
    spectra: list[SpectrumPoint]
    """Empty if not configured."""


class _Curve(NamedTuple):
    """One attack and the epsilons at which the accuracy under it is measured."""

    attack: Attack
    stream: str
    """Name of the stream of random numbers."""
    epsilons: tuple[float, ...]
    reference: float | None = None
    options: Mapping[str, Option] = {}


class _Run(NamedTuple):
    """One run of an attack on every batch."""

    surrogate: Surrogate
    draw: int
    epsilons: tuple[float, ...]


def check_measurable(
    config: RobustnessConfig, split: Split, build_network: Callable[[], nn.Module]
) -> None:
    """Check before any training that :func:`measure` will succeed.

    Every foreign attack attacks two images of ``split``, on its device. The surrogate is an
    untrained network, frozen, from ``build_network``.

    Raises:
        ConfigError: a foreign attack fails, or the images are too small for bands of frequencies.
    """
    if config.frequency:
        try:
            band_edges(*split.images.shape[-2:])
        except ValueError as err:
            raise ConfigError(f"robustness.frequency: {err}") from err
    foreign = [curve for curve in _curves(config) if curve.attack.is_foreign]
    if foreign:
        network, (images, labels) = build_network(), next(batches(split, 2))
    for curve in foreign:
        rng = generator(config.noise_seed, f"{curve.stream} tried", device=images.device)
        scores = partial(logits_of, network) if curve.attack.queries else None
        batch = AttackInput(images, labels, rng, network, scores)
        prepare(curve.attack, batch, curve.options)(curve.epsilons[-1])


def measure(
    model: nn.Module,
    split: Split,
    name: str,
    config: RobustnessConfig,
    surrogates: Sequence[Surrogate],
    stored: StoredCorruptions | None = None,
) -> SplitMeasurements:
    """All configured measurements of a network on one split; arguments as :func:`evaluate`.

    Raises:
        ConfigError: a foreign attack returns no images.
    """
    curves = evaluate(model, split, name, config, surrogates, stored)
    if config.boundary is None:
        return SplitMeasurements(curves, None, [])
    num_images = config.boundary.num_images
    images = split.images[:num_images].to(torch.float32) / 255
    others = split.images[num_images:][:_MAX_STARTS]
    rng = generator(config.noise_seed, f"boundary on {name}")
    found = minimal_perturbations(
        model, images, split.labels[:num_images], config.boundary, rng, others=others
    )
    spectra = []
    if config.frequency:
        spectra = measure_frequencies(model, split, name, config, found.adversarial - images)
    return SplitMeasurements(curves, median_distance(found), spectra)


def precompute(
    attack: Attack,
    surrogate: nn.Module,
    split: Split,
    epsilon: float = 0.0,
    options: Mapping[str, Option] | None = None,
) -> Tensor:
    """Results of the attack's ``precompute``, one row per image of a split.

    The batch size is fixed because the last digits of gradients depend on it.
    """
    parts = batches(split, PRECOMPUTE_BATCH)
    return torch.cat(
        [precomputed(attack, surrogate, *part, epsilon, options or {}) for part in parts]
    )


def evaluate(
    model: nn.Module,
    split: Split,
    name: str,
    config: RobustnessConfig,
    surrogates: Sequence[Surrogate],
    stored: StoredCorruptions | None = None,
) -> list[CurvePoint]:
    """Accuracy under every configured attack at every epsilon, then under every corruption.

    The noise depends only on the configuration and the split's name, so it is the same for all
    networks. The network and the global RNG are left unchanged. Under an attack that transfers,
    accuracy is the mean over the surrogates, and under a random one at its reference epsilon over
    several draws.

    Args:
        model: The network; pixels (B, C, H, W) in [0, 1] to logits.
        split: uint8 images and labels, on the network's device.
        name: Name of the split, ``validation`` or ``test``.
        config: Attacks, epsilons, noise seed, number of draws, batch size.
        surrogates: The networks, one or more, that gradient attacks are transferred from. Attacks
            that do not declare that they transfer get the first.
        stored: Corrupted images of the split, used for the kinds that it contains.
    """
    num_images, device = len(split.labels), split.images.device
    num_draws = config.num_draws(num_images)
    curves = [(c, _runs(c, surrogates, num_draws)) for c in _curves(config, stored)]
    none = torch.zeros((), dtype=torch.int64, device=device)
    counts = [dict.fromkeys(curve.epsilons, none) for curve, _ in curves]
    with evaluation_mode(model):
        for number, (images, labels) in enumerate(batches(split, config.batch_size)):
            clean, first = num_correct(model, images, labels), number * config.batch_size
            for (curve, runs), count in zip(curves, counts, strict=True):
                scores = partial(logits_of, model) if curve.attack.queries else None
                for surrogate, draw, epsilons in runs:
                    rng = _generator(config, f"{curve.stream} on {name}", number, draw, device)
                    known = {
                        epsilon: rows[first : first + len(labels)]
                        for (attack, split_name, epsilon), rows in surrogate.precomputed.items()
                        if (attack, split_name) == (curve.attack.name, name)
                    }
                    batch = AttackInput(
                        images, labels, rng, surrogate.model, scores=scores, first=first
                    )
                    perturbed = prepare(curve.attack, batch, curve.options, known)
                    for epsilon in epsilons:
                        count[epsilon] = count[epsilon] + (
                            num_correct(model, perturbed(epsilon), labels) if epsilon else clean
                        )
    return [
        CurvePoint(
            name,
            curve.attack.name,
            epsilon,
            curve.reference == epsilon,
            int(correct) / (num_images * sum(epsilon in run.epsilons for run in runs)),
            num_images,
        )
        for (curve, runs), count in zip(curves, counts, strict=True)
        for epsilon, correct in count.items()
    ]


def _generator(
    config: RobustnessConfig, stream: str, batch: int, draw: int, device: torch.device
) -> torch.Generator:
    counters = (batch, draw) if draw else (batch,)
    return generator(config.noise_seed, stream, *counters, device=device)


def _runs(curve: _Curve, surrogates: Sequence[Surrogate], num_draws: int) -> list[_Run]:
    """All runs of an attack; only the reference epsilon, which R is computed from, has draws."""
    used = surrogates if curve.attack.transfers else surrogates[:1]
    runs = [_Run(surrogate, 0, curve.epsilons) for surrogate in used]
    if curve.attack.is_random and curve.reference is not None:
        several, epsilons = range(1, num_draws), (curve.reference,)
        runs += [_Run(surrogate, draw, epsilons) for draw in several for surrogate in used]
    return runs


def _curves(config: RobustnessConfig, stored: StoredCorruptions | None = None) -> Iterator[_Curve]:
    for name, attack in config.attacks.items():
        reference = config.reference.get(name)
        stream, epsilons = name.removeprefix(CORRUPTION_PREFIX), config.epsilons(name)
        yield _Curve(_attack(name, stored), stream, epsilons, reference, attack.options)
    if config.corruptions is not None:
        for kind in config.corruptions.kinds:
            name = f"{CORRUPTION_PREFIX}{kind}"
            measured = config.epsilons(name) if name in config.attacks else ()
            left = tuple(float(s) for s in config.corruptions.severities if s not in measured)
            yield _Curve(_attack(name, stored), kind, left)


def _attack(name: str, stored: StoredCorruptions | None) -> Attack:
    """The attack of a name; a corruption takes stored images where there are any."""
    kind = name.removeprefix(CORRUPTION_PREFIX)
    if stored is not None and is_corruption(name) and kind in stored.files:
        return stored.attack(kind)
    return ATTACKS.get(name)


@torch.no_grad()
def logits_of(model: nn.Module, images: Tensor) -> Tensor:
    """Logits (B, K) of images (B, C, H, W), without gradients."""
    size = len(images)
    if images.device.type == "cpu":
        size = max(_MIN_PIECE, _PIECE_PIXELS // images[0, 0].numel())
    return torch.cat([model(piece) for piece in images.split(size)])


def num_correct(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Number of images (B, C, H, W) that the network classifies correctly, int64 scalar."""
    return (logits_of(model, images).argmax(dim=1) == labels).sum()
