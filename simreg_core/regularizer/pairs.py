"""Selection and random sampling of pairs of regularization images.

``regularizer.pairs`` selects pairs by their pixel similarity S (poster, section 6): ``all``;
``high`` |S| > Th; ``low`` |S| < Th; ``positive`` S > Th or |S| < Th; ``negative`` S < -Th or
|S| < Th; ``double`` |S| > Th or |S| < Th2. N images have N (N - 1) / 2 pairs i < j, too many to
list when N is 50,000. Common pairs are therefore drawn by rejection. Rare ones are found once, tile
by tile, and listed. Both draw uniformly, with replacement.
"""

from __future__ import annotations

import math
from itertools import combinations_with_replacement

import torch
from torch import Tensor

from simreg_core.config.regularizer import RegularizerConfig
from simreg_core.errors import ConfigError, counted
from simreg_core.regularizer.similarity import PixelSimilarity

_PILOT_PAIRS = 2**14
_RARE = 0.02  # below this share, one search of all pairs is cheaper than rejection at every step
_TILE = 2048
_CHUNK = 2**14  # pairs compared at once
_MAX_LISTED = 2**24  # 128 MB of indices


def sample_pairs(num_images: int, num_pairs: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Indices i < j of pairs drawn uniformly, with replacement, among all pairs of N images.

    Args:
        num_images: N >= 2.
        num_pairs: k >= 1.
        rng: CPU generator; advanced.

    Returns:
        Two int64 tensors (k,).
    """
    first = torch.randint(num_images, (num_pairs,), generator=rng)
    second = torch.randint(num_images - 1, (num_pairs,), generator=rng)
    second += second >= first  # skip the diagonal: uniform over ordered pairs i != j
    return torch.minimum(first, second), torch.maximum(first, second)


def in_range(similarity: Tensor, config: RegularizerConfig) -> Tensor:
    """Whether ``config.pairs`` selects pairs with these pixel similarities; bool, same shape."""
    threshold = config.threshold
    is_low = similarity.abs() < (config.threshold_low or threshold)
    match config.pairs:
        case "all":
            return torch.ones_like(is_low)
        case "high":
            return similarity.abs() > threshold
        case "low":
            return is_low
        case "positive":
            return (similarity > threshold) | is_low
        case "negative":
            return (similarity < -threshold) | is_low
        case "double":
            return (similarity.abs() > threshold) | is_low


class PairSampler:
    """Draws selected pairs, uniformly and with replacement.

    Args:
        config: The regularizer's configuration.
        similarity: Pixel similarity of the N images.

    Raises:
        ConfigError: no pair is selected.
    """

    def __init__(self, config: RegularizerConfig, similarity: PixelSimilarity) -> None:
        self._config = config
        self._similarity = similarity
        self._num_images = len(similarity.images)
        self._listed: tuple[Tensor, Tensor] | None = None
        if config.pairs != "all":
            # This share decides how pairs are found; their distribution does not depend on it.
            pilot = sample_pairs(self._num_images, _PILOT_PAIRS, torch.Generator().manual_seed(0))
            self._share = float(self._selected(*pilot).double().mean())
            if self._share < _RARE:
                self._listed = self._list_pairs()

    def __call__(self, num_pairs: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Indices i < j, two int64 tensors (k,) on the CPU; advances the CPU generator ``rng``."""
        if self._config.pairs == "all":
            return sample_pairs(self._num_images, num_pairs, rng)
        if self._listed is None:
            return self._draw_by_rejection(num_pairs, rng)
        first, second = self._listed
        chosen = torch.randint(len(first), (num_pairs,), generator=rng)
        return first[chosen].to(torch.int64), second[chosen].to(torch.int64)

    def batches(self, num_batches: int, num_pairs: int, rng: torch.Generator) -> Tensor:
        """The pairs of S steps, int64 (S, 2, k) on the CPU."""
        if self._config.pairs == "all":  # these draws equal S calls
            return torch.stack([torch.stack(self(num_pairs, rng)) for _ in range(num_batches)])
        drawn: Tensor = torch.stack(self(num_batches * num_pairs, rng))
        return drawn.view(2, num_batches, num_pairs).transpose(0, 1)

    def _selected(self, first: Tensor, second: Tensor) -> Tensor:
        device = self._similarity.images.device
        parts = zip(first.to(device).split(_CHUNK), second.to(device).split(_CHUNK), strict=True)
        return torch.cat([in_range(self._similarity(*part), self._config) for part in parts]).cpu()

    def _draw_by_rejection(self, num_pairs: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        pairs = torch.empty((2, 0), dtype=torch.int64)
        while (missing := num_pairs - pairs.shape[1]) > 0:
            num_candidates = math.ceil(1.2 * missing / max(self._share, _RARE)) + 4
            candidates = torch.stack(sample_pairs(self._num_images, num_candidates, rng))
            pairs = torch.cat([pairs, candidates[:, self._selected(*candidates)]], dim=1)
        first, second = pairs[:, :num_pairs]
        return first, second

    def _list_pairs(self) -> tuple[Tensor, Tensor] | None:
        """All selected pairs (int32), or None if they are too many to list."""
        units = self._similarity.unit_vectors()
        found: list[Tensor] = []
        num_found = 0
        for top, left in combinations_with_replacement(range(0, self._num_images, _TILE), 2):
            selected = in_range(
                units[top : top + _TILE] @ units[left : left + _TILE].T, self._config
            )
            index = (selected.triu(diagonal=1) if left == top else selected).nonzero()
            found.append((index + torch.tensor([top, left], device=index.device)).int().cpu())
            num_found += len(index)
            if num_found > _MAX_LISTED:
                return None
        if not num_found:
            total = self._num_images * (self._num_images - 1) // 2
            raise ConfigError(
                f"regularizer.pairs: {self._config.pairs} selects 0 of "
                f"{counted(total, 'pair')} of {self._num_images} images with "
                f"threshold {self._config.threshold:g}"
            )
        first, second = torch.cat(found).T
        return first.contiguous(), second.contiguous()
