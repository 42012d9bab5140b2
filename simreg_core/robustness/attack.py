"""The interface of black-box attacks, whose accuracy is a curve over epsilon.

An attack is one function. It gets a batch and its options, makes all of its random draws at once,
and returns the perturbed images as a function of epsilon, in pixel units of [0, 1]. The same draws
serve every epsilon, and every network that is evaluated with the same seed meets the same noise.
:func:`simreg_core.registry.attack` declares one; :mod:`simreg_core.robustness.noise` has examples.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from simreg_core.config.robustness import RobustnessConfig
from simreg_core.errors import ConfigError, reason_of
from simreg_core.plugins import Option, check_options
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
    """What the attack's ``precompute`` returned for these images, where it is known already."""
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
    perturbation = attack(batch, **(options or {}))
    return lambda epsilon: perturbation(epsilon).clamp(0, 1)


def _prepare_foreign(
    attack: Attack, batch: AttackInput, options: Mapping[str, Option]
) -> Perturbation:
    name = attack.name
    # Copies, because writing into the batch or the surrogate would change every other result.
    own = batch._replace(
        images=batch.images.clone(),
        labels=batch.labels.clone(),
        surrogate=copy.deepcopy(batch.surrogate),
    )
    with _naming(name):
        perturbation = attack(own, **options)
    if not callable(perturbation):
        raise ConfigError(
            f"attack {name}: must return a function of epsilon, "
            f"returned {type(perturbation).__name__}"
        )

    def perturbed(epsilon: float) -> Tensor:
        with _naming(name):
            found = perturbation(epsilon)
        return _checked(name, found, batch.images).clamp(0, 1)

    return perturbed


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Turn what a foreign attack raises into one line with its name, except exhausted memory."""
    try:
        yield
    except (MemoryError, torch.cuda.OutOfMemoryError):
        raise
    except (Exception, SystemExit) as err:
        raise ConfigError(f"attack {name}: {reason_of(err)}") from err


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
