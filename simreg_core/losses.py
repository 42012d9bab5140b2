"""The similarity loss, and the regularizer that computes it for random pairs of images.

    L = L_task + alpha * L_sim
    L_sim = mean over k pairs of (z(S_cnn) - z(S_target)) ** 2
    z(s) = log(1 + s + e) - log(1 - s + e),  e = 1e-5

z is 2 arctanh(s), finite at s = +-1. It is twice the transform that the poster writes, as in the
published runs, so alpha = 10 here is alpha = 40 on the poster's literal formula. The mean over
pairs, not the sum, keeps alpha and k independent.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from simreg_core.config import RegularizerConfig
from simreg_core.data import sample_pairs
from simreg_core.model import ResNet
from simreg_core.similarity import FeatureSimilarity, PixelSimilarity, threshold_targets

ARCTANH_EPSILON = 1e-5


def stretched(similarity: Tensor, transform: Literal["arctanh", "identity"]) -> Tensor:
    """z(s) for similarities in [-1, 1]: 2 arctanh(s), kept finite, or s itself."""
    if transform == "identity":
        return similarity
    return torch.log(1 + similarity + ARCTANH_EPSILON) - torch.log(1 - similarity + ARCTANH_EPSILON)


def similarity_loss(
    s_cnn: Tensor, s_target: Tensor, transform: Literal["arctanh", "identity"] = "arctanh"
) -> Tensor:
    """L_sim, a scalar >= 0: the mean squared difference of transformed similarities (k,)."""
    return (stretched(s_cnn, transform) - stretched(s_target, transform)).square().mean()


class PairBatch(NamedTuple):
    """L_sim of one step (a scalar with gradient), and the similarities (k,) behind it."""

    loss: Tensor
    s_cnn: Tensor
    s_target: Tensor


class SimilarityRegularizer(nn.Module):
    """L_sim on pairs drawn on the fly from N regularization images.

    Holds the running means and gamma. A classifier is exported without it.

    Args:
        config: The regularizer's configuration.
        images: uint8 (N, C, H, W) regularization images.
        model: The network; its layers are probed once, in evaluation mode.
        shuffle: CPU generator for the ``shuffle_targets`` control.
    """

    def __init__(
        self, config: RegularizerConfig, images: Tensor, model: ResNet, shuffle: torch.Generator
    ) -> None:
        super().__init__()
        self.config = config
        self.images = images
        targets_of = images
        if config.shuffle_targets:
            targets_of = images[torch.randperm(len(images), generator=shuffle)]
        self.pixel_similarity = PixelSimilarity(targets_of)
        was_training = model.training
        with torch.no_grad():
            probe = model.eval().features(images[:1].to(torch.float32) / 255)
        model.train(was_training)
        channels = [feature.shape[1] for feature in probe.values()]
        self.feature_similarity = FeatureSimilarity(channels, mean_decay=config.mean_decay)

    def gamma(self) -> Tensor:
        """Layer weights (L,)."""
        return self.feature_similarity.gamma()

    def forward(self, model: ResNet, rng: torch.Generator) -> PairBatch:
        """L_sim of k fresh pairs; both images of all pairs go through the trunk in one batch.

        Args:
            model: The network, in train mode.
            rng: CPU generator that the pairs are drawn from; advanced.
        """
        device = self.images.device
        first, second = sample_pairs(len(self.images), self.config.batch_size, rng)
        first, second = first.to(device), second.to(device)
        pixels = self.images[torch.cat([first, second])].to(torch.float32) / 255
        s_cnn = self.feature_similarity(model.features(pixels))
        similarity = self.pixel_similarity(first, second)
        s_target = threshold_targets(similarity, self.config.threshold)
        return PairBatch(similarity_loss(s_cnn, s_target, self.config.transform), s_cnn, s_target)
