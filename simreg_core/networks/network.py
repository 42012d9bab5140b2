"""Networks as the regularizer and the attacks see them, and how to build one."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parameter import UninitializedParameter

from simreg_core.config.trial import ModelConfig
from simreg_core.errors import ConfigError, concerning
from simreg_core.networks.layers import layer_outputs
from simreg_core.plugins import check_keywords, check_options, foreign_code
from simreg_core.registry import NETWORKS, Network
from simreg_core.seeding import derive_seed, global_rng

M = TypeVar("M", bound=nn.Module)


class Classifier(nn.Module):
    """Any network, behind the preparation of its input: pixels in [0, 1] to logits.

    Preparation is part of the classifier, so that every epsilon is in pixel units: grey images get
    the channels of the network, images are resized to ``input_size`` (bilinear) and normalized to
    ``scale * (x - shift)``.

    Args:
        network: Prepared pixels to logits (B, num_classes).
        config: Normalisation and input size.
        channels: Channels of the images, 1 (grey) or 3 (RGB).
        num_classes: Number of classes.
        input_channels: Channels that the network takes; those of the images, or 3 for grey ones.
        layer_names: Layers that the regularizer compares by default; empty if it must name them.
    """

    def __init__(
        self,
        network: nn.Module,
        config: ModelConfig,
        *,
        channels: int,
        num_classes: int,
        input_channels: int,
        layer_names: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.network = network
        self.channels = channels
        self.num_classes = num_classes
        self.layer_names = layer_names
        self._config = config
        self._input_channels = input_channels

    def prepare(self, pixels: Tensor) -> Tensor:
        """The network's input for pixels (B, C, H, W) in [0, 1]."""
        size = self._config.input_size
        if pixels.shape[1] != self._input_channels:
            pixels = pixels.expand(-1, self._input_channels, -1, -1)
        if size is not None and pixels.shape[2:] != (size, size):
            pixels = functional.interpolate(pixels, (size, size), mode="bilinear")
        return self._config.scale * (pixels - self._config.shift)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (B, num_classes) for pixels (B, C, H, W) in [0, 1]."""
        logits: Tensor = self.network(self.prepare(pixels))
        return logits

    def features(self, pixels: Tensor, layers: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Outputs of layers by name, for pixels (B, C, H, W) in [0, 1].

        ``layers`` are names of modules of the network, by default ``layer_names``.
        """
        return layer_outputs(self.network, self.prepare(pixels), layers or self.layer_names)


def architecture_of(config: ModelConfig) -> Network:
    """What builds the network of a configuration."""
    with concerning("model.architecture"):
        return NETWORKS.get(config.architecture)


def build_network(config: ModelConfig, *, channels: int, num_classes: int, seed: int) -> Classifier:
    """A freshly initialised network on the CPU.

    ``seed`` is the root seed of the trial.

    Raises:
        ConfigError: the architecture cannot be imported, does not take the options, fails, or
            builds no ``torch.nn.Module``.
    """
    architecture = architecture_of(config)
    where = _where(config)
    arguments = {"channels": channels, "num_classes": num_classes}
    with global_rng(derive_seed(seed, "weights")), torch.device("cpu"):
        if architecture.is_foreign:
            function, name = architecture.function, architecture.name
            with concerning("model.architecture"):
                check_keywords(function, arguments, name)
            check_options(function, config.options, name, "model.options", given=arguments)
            with foreign_code(where):
                network = architecture(**arguments, **config.options)
        else:
            network = architecture(config, **arguments)
    if not isinstance(network, nn.Module):
        raise ConfigError(f"{where}: returned {type(network).__name__}, expected a torch.nn.Module")
    if lazy := [
        name
        for name, weight in network.named_parameters()
        if isinstance(weight, UninitializedParameter)
    ]:
        raise ConfigError(f"{where}: {lazy[0]} has no size yet; lazy modules are not supported")
    return Classifier(
        network,
        config,
        **arguments,
        input_channels=architecture.input_channels or channels,
        layer_names=tuple(architecture.layers(config)),
    )


def check_network(config: ModelConfig, network: Classifier, images: Tensor) -> None:
    """Check a network that is not the project's own, on two images, uint8 (2, C, H, W).

    Raises:
        ConfigError: it fails, in training or in evaluation, its logits are not finite float32
            numbers (B, classes), nothing in it can be trained, or its state cannot be saved and
            loaded.
    """
    if config.architecture in NETWORKS.own:
        return
    where, state = _where(config), network.state_dict()
    if others := [name for name, value in state.items() if not isinstance(value, Tensor)]:
        raise ConfigError(f"{where}: {others[0]} in its state_dict is no tensor")
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise ConfigError(f"{where}: has no weights to train")
    with foreign_code(f"{where}: cannot be copied"):
        loaded = copy.deepcopy(network)
    with foreign_code(f"{where}: its own state_dict cannot be loaded"):
        loaded.load_state_dict(state)
    pixels = images.to(torch.float32) / 255
    for mode, batch in (("training", pixels), ("evaluation", pixels), ("evaluation", pixels[:1])):
        copied = copy.deepcopy(network).train(mode == "training")  # which changes running means
        side = tuple(copied.prepare(batch).shape)
        with foreign_code(f"{where}: with input {side}, see model.input_size"), torch.no_grad():
            logits = copied(batch)
        expected = f"float32 logits {(len(batch), network.num_classes)} in {mode}"
        if not isinstance(logits, Tensor):
            raise ConfigError(
                f"{where}: expected {expected}, found {type(logits).__name__}; turn auxiliary "
                "outputs off by an option"
            )
        if logits.dtype != torch.float32 or logits.shape != (len(batch), network.num_classes):
            kind = str(logits.dtype).removeprefix("torch.")
            raise ConfigError(f"{where}: expected {expected}, found {kind} {tuple(logits.shape)}")
        if not bool(logits.isfinite().all()):
            raise ConfigError(f"{where}: its logits in {mode} are not finite")


def _where(config: ModelConfig) -> str:
    return f"model.architecture: {config.architecture}"


def freeze(model: M) -> M:
    """Put ``model`` into evaluation mode and turn gradients of its weights off, in place."""
    return model.eval().requires_grad_(False)


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode in a block and restore its modules' modes at the end."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
