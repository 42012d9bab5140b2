"""The interface of black-box attacks, whose accuracy is a curve over epsilon.

An attack is one function. It gets a batch and its options, makes all of its random draws at once,
and returns the perturbed images as a function of epsilon, in pixel units of [0, 1]. The same draws
serve every epsilon, and every network that is evaluated with the same seed meets the same noise.
:func:`simreg_core.registry.attack` declares one; :mod:`simreg_core.robustness.noise` has examples.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from simreg_core.config.robustness import RobustnessConfig
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
    """The network that gradient attacks are transferred from; frozen, in evaluation mode."""
    precomputed: Tensor | None = None
    """What the attack's ``precompute`` returned for these images; None if it has none."""
    first: int = 0
    """Position of the batch's first image in its split."""


Perturbation = Callable[[float], Tensor]
"""Epsilon to perturbed images (B, C, H, W)."""


def check_attacks(config: RobustnessConfig) -> None:
    """Check that every attack and corruption exists and takes the options that it is given.

    Raises:
        ConfigError: names the key, what was found and what is allowed.
    """
    for name, attack in config.attacks.items():
        key = f"robustness.attacks.{name}"
        try:
            function = ATTACKS.get(name).function
        except ConfigError as err:
            raise ConfigError(f"robustness.attacks.{err}") from err
        check_options(function, attack.options, name, f"{key}.options")
    for kind in config.corruptions.kinds if config.corruptions else ():
        try:
            CORRUPTIONS.get(kind)
        except ConfigError as err:
            raise ConfigError(f"robustness.corruptions.kinds: {err}") from err


def prepare(
    attack: Attack, batch: AttackInput, options: Mapping[str, Option] | None = None
) -> Perturbation:
    """An attack on a batch: epsilon in, images clipped to [0, 1] out.

    Args:
        attack: What :data:`simreg_core.registry.ATTACKS` has.
        batch: What to attack. It stays as it is, whatever a foreign attack does.
        options: Keyword arguments of the attack's function.

    Raises:
        ValueError: the images are not in [0, 1].
        ConfigError: a foreign attack raises, or does not return images (from the returned function,
            too).
    """
    if not bool(((batch.images >= 0) & (batch.images <= 1)).all()):
        raise ValueError(f"{attack.name}: images must lie in [0, 1]")
    if attack.is_foreign:
        return _prepare_foreign(attack, batch, options or {})
    perturbation = attack(_precomputed(attack, batch), **(options or {}))
    return lambda epsilon: perturbation(epsilon).clamp(0, 1)


def _precomputed(attack: Attack, batch: AttackInput) -> AttackInput:
    if attack.precompute is None or batch.precomputed is not None:
        return batch
    computed = attack.precompute(batch.surrogate, batch.images, batch.labels)
    return batch._replace(precomputed=computed)


def _prepare_foreign(
    attack: Attack, batch: AttackInput, options: Mapping[str, Option]
) -> Perturbation:
    name, where = attack.name, f"attack {attack.name}"
    # Copies, because writing into the batch or the surrogate would change every other result.
    own = batch._replace(
        images=batch.images.clone(),
        labels=batch.labels.clone(),
        surrogate=copy.deepcopy(batch.surrogate),
    )
    with foreign_code(where):
        perturbation = attack(_precomputed(attack, own), **options)
    if not callable(perturbation):
        raise ConfigError(
            f"{where}: must return a function of epsilon, returned {type(perturbation).__name__}"
        )

    def perturbed(epsilon: float) -> Tensor:
        with foreign_code(where):
            found = perturbation(epsilon)
        return _checked(name, found, batch.images).clamp(0, 1)

    return perturbed


def _checked(name: str, perturbed: object, images: Tensor) -> Tensor:
    """The images that a foreign attack returned for one epsilon."""
    if not isinstance(perturbed, Tensor):
        raise ConfigError(
            f"attack {name}: expected a tensor of images, found {type(perturbed).__name__}"
        )
    if perturbed.shape != images.shape:
        raise ConfigError(
            f"attack {name}: expected images of shape {tuple(images.shape)}, "
            f"found {tuple(perturbed.shape)}"
        )
    if not bool(perturbed.isfinite().all()):
        raise ConfigError(f"attack {name}: the images hold values that are not finite")
    return perturbed.detach().to(images)
