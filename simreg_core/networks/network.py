"""The interface of networks to the regularizer and the attacks, and how to build one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TypeVar

import torch
from torch import Tensor, nn

from simreg_core.config.trial import ModelConfig
from simreg_core.errors import ConfigError
from simreg_core.plugins import foreign_code
from simreg_core.registry import NETWORKS, Network
from simreg_core.seeding import derive_seed, global_rng

M = TypeVar("M", bound=nn.Module)


class FeatureNetwork(nn.Module):
    """A classifier of pixels in [0, 1] that returns the features of its layers.

    It must contain the normalisation, so that every epsilon is in pixel units.
    """

    channels: int
    """1 (grey) or 3 (RGB); set by :func:`build_network`."""
    num_classes: int

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of the layers for :meth:`features`, in order."""
        raise NotImplementedError

    def features(self, pixels: Tensor, layers: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Outputs of layers by name; need not run the layers above the last of them.

        Args:
            pixels: Float (B, C, H, W) in [0, 1].
            layers: Names of the layers in order; None: all.
        """
        raise NotImplementedError

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (B, num_classes) for pixels (B, C, H, W) in [0, 1]."""
        raise NotImplementedError


def architecture_of(config: ModelConfig) -> Network:
    """What builds the network of a configuration."""
    try:
        return NETWORKS.get(config.architecture)
    except ConfigError as err:
        raise ConfigError(f"model.architecture: {err}") from err


def build_network(
    config: ModelConfig, *, channels: int, num_classes: int, seed: int
) -> FeatureNetwork:
    """A freshly initialised network on the CPU.

    ``seed`` is the root seed of the trial.

    Raises:
        ConfigError: the architecture cannot be imported or builds no :class:`FeatureNetwork`.
    """
    architecture = architecture_of(config)
    guarded = foreign_code(_where(config)) if architecture.is_foreign else nullcontext()
    with guarded, global_rng(derive_seed(seed, "weights")), torch.device("cpu"):
        network = architecture(config, channels=channels, num_classes=num_classes)
    if not isinstance(network, FeatureNetwork):
        raise ConfigError(
            f"{_where(config)}: returned {type(network).__name__}, expected a "
            "simreg_core.networks.network.FeatureNetwork"
        )
    network.channels, network.num_classes = channels, num_classes
    return network


def check_network(config: ModelConfig, network: FeatureNetwork, images: Tensor) -> None:
    """Check the shapes of a foreign network's logits and features for uint8 (B, C, H, W)."""
    if not architecture_of(config).is_foreign:
        return
    pixels, where = images.to(torch.float32) / 255, _where(config)
    with foreign_code(where), evaluation_mode(network), torch.no_grad():
        logits, features = network(pixels), network.features(pixels)
        shapes = {name: tuple(feature.shape) for name, feature in features.items()}
        found, layers = tuple(logits.shape), network.layer_names
    if found != (expected := (len(images), network.num_classes)):
        raise ConfigError(f"{where}: expected logits {expected}, found {found}")
    if tuple(shapes) != tuple(layers) or any(len(shape) != 4 for shape in shapes.values()):
        raise ConfigError(
            f"{where}: expected features (B, C, H, W) of the layers "
            f"{', '.join(layers)}, found {shapes}"
        )


def _where(config: ModelConfig) -> str:
    return f"model.architecture: {config.architecture}"


def freeze(model: M) -> M:
    """Put ``model`` into evaluation mode and turn gradients of its weights off, in place."""
    return model.eval().requires_grad_(False)


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode in a block and restore its mode at the end."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
