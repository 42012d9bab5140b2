"""S_target: the similarities that the network's features should follow.

A target is one function from :class:`TargetInput` to the target similarities of index pairs,
declared with :func:`simreg_core.registry.target`. This module declares the targets of pixels and
labels; :mod:`simreg_core.regularizer.features`, :mod:`simreg_core.regularizer.gabor` and
:mod:`simreg_core.neural.target` declare those of a feature matrix, of model units and of neurons.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from simreg_core.config.regularizer import RegularizerConfig
from simreg_core.data.task import RegularizationImages
from simreg_core.errors import ConfigError
from simreg_core.plugins import foreign_code
from simreg_core.registry import TARGETS, Target, target
from simreg_core.regularizer.similarity import PixelSimilarity, threshold_targets

Similarities = Callable[[Tensor, Tensor], Tensor]
"""Two index tensors (k,) to the similarities of the pairs, float32 (k,) in [-1, 1]."""


class TargetInput(NamedTuple):
    """What a target is computed from."""

    images: Tensor
    """Regularization images, uint8 (N, C, H, W)."""
    labels: Tensor | None
    """int64 (N,); None if the images have no labels."""
    pixels: PixelSimilarity
    """Similarities of the images' pixels."""
    config: RegularizerConfig
    rows: Tensor | None = None
    """Positions of the images among the training images of their dataset in the stored order,
    int64 (N,); None if unknown."""
    num_stored: int | None = None
    """Number of training images of their dataset; None if unknown."""

    @classmethod
    def of(cls, source: RegularizationImages, config: RegularizerConfig) -> TargetInput:
        """What the target of these images is computed from."""
        images, labels, rows, num_stored = source
        return cls(images, labels, PixelSimilarity(images), config, rows, num_stored)


def check_target(config: RegularizerConfig, source: RegularizationImages | None) -> None:
    """Check that the target can be had, before anything is trained.

    A target is computed if it depends on more than pixels and a model: a foreign one must work, a
    feature matrix must fit the images, and the images must have labels.

    Args:
        config: The regularizer's configuration.
        source: The regularization images; None if the regularizer is off.

    Raises:
        ConfigError: the target or its file is missing or damaged, or a foreign target fails; names
            the key.
    """
    try:
        chosen = TARGETS.get(config.target)
    except ConfigError as err:
        raise ConfigError(f"regularizer.target: {err}") from err
    if chosen.check is not None and chosen.needs is not None:
        chosen.check(getattr(config, chosen.needs), key=f"regularizer.{chosen.needs}")
    is_tried = chosen.is_foreign or chosen.argument or chosen.needs_labels
    if source is not None and is_tried:
        make_target(TargetInput.of(source, config))


def make_target(source: TargetInput) -> Similarities:
    """S_target of the regularization images, as configured.

    Raises:
        ConfigError: the target cannot be imported or is foreign and fails, its file is missing or
            damaged, or it needs labels and the images have none.
    """
    chosen = TARGETS.get(source.config.target)
    if chosen.needs_labels and source.labels is None:
        raise ConfigError(
            f"regularizer.target: {chosen.name} needs labels; the regularization dataset "
            f"{source.config.dataset!r} has none"
        )
    if chosen.is_foreign:
        return _foreign_target(chosen, source)
    similarities: Similarities = chosen(source)
    return similarities


def _foreign_target(chosen: Target, source: TargetInput) -> Similarities:
    """What a foreign target returns, tried on two pairs; without gradients."""
    where = f"regularizer.target: {chosen.name}"
    pair = torch.arange(2, device=source.images.device)
    with foreign_code(where), torch.no_grad():
        # The network sees these images, too.
        similarities: Similarities = chosen(source._replace(images=source.images.clone()))
        if not callable(similarities):
            raise ConfigError(
                f"{where}: expected a function of two index tensors, found "
                f"{type(similarities).__name__}"
            )
        found: object = similarities(pair, pair.flip(0))
    text = type(found).__name__
    if isinstance(found, Tensor):
        kind = (found.dtype, tuple(found.shape), found.device)
        text = "{} {} on {}".format(*kind)
        if kind == (torch.float32, (2,), pair.device):
            if bool((found.abs() <= 1).all()):
                return torch.no_grad()(similarities)
            text = str(found.tolist())
    expected = f"float32 similarities (2,) in [-1, 1] on {pair.device}"
    raise ConfigError(f"{where}: of two pairs, expected {expected}, found {text}")


@target("pixel")
def _pixel(source: TargetInput) -> Similarities:
    """1 where S_pixel > Th, -1 where S_pixel < -Th, 0 elsewhere (poster, section 3)."""
    return partial(thresholded, source.pixels, source.config.threshold)


@target("pixel_raw")
def _pixel_raw(source: TargetInput) -> Similarities:
    """S_pixel itself."""
    return source.pixels


@target("label", needs_labels=True)
def _label(source: TargetInput) -> Similarities:
    """1 within a class, 0 across classes: a control without pixel similarities."""
    assert source.labels is not None
    return partial(same_class, source.labels)


# Functions of the module, so that what partial makes of them can be pickled.


def thresholded(pixels: PixelSimilarity, threshold: float, first: Tensor, second: Tensor) -> Tensor:
    """Thresholded pixel similarities (k,) of the images at two index tensors (k,)."""
    return threshold_targets(pixels(first, second), threshold)


def same_class(labels: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """1 where the images at two index tensors (k,) have the same label, 0 elsewhere."""
    return (labels[first] == labels[second]).to(torch.float32)
