"""Similarities of images: of their pixels (S_target) and of a network's features (S_cnn).

Legend: N regularization images, k pairs (i, j), D pixels, L layers. Equation numbers are the
sections of the source poster and of arXiv:2410.03952.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

_NORM_FLOOR = 1e-12
_CHUNK = 4096


class PixelSimilarity:
    """Mean-subtracted cosine similarity of the pixels of image pairs, S_pixel.

    The mean image of all N images is subtracted, each image is flattened, and pairs are compared
    by cosine; the channels of colour images are averaged first (poster, section 3). Set-up is one
    pass over the images and needs O(D) memory beyond them; a batch of k pairs costs O(k D). An
    image equal to the mean image has similarity 0 to every other.

    Args:
        images: uint8 (N, C, H, W), kept as they are, on any device.
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
        """Float32 (N, D): S_pixel of all pairs is the product of these with their transpose."""
        vectors = torch.empty(
            (len(self.images), self.mean_image.numel()), device=self.images.device
        )
        for index in torch.arange(len(self.images), device=self.images.device).split(_CHUNK):
            centred = self._centred(index).flatten(1)
            vectors[index] = centred / centred.norm(dim=1, keepdim=True).clamp_min(_NORM_FLOOR)
        return vectors

    def _centred(self, index: Tensor) -> Tensor:
        return self.images[index].to(torch.float32).mean(dim=1) - self.mean_image


def threshold_targets(similarity: Tensor, threshold: float) -> Tensor:
    """S_target: 1 where S > Th, -1 where S < -Th, 0 elsewhere (poster, section 3)."""
    return (similarity > threshold).to(similarity) - (similarity < -threshold).to(similarity)


class FeatureSimilarity(nn.Module):
    """S_cnn: the gamma-weighted sum over layers of mean-subtracted cosine feature similarities.

    Each layer keeps a running mean per channel (exponential, weight ``mean_decay`` on the old
    value, 0 at first), updated without gradient from the features that it is shown in train mode,
    and subtracted before the cosine. That it starts at 0 matters: until it has settled, all pairs
    look alike, and the loss drives them apart. gamma = softmax(w), w trainable and 0 at first
    (arXiv:2410.03952), or fixed at 0: the layers count the same.

    Args:
        channels: Number of channels of every layer, in order.
        mean_decay: Weight of the old running mean, in [0, 1).
        is_trainable: Whether w is trained.
    """

    def __init__(
        self, channels: Sequence[int], *, mean_decay: float, is_trainable: bool = True
    ) -> None:
        super().__init__()
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
            features: Per layer (2k, C_l, H_l, W_l) of any floating type: the k first images of the
                pairs, then the k second ones.
        """
        layers = list(features.values()) if isinstance(features, Mapping) else list(features)
        cosines = [self._layer(number, feature) for number, feature in enumerate(layers)]
        return (self.gamma()[:, None] * torch.stack(cosines)).sum(dim=0)

    def _layer(self, number: int, feature: Tensor) -> Tensor:
        mean: Tensor = self.get_buffer(f"mean{number}")
        feature = feature.to(mean.dtype)
        if self.training:
            with torch.no_grad():
                batch = feature.mean(dim=(0, 2, 3))
                mean.lerp_(batch, 1 - self.mean_decay)
        centred = feature - mean[:, None, None]
        first, second = centred.chunk(2)
        return _cosine(first, second)


def _cosine(first: Tensor, second: Tensor) -> Tensor:
    first, second = first.flatten(1), second.flatten(1)
    norms = first.norm(dim=1) * second.norm(dim=1)
    cosine: Tensor = (first * second).sum(dim=1) / norms.clamp_min(_NORM_FLOOR)
    return cosine
