"""Build a network, its regularizer and its optimizer, before the first epoch."""

from __future__ import annotations

import torch
from torch import Tensor

from simreg_core.config.regularizer import RegularizerConfig
from simreg_core.config.trial import ModelConfig, TaskConfig, TrialConfig
from simreg_core.data.task import RegularizationImages, TaskData, load_regularization_images
from simreg_core.errors import ConfigError, concerning
from simreg_core.networks.layers import check_layers
from simreg_core.networks.network import (
    Classifier,
    build_network,
    check_network,
    evaluation_mode,
)
from simreg_core.regularizer.loss import SimilarityRegularizer
from simreg_core.regularizer.pairs import PairSampler
from simreg_core.regularizer.targets import TargetInput, make_target
from simreg_core.seeding import generator
from simreg_core.training.state import TrainingState


def start(config: TrialConfig, data: TaskData, device: torch.device) -> TrainingState:
    """The training state of a trial before its first epoch.

    Raises:
        ConfigError: the regularization images cannot be had, the padding exceeds the images, or a
            foreign network or target fails.
    """
    side, padding = min(data.train.images.shape[2:]), config.training.augmentation.crop_padding
    if padding >= side:
        raise ConfigError(
            f"training.augmentation.crop_padding: {padding} must be below the images' side, {side}"
        )
    model = new_network(config.model, data, device, seed=config.seed)
    regularizer = None
    if config.regularizer.alpha > 0:
        regularizer = build_regularizer(
            config.regularizer, config.task, data, model, seed=config.seed
        )
    return TrainingState.begin(model, regularizer, config.training, alpha=config.regularizer.alpha)


def new_network(
    config: ModelConfig, data: TaskData, device: torch.device, *, seed: int
) -> Classifier:
    """An untrained network for a task, on the device, after a check on two training images.

    Raises:
        ConfigError: a foreign network fails.
    """
    channels, num_classes = data.train.images.shape[1], data.num_classes
    model = build_network(config, channels=channels, num_classes=num_classes, seed=seed).to(device)
    check_network(config, model, data.train.images[:2].to(device))
    return model


def build_regularizer(
    config: RegularizerConfig,
    task: TaskConfig,
    data: TaskData,
    model: Classifier,
    *,
    seed: int,
) -> SimilarityRegularizer:
    """The regularizer of a network, on the network's device.

    Held-out images of the task never regularize. ``seed``, the root seed of the trial, determines
    the order of shuffled targets.

    Raises:
        ConfigError: the images or the target cannot be had, the network lacks a layer, or no pair
            is in the range.
    """
    device = next(model.parameters()).device
    source = load_regularization_images(config, task, data).to(device)
    compared = _shuffled(source, seed) if config.shuffle_targets else source
    given = TargetInput.of(compared, config)
    target = make_target(given)
    return SimilarityRegularizer(
        model.network,
        source.images,
        layers=compared_layers(config, model, source.images[:2]),
        target=lambda _: target,
        num_pairs=config.batch_size,
        pairs=PairSampler(config, given.pixels),
        gamma="trainable" if config.gamma == "trainable" else "uniform",
        transform=config.transform,
        mean_decay=config.mean_decay,
        preprocess=model.prepare,
    )


def compared_layers(
    config: RegularizerConfig, model: Classifier, images: Tensor
) -> tuple[str, ...]:
    """Names of the layers that the regularizer compares, tried on two images, uint8 (2, C, H, W).

    Raises:
        ConfigError: the network has no such layers; lists those that it has.
    """
    is_one_layer = config.gamma not in ("trainable", "uniform")
    layers = (config.gamma,) if is_one_layer else config.layers or model.layer_names
    with concerning("regularizer.layers"), evaluation_mode(model):
        check_layers(model.network, model.prepare(images / 255), layers)
    return layers


def _shuffled(source: RegularizationImages, seed: int) -> RegularizationImages:
    """The images in random order: a control with the targets of other images."""
    rng = generator(seed, "shuffled targets")
    return source.take(torch.randperm(len(source.images), generator=rng).to(source.images.device))
