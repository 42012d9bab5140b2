"""Similarities of images by the responses of a population of neurons or model units.

Legend: N images, M neurons (or units), k pairs (i, j).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from simreg_core.data.images import resize

_CHUNK = 4096
_NORM_FLOOR = 1e-12
_CONSTANT = 1e-6  # deviations of a column below this share of its norm are rounding


class ResponseSimilarity:
    """Mean-subtracted cosine similarity of the response vectors of image pairs.

    The mean response over the N images is subtracted, and pairs are compared by cosine (Li et
    al., arXiv:1911.05072). Needs O(M) memory beyond the responses; k pairs cost O(k M). An image
    whose responses equal the mean has similarity 0 to every other. A positive factor common to all
    responses changes nothing.

    Args:
        responses: Finite numbers (N, M), N >= 1, on any device; kept as float32.
    """

    def __init__(self, responses: Tensor) -> None:
        self.responses = responses.to(torch.float32)
        chunks = self.responses.split(_CHUNK)
        total = torch.stack([chunk.sum(dim=0, dtype=torch.float64) for chunk in chunks]).sum(dim=0)
        self.mean_response = (total / len(responses)).to(torch.float32)
        # In units of the largest deviation, no norm can underflow or overflow.
        self._unit = max(float((chunk - self.mean_response).abs().max()) for chunk in chunks) or 1.0

    def __call__(self, first: Tensor, second: Tensor) -> Tensor:
        """Similarities, float32 (k,) in [-1, 1], of the images at two index tensors (k,)."""
        a, b = ((self.responses[i] - self.mean_response) / self._unit for i in (first, second))
        return functional.cosine_similarity(a, b, dim=1, eps=_NORM_FLOOR).clamp(-1, 1)


def grey_pixels(images: Tensor, side: int) -> Tensor:
    """Mean of the channels, float32 (N, 1, side, side) in [0, 1], of uint8 (N, C, H, W).

    Images of another size are centre-cropped and resized (:func:`simreg_core.data.images.resize`).
    """
    return resize(images, side).to(torch.float32).mean(dim=1, keepdim=True) / 255


def pearson(a: Tensor, b: Tensor) -> Tensor:
    """Correlations of the columns of a with those of b (n, M), float64 (M,); 0 for constants."""
    a, b = a.to(torch.float64), b.to(torch.float64)
    a_dev, b_dev = a - a.mean(dim=0), b - b.mean(dim=0)
    a_norm, b_norm = a_dev.norm(dim=0), b_dev.norm(dim=0)
    varies = (a_norm > _CONSTANT * a.norm(dim=0)) & (b_norm > _CONSTANT * b.norm(dim=0))
    return torch.where(varies, (a_dev * b_dev).sum(dim=0) / (a_norm * b_norm), 0)
