"""The similarity loss, and the regularizer that computes it for random pairs of images.

    L = L_task + alpha * L_sim
    L_sim = mean over k pairs of (z(S_cnn) - z(S_target)) ** 2
    z(s) = log(1 + s + e) - log(1 - s + e),  e = 1e-5

z is 2 arctanh(s), twice the transform in the poster's formula, as in the published runs:
alpha = 10 here corresponds to alpha = 40 there. The mean over pairs, not the sum, keeps alpha and
k independent.
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

FISHER_EPSILON = 1e-5


def fisher_z(similarity: Tensor) -> Tensor:
    """z(s) = 2 arctanh(s) of similarities in [-1, 1], finite at -1 and 1."""
    return torch.log(1 + similarity + FISHER_EPSILON) - torch.log(1 - similarity + FISHER_EPSILON)


def similarity_loss(
    s_cnn: Tensor, s_target: Tensor, transform: Literal["arctanh", "identity"] = "arctanh"
) -> Tensor:
    """L_sim, a scalar >= 0, of similarities (k,); without the transform for ``identity``."""
    if transform == "arctanh":
        s_cnn, s_target = fisher_z(s_cnn), fisher_z(s_target)
    return (s_cnn - s_target).square().mean()


class PairBatch(NamedTuple):
    """L_sim of one step (a scalar with gradient), and the similarities (k,) that it compares."""

    loss: Tensor
    s_cnn: Tensor
    s_target: Tensor


class SimilarityRegularizer(nn.Module):
    """L_sim on pairs drawn on the fly from N regularization images.

    Holds the running means and gamma; exported classifiers do not contain it.

    Args:
        config: The regularizer's configuration.
        images: Regularization images, uint8 (N, C, H, W).
        target: S_target of pairs of these images.
        pairs: Draws the pairs.
        model: The network; one pass in evaluation mode finds the number of channels of its layers.
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
        """Layer weights (L,), in the order of ``layers``."""
        return self.feature_similarity.gamma()

    def draw(self, num_steps: int, rng: torch.Generator) -> Tensor:
        """Pairs of S steps, int64 (S, 2, k) on the CPU, drawn from the CPU generator ``rng``."""
        return self.pairs.batches(num_steps, self.config.batch_size, rng)

    def features(self, model: FeatureNetwork, pairs: Tensor) -> dict[str, Tensor]:
        """Features of the compared layers for both images of all pairs, in one pass of 2k images.

        Args:
            model: The network, in train mode.
            pairs: The pairs of one step from :meth:`draw`, (2, k), on the images' device.
        """
        pixels = self.images[pairs.flatten()].to(torch.float32) / 255
        return model.features(pixels, self.layers)

    def compare(self, features: Mapping[str, Tensor], pairs: Tensor) -> PairBatch:
        """L_sim of k pairs from their features, computed in float32."""
        s_cnn = self.feature_similarity(features)
        s_target = self.target(*pairs)
        return PairBatch(similarity_loss(s_cnn, s_target, self.config.transform), s_cnn, s_target)

    def forward(self, model: FeatureNetwork, pairs: Tensor) -> PairBatch:
        """L_sim of k pairs: :meth:`features`, then :meth:`compare`."""
        return self.compare(self.features(model, pairs), pairs)
