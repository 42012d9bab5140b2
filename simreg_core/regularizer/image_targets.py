"""Targets of :class:`~simreg_core.regularizer.loss.SimilarityRegularizer` from Python.

A target is a function from regularization images (N, C, H, W) to S_target of pairs of them.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor

from simreg_core.regularizer.responses import ResponseSimilarity
from simreg_core.regularizer.similarity import PixelSimilarity
from simreg_core.regularizer.targets import Similarities, same_class, thresholded


class PixelTarget:
    """Thresholded pixel similarities: 1 above Th, -1 below -Th, 0 between (poster, section 3).

    Args:
        threshold: Th, in (0, 1); None for the similarities themselves.
    """

    def __init__(self, threshold: float | None = 0.8) -> None:
        if threshold is not None and not 0 < threshold < 1:
            raise ValueError(f"threshold must be above 0 and below 1, found {threshold}")
        self.threshold = threshold

    def __call__(self, images: Tensor) -> Similarities:
        """S_target of pairs of the images."""
        pixels = PixelSimilarity(images)
        return pixels if self.threshold is None else partial(thresholded, pixels, self.threshold)


class LabelTarget:
    """1 within a class, 0 across classes.

    Args:
        labels: Labels (N,) of the images.
    """

    def __init__(self, labels: Tensor) -> None:
        self.labels = labels

    def __call__(self, images: Tensor) -> Similarities:
        """S_target of pairs of the images."""
        if self.labels.shape != (len(images),):
            raise ValueError(
                f"labels must be ({len(images)},), as the images, found {tuple(self.labels.shape)}"
            )
        return partial(same_class, self.labels)


class FeatureTarget:
    """Mean-subtracted cosine similarity of features, for example of another network or of neurons.

    Args:
        features: Finite numbers (N, M), a row per image.
    """

    def __init__(self, features: Tensor) -> None:
        self.features = features

    def __call__(self, images: Tensor) -> Similarities:
        """S_target of pairs of the images."""
        if len(self.features) != len(images):
            raise ValueError(f"features have {len(self.features)} rows for {len(images)} images")
        return ResponseSimilarity(self.features)
