"""S_target: what the similarities of a network's features shall follow (METHOD: pixel, label, ...).

pixel      1 where S_pixel > Th, -1 where S_pixel < -Th, 0 elsewhere (poster, section 3)
pixel_raw  S_pixel itself
label      1 for the same class, 0 otherwise: the control for what is not due to pixels
neural     mean-subtracted cosine similarity of predicted neural responses
(Li et al., arXiv:1911.05072)
v1_gabor   the same of a fixed population of Gabor energy units, which needs no recordings
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from simreg_core.config.trial import RegularizerConfig
from simreg_core.regularizer.pairs import PairSampler
from simreg_core.regularizer.similarity import PixelSimilarity, threshold_targets

if TYPE_CHECKING:
    from simreg_core.data.task import RegularizationImages

Target = Callable[[Tensor, Tensor], Tensor]
"""S_target, float32 (k,), of the pairs at two index tensors (k,)."""

_MODEL_KEY = "regularizer.neural_model"


def check_target(config: RegularizerConfig) -> None:
    """Refuse a neural model that cannot be read, before anything is trained.

    Raises:
        ConfigError: its file is missing, damaged, or no predictive model.
    """
    if config.neural_model is not None:
        from simreg_core.neural.model import load_model

        load_model(Path(config.neural_model), key=_MODEL_KEY)


def make_target(
    config: RegularizerConfig, source: RegularizationImages
) -> tuple[Target, PairSampler]:
    """The target and the sampler of pairs for the regularization images.

    Args:
        config: The regularizer's configuration.
        source: Images (N, C, H, W) and labels (N,) where there are any, on any device.

    Raises:
        ConfigError: no pair in the range, or no usable neural model.
        ValueError: the ``label`` target without labels.
    """
    pixels = PixelSimilarity(source.images)
    return _target(config, source, pixels), PairSampler(config, pixels)


def _target(
    config: RegularizerConfig, source: RegularizationImages, pixels: PixelSimilarity
) -> Target:
    match config.target:
        case "pixel":
            return lambda first, second: threshold_targets(pixels(first, second), config.threshold)
        case "pixel_raw":
            return pixels
        case "label":
            return _label_target(source.labels)
        case "neural" | "v1_gabor":
            from simreg_core.regularizer.responses import ResponseSimilarity

            return ResponseSimilarity(_responses(config, source.images).to(source.images.device))


def _label_target(labels: Tensor | None) -> Target:
    if labels is None:
        raise ValueError("the label target needs labels")
    return lambda first, second: (labels[first] == labels[second]).to(torch.float32)


def _responses(config: RegularizerConfig, images: Tensor) -> Tensor:
    """Responses (N, M) of the configured population to the images."""
    if config.neural_model is None:  # v1_gabor
        from simreg_core.regularizer.gabor import GaborPopulation

        return GaborPopulation().responses(images)
    from simreg_core.neural.model import denoised_responses

    return denoised_responses(Path(config.neural_model), images, _MODEL_KEY)
