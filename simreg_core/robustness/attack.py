"""Black-box attacks whose accuracy is a curve over epsilon, in pixel units of [0, 1].

An attack is one function: it gets a batch and its options, draws all its randomness at once, and
returns the perturbation as a function of epsilon. The same draws serve every epsilon, and every
network that is evaluated with the same seed meets the same noise. To add one to the project,
write such a function and enter its name in :data:`ATTACK_FUNCTIONS` and in ``config.ATTACKS``;
without touching the project, name it ``module:function`` in the configuration (a plug-in, see
:mod:`simreg_core.registry`).
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
from simreg_core.registry import Option, check_options, is_plugin, load_function
from simreg_core.robustness.foolbox_bridge import run_foolbox


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
    fgsm_direction: Tensor | None = None
    """What :func:`fgsm_direction` gives for these images, where it is known already."""


Perturbation = Callable[[float], Tensor]
AttackFunction = Callable[..., Perturbation]
"""Called with an :class:`AttackInput` and the attack's options as keywords."""


def gaussian(batch: AttackInput) -> Perturbation:
    """Gaussian noise: x + eps * N(0, 1), independently for every pixel and channel."""
    noise = torch.empty_like(batch.images).normal_(generator=batch.rng)
    return lambda epsilon: batch.images + epsilon * noise


def uniform(batch: AttackInput) -> Perturbation:
    """Uniform noise: x + U(-eps, eps), independently for every pixel and channel."""
    noise = torch.empty_like(batch.images).uniform_(-1, 1, generator=batch.rng)
    return lambda epsilon: batch.images + epsilon * noise


def salt_pepper(batch: AttackInput) -> Perturbation:
    """Each pixel becomes 0 or 1 (in all channels, with equal chances) with probability eps."""
    chance, value = torch.empty(
        (2, len(batch.images), 1, *batch.images.shape[2:]), device=batch.images.device
    ).uniform_(generator=batch.rng)
    return lambda epsilon: torch.where(chance < epsilon, (value < 0.5).float(), batch.images)


def transfer_fgsm(batch: AttackInput) -> Perturbation:
    """Transferred FGSM: x + eps * sign(gradient of the surrogate's cross-entropy).

    Goodfellow et al., arXiv:1412.6572. The direction does not depend on epsilon, nor on the
    network that is attacked: it is computed once.
    """
    direction = batch.fgsm_direction
    if direction is None:
        direction = fgsm_direction(batch.surrogate, batch.images, batch.labels)
    direction = direction.to(batch.images)
    return lambda epsilon: batch.images + epsilon * direction


def fgsm_direction(surrogate: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Sign of the gradient of the surrogate's cross-entropy, int8 (B, C, H, W).

    By Foolbox's LinfFastGradientAttack. Where its clipping to [0, 1] hides a direction, moving
    there would be clipped away at any epsilon.
    """
    moved = run_foolbox(
        "LinfFastGradientAttack", {"random_start": False}, surrogate, images, labels, epsilon=0.5
    )
    return (moved - images).sign().to(torch.int8)


ATTACK_FUNCTIONS: dict[str, AttackFunction] = {
    "gaussian": gaussian,
    "uniform": uniform,
    "salt_pepper": salt_pepper,
    "transfer_fgsm": transfer_fgsm,
}


def attack_function(name: str) -> AttackFunction:
    """The function of an attack's name: the project's own, or a plug-in's.

    Raises:
        ConfigError: the plug-in's module or function cannot be had.
    """
    return load_function(name) if is_plugin(name) else ATTACK_FUNCTIONS[name]


def check_attacks(config: RobustnessConfig) -> None:
    """Every attack's function is there and takes the options that it is given.

    Raises:
        ConfigError: names the key, what was found and what is allowed.
    """
    for name, attack in config.attacks.items():
        key = f"robustness.attacks.{name}"
        try:
            function = attack_function(name)
        except ConfigError as err:
            raise ConfigError(f"robustness.attacks.{err}") from err
        check_options(function, attack.options, name, f"{key}.options")


def prepare(
    name: str, batch: AttackInput, options: Mapping[str, Option] | None = None
) -> Perturbation:
    """The named attack on a batch: epsilon in, images clipped to [0, 1] out.

    Args:
        name: A name in :data:`ATTACK_FUNCTIONS` or a plug-in's ``module:function``.
        batch: What to attack; left as it is, whatever a plug-in does.
        options: Keyword arguments of the attack's function.

    Raises:
        ValueError: the images are not in [0, 1].
        ConfigError: a plug-in cannot be had, or (from the returned function, too) raises or does
            not return images.
    """
    if not bool(((batch.images >= 0) & (batch.images <= 1)).all()):
        raise ValueError(f"{name}: images must lie in [0, 1]")
    if is_plugin(name):
        return _prepare_plugin(name, batch, options or {})
    perturbation = attack_function(name)(batch, **(options or {}))
    return lambda epsilon: perturbation(epsilon).clamp(0, 1)


def freeze(model: nn.Module) -> nn.Module:
    """``model`` in evaluation mode and without weight gradients, in place."""
    return model.eval().requires_grad_(False)


def _prepare_plugin(name: str, batch: AttackInput, options: Mapping[str, Option]) -> Perturbation:
    function = load_function(name)
    # Copies: what it writes into its batch or the surrogate would change every other figure.
    own = batch._replace(
        images=batch.images.clone(),
        labels=batch.labels.clone(),
        surrogate=copy.deepcopy(batch.surrogate),
        fgsm_direction=None,
    )
    with _told(name):
        perturbation = function(own, **options)
    if not callable(perturbation):
        raise ConfigError(
            f"attack {name}: must return a function of epsilon, "
            f"returned {type(perturbation).__name__}"
        )

    def perturbed(epsilon: float) -> Tensor:
        with _told(name):
            found = perturbation(epsilon)
        return _checked(name, found, batch.images).clamp(0, 1)

    return perturbed


@contextmanager
def _told(name: str) -> Iterator[None]:
    """What a plug-in raises, as one line with its name; memory that ran out is passed on."""
    try:
        yield
    except (MemoryError, torch.cuda.OutOfMemoryError):
        raise
    except (Exception, SystemExit) as err:
        raise ConfigError(f"attack {name}: {reason_of(err)}") from err


def _checked(name: str, perturbed: object, images: Tensor) -> Tensor:
    """What a plug-in returned for one epsilon, if it is a batch of images."""
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
