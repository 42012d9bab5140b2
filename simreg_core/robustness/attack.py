"""The interface of black-box attacks, whose accuracy is a curve over epsilon.

An attack is one function. It receives a batch and its options, makes all random draws at once, and
returns the perturbed images as a function of epsilon, in pixel units of [0, 1]. All epsilons share
these draws, and so do all networks that are evaluated with the same seed.
:func:`simreg_core.registry.attack` declares one; :mod:`simreg_core.robustness.noise` has examples.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from simreg_core.config.robustness import RobustnessConfig
from simreg_core.data.images import Split
from simreg_core.errors import ConfigError
from simreg_core.plugins import Option, check_options, foreign_code
from simreg_core.registry import ATTACKS, CORRUPTIONS, Attack


class AttackInput(NamedTuple):
    """One batch to attack."""

    images: Tensor
    """Float (B, C, H, W) in [0, 1]."""
    labels: Tensor
    """int64 (B,)."""
    rng: torch.Generator
    """Generator on the images' device."""
    surrogate: nn.Module
    """A network that gradient attacks are transferred from; frozen, in evaluation mode."""
    scores: Callable[[Tensor], Tensor] | None = None
    """Images (N, C, H, W) to logits (N, K) of the attacked network in evaluation mode, without
    gradients; None unless the attack declares ``queries``."""
    precomputed: Callable[[float], Tensor] | None = None
    """Epsilon to what the attack's ``precompute`` returns for these images; None if it has none."""
    first: int = 0
    """Position of the batch's first image in its split."""


Perturbation = Callable[[float], Tensor]
"""Epsilon to perturbed images (B, C, H, W)."""


def check_attacks(config: RobustnessConfig) -> None:
    """Check that every attack and corruption exists and accepts its options.

    Raises:
        ConfigError: names the key, what was found and what is allowed.
    """
    for name, attack in config.attacks.items():
        try:
            function = ATTACKS.get(name).function
        except ConfigError as err:
            raise ConfigError(f"robustness.attacks.{err}") from err
        check_options(function, attack.options, name, f"robustness.attacks.{name}.options")
    for kind in config.corruptions.kinds if config.corruptions else ():
        try:
            CORRUPTIONS.get(kind)
        except ConfigError as err:
            raise ConfigError(f"robustness.corruptions.kinds: {err}") from err


def batches(split: Split, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of a split in order: pixels float32 (B, C, H, W) in [0, 1], labels int64 (B,)."""
    for images, labels in zip(split.images.split(size), split.labels.split(size), strict=True):
        yield images.to(torch.float32) / 255, labels


def prepare(
    attack: Attack,
    batch: AttackInput,
    options: Mapping[str, Option] | None = None,
    known: Mapping[float, Tensor] | None = None,
) -> Perturbation:
    """Start an attack on a batch; the result maps epsilon to images, clipped to [0, 1].

    ``options`` are keyword arguments of the attack's function. ``known`` has results of
    :func:`precomputed` for these images by epsilon; missing ones are computed. Foreign attacks get
    copies of the batch, so that they cannot change it.

    Raises:
        ConfigError: a foreign attack raises or does not return images, here or for an epsilon.
    """
    options = options or {}
    if not attack.is_foreign:
        perturbation = attack(_with_precomputed(attack, batch, options, known or {}), **options)
        return lambda epsilon: perturbation(epsilon).clamp(0, 1)
    copied = batch._replace(
        images=batch.images.clone(),
        labels=batch.labels.clone(),
        surrogate=copy.deepcopy(batch.surrogate),
    )
    where = f"attack {attack.name}"
    with foreign_code(where):
        perturbation = attack(_with_precomputed(attack, copied, options, {}), **options)
    if not callable(perturbation):
        found = type(perturbation).__name__
        raise ConfigError(f"{where}: expected a function of epsilon, returned {found}")

    def checked(epsilon: float) -> Tensor:
        with foreign_code(where):
            images = perturbation(epsilon)
        is_tensor, expected = isinstance(images, Tensor), tuple(batch.images.shape)
        if not is_tensor or images.shape != expected:
            found = tuple(images.shape) if is_tensor else type(images).__name__
            raise ConfigError(f"{where}: expected images of shape {expected}, found {found}")
        if not bool(images.isfinite().all()):
            raise ConfigError(f"{where}: the images hold values that are not finite")
        result: Tensor = images.detach().to(batch.images).clamp(0, 1)
        return result

    return checked


def precomputed(
    attack: Attack,
    surrogate: nn.Module,
    images: Tensor,
    labels: Tensor,
    epsilon: float,
    options: Mapping[str, Option],
) -> Tensor:
    """The result of an attack's ``precompute``, which may depend on epsilon and options or not."""
    assert attack.precompute is not None
    more = {"epsilon": epsilon, **options} if attack.per_epsilon else {}
    rows: Tensor = attack.precompute(surrogate, images, labels, **more)
    return rows


def _with_precomputed(
    attack: Attack,
    batch: AttackInput,
    options: Mapping[str, Option],
    known: Mapping[float, Tensor],
) -> AttackInput:
    if attack.precompute is None:
        return batch

    @functools.cache
    def rows(epsilon: float) -> Tensor:
        if epsilon in known:
            return known[epsilon]
        return precomputed(attack, batch.surrogate, batch.images, batch.labels, epsilon, options)

    return batch._replace(precomputed=rows if attack.per_epsilon else lambda _: rows(0.0))
