"""Similarities of images: of their pixels (S_pixel) and of a network's features (S_cnn).

Legend: N regularization images, k pairs (i, j), D pixels, L layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

_NORM_FLOOR = 1e-12
_CHUNK = 4096


class PixelSimilarity:
    """Mean-subtracted cosine similarity of the pixels of image pairs, S_pixel.

    Channels are averaged, the mean of the N images is subtracted, and pairs are compared by cosine
    (poster, section 3). Construction is one pass over the images and needs O(D) memory; k pairs
    cost O(k D). An image equal to the mean image has similarity 0 to every other.

    Args:
        images: uint8 or floating (N, C, H, W), on any device; not copied.
    """

    def __init__(self, images: Tensor) -> None:
        self.images = images
        total = torch.zeros(images.shape[2:], dtype=torch.float64, device=images.device)
        for chunk in images.split(_CHUNK):
            total += chunk.to(torch.float32).mean(dim=1).sum(dim=0, dtype=torch.float64)
        self.mean_image = (total / len(images)).to(torch.float32)

    def __call__(self, first: Tensor, second: Tensor) -> Tensor:
        """S_pixel, float32 (k,) in [-1, 1], of the images at two index tensors (k,)."""
        return _cosine(self._centred(first), self._centred(second))

    def unit_vectors(self) -> Tensor:
        """V, float32 (N, D): the S_pixel of all pairs are V V^T."""
        device, num_pixels = self.images.device, self.mean_image.numel()
        vectors = torch.empty((len(self.images), num_pixels), device=device)
        for index in torch.arange(len(self.images), device=device).split(_CHUNK):
            centred = self._centred(index).flatten(1)
            vectors[index] = centred / _norm(centred)[:, None]
        return vectors

    def _centred(self, index: Tensor) -> Tensor:
        return self.images[index].to(torch.float32).mean(dim=1) - self.mean_image


def threshold_targets(similarity: Tensor, threshold: float) -> Tensor:
    """S_target: 1 where S > Th, -1 where S < -Th, 0 elsewhere (poster, section 3)."""
    return (similarity > threshold).to(similarity) - (similarity < -threshold).to(similarity)


class FeatureSimilarity(nn.Module):
    """S_cnn: the gamma-weighted sum over layers of mean-subtracted cosine feature similarities.

    An exponential running mean per channel is updated in train mode, without gradient, and
    subtracted before the cosine. It starts at 0, which matters: until it has converged, all pairs
    look alike, and the loss drives them apart. gamma = softmax(w), with w = 0 at first
    (arXiv:2410.03952).

    Args:
        channels: Number of channels of every layer, in order.
        mean_decay: Weight of the old running mean, in [0, 1).
        is_trainable: Whether w is trained; otherwise all layers have the same weight.
        dimensions: Dimension of the channels in every layer's features; default: 1.
    """

    def __init__(
        self,
        channels: Sequence[int],
        *,
        mean_decay: float,
        is_trainable: bool = True,
        dimensions: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self._dimensions = dimensions or [1] * len(channels)
        self.mean_decay = mean_decay
        self.layer_logits = nn.Parameter(torch.zeros(len(channels)), requires_grad=is_trainable)
        for layer, width in enumerate(channels):
            self.register_buffer(f"mean{layer}", torch.zeros(width))

    def gamma(self) -> Tensor:
        """Layer weights (L,), >= 0, with sum 1."""
        return self.layer_logits.softmax(dim=0)

    def forward(self, features: Mapping[str, Tensor] | Sequence[Tensor]) -> Tensor:
        """S_cnn, float32 (k,) in [-1, 1].

        Args:
            features: Of each layer, floating (2k, C, H, W) or with other dimensions: the first
                images of the k pairs, then the second ones.
        """
        layers = features.values() if isinstance(features, Mapping) else features
        cosines = [self._layer(number, feature) for number, feature in enumerate(layers)]
        return (self.gamma()[:, None] * torch.stack(cosines)).sum(dim=0).clamp(-1, 1)

    def _layer(self, number: int, feature: Tensor) -> Tensor:
        mean: Tensor = self.get_buffer(f"mean{number}")
        feature = feature.to(mean.dtype)
        others = [dim for dim in range(feature.ndim) if dim != self._dimensions[number]]
        if self.training:
            with torch.no_grad():
                mean.lerp_(feature.mean(dim=others), 1 - self.mean_decay)
        shape = [1 if dim in others else -1 for dim in range(feature.ndim)]
        first, second = (feature - mean.view(shape)).chunk(2)
        return _cosine(first, second)


def _cosine(first: Tensor, second: Tensor) -> Tensor:
    """Cosine of the vectors of k pairs, (k,) in [-1, 1], with a finite gradient everywhere."""
    first, second = first.flatten(1), second.flatten(1)
    cosine = (first * second).sum(dim=1) / (_norm(first) * _norm(second))
    return cosine.clamp(-1, 1)


def _norm(vectors: Tensor) -> Tensor:
    # Summed as the product in _cosine is, so that equal vectors have a cosine of 1 to the last
    # digits; torch's norm rounds differently, by more than FISHER_EPSILON for large images.
    return vectors.square().sum(dim=1).clamp_min(_NORM_FLOOR**2).sqrt()
