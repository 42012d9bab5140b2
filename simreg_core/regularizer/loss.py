"""The similarity loss, and the regularizer that computes it for random pairs of images.

    L = L_task + alpha * L_sim
    L_sim = mean over k pairs of (z(S_cnn) - z(S_target)) ** 2
    z(s) = log(1 + s + e) - log(1 - s + e),  e = 1e-5

z is 2 arctanh(s), finite at s = +-1. It is twice the transform that the poster writes, as in the
published runs, so alpha = 10 here is alpha = 40 on the poster's literal formula. The mean over
pairs, not the sum, keeps alpha and k independent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from simreg_core.config.trial import RegularizerConfig
from simreg_core.networks.network import FeatureNetwork, evaluation_mode
from simreg_core.regularizer.pairs import PairSampler
from simreg_core.regularizer.similarity import FeatureSimilarity
from simreg_core.regularizer.targets import Similarities

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
        target: S_target of pairs of these images.
        pairs: Draws the pairs.
        model: The network; its layers are probed once, in evaluation mode.
    """

    def __init__(
        self,
        config: RegularizerConfig,
        images: Tensor,
        target: Similarities,
        pairs: PairSampler,
        model: FeatureNetwork,
    ) -> None:
        super().__init__()
        self.config = config
        self.images = images
        self.target = target
        self.pairs = pairs
        is_one_layer = config.gamma not in ("trainable", "uniform")
        self.layers = (config.gamma,) if is_one_layer else config.layers or model.layer_names
        with evaluation_mode(model), torch.no_grad():
            probe = model.features(images[:1].to(torch.float32) / 255, self.layers)
        self.feature_similarity = FeatureSimilarity(
            [feature.shape[1] for feature in probe.values()],
            mean_decay=config.mean_decay,
            is_trainable=config.gamma == "trainable",
        )

    def gamma(self) -> Tensor:
        """Layer weights (L,), in order of ``layers``."""
        return self.feature_similarity.gamma()

    def draw(self, num_steps: int, rng: torch.Generator) -> Tensor:
        """The k pairs of each of S steps: int64 (S, 2, k) on the CPU, from ``rng`` of the CPU."""
        return self.pairs.batches(num_steps, self.config.batch_size, rng)

    def features(self, model: FeatureNetwork, pairs: Tensor) -> dict[str, Tensor]:
        """The compared layers' features of both images of all pairs, in one pass of 2k images.

        Args:
            model: The network, in train mode.
            pairs: One step's of :meth:`draw`, (2, k), on the images' device.
        """
        pixels = self.images[pairs.flatten()].to(torch.float32) / 255
        return model.features(pixels, self.layers)

    def compare(self, features: Mapping[str, Tensor], pairs: Tensor) -> PairBatch:
        """L_sim of k pairs from their features, in float32 whatever the features are."""
        s_cnn = self.feature_similarity(features)
        s_target = self.target(*pairs)
        return PairBatch(similarity_loss(s_cnn, s_target, self.config.transform), s_cnn, s_target)

    def forward(self, model: FeatureNetwork, pairs: Tensor) -> PairBatch:
        """L_sim of k pairs, as :meth:`features` and :meth:`compare` give it."""
        return self.compare(self.features(model, pairs), pairs)
