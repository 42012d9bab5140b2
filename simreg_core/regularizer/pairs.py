"""Which pairs of regularization images are compared, and drawing them at random.

The poster's ranges (section 6) by the pixel similarity S of a pair: ``all``; ``high`` |S| > Th;
``low`` |S| < Th; ``positive`` S > Th or |S| < Th; ``negative`` S < -Th or |S| < Th; ``double``
|S| > Th or |S| < Th2. N images have N (N - 1) / 2 pairs i < j, too many to list or to keep as a
matrix when N is 50,000: pairs of a common range are drawn by rejection, those of a rare one are
found once, tile by tile, and kept as two lists of indices. Both draw uniformly, with replacement.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from simreg_core.config.trial import RegularizerConfig
from simreg_core.errors import ConfigError
from simreg_core.regularizer.similarity import PixelSimilarity

_PILOT_PAIRS = 2**14
_RARE = 0.02  # below this share, looking at every pair once beats rejecting 50 of 51 at each step
_TILE = 2048
_CHUNK = 2**14  # pairs whose images are looked at at once
_MAX_LISTED = 2**24  # 128 MB of indices


def sample_pairs(num_images: int, num_pairs: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Indices i < j of pairs drawn uniformly, with replacement, among all pairs of N images.

    Args:
        num_images: N >= 2.
        num_pairs: k >= 1.
        rng: CPU generator; advanced.

    Returns:
        Two int64 tensors (k,). No list or matrix of pairs is ever built.
    """
    first = torch.randint(num_images, (num_pairs,), generator=rng)
    second = torch.randint(num_images - 1, (num_pairs,), generator=rng)
    second += second >= first  # skip the diagonal: uniform over ordered pairs i != j
    return torch.minimum(first, second), torch.maximum(first, second)


def in_range(similarity: Tensor, config: RegularizerConfig) -> Tensor:
    """Which pairs enter, bool, for pixel similarities of any shape."""
    size, threshold = similarity.abs(), config.threshold
    match config.pairs:
        case "all":
            return torch.ones_like(similarity, dtype=torch.bool)
        case "high":
            return size > threshold
        case "low":
            return size < threshold
        case "positive":
            return (similarity > threshold) | (size < threshold)
        case "negative":
            return (similarity < -threshold) | (size < threshold)
        case "double":
            assert config.threshold_low is not None
            return (size > threshold) | (size < config.threshold_low)


class PairSampler:
    """Draws pairs of the configured range, uniformly and with replacement.

    Args:
        config: The regularizer's configuration.
        similarity: Pixel similarity of the N images.

    Raises:
        ConfigError: no pair is in the range; gives the counts.
    """

    def __init__(self, config: RegularizerConfig, similarity: PixelSimilarity) -> None:
        self._config = config
        self._similarity = similarity
        self._num_images = len(similarity.images)
        self._share = 1.0
        self._listed: tuple[Tensor, Tensor] | None = None
        if config.pairs != "all":
            self._share = self._estimate_share()
            if self._share < _RARE:
                self._listed = self._list_pairs()

    def __call__(self, num_pairs: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Indices i < j, two int64 tensors (k,) on the CPU; ``rng`` (of the CPU) is advanced."""
        if self._config.pairs == "all":
            return sample_pairs(self._num_images, num_pairs, rng)
        if self._listed is None:
            return self._draw_by_rejection(num_pairs, rng)
        first, second = self._listed
        chosen = torch.randint(len(first), (num_pairs,), generator=rng)
        return first[chosen].to(torch.int64), second[chosen].to(torch.int64)

    def batches(self, num_batches: int, num_pairs: int, rng: torch.Generator) -> Tensor:
        """The pairs of many steps at once, int64 (S, 2, k) on the CPU."""
        if self._config.pairs == "all":  # as if drawn step by step: nothing waits for a device
            return torch.stack([torch.stack(self(num_pairs, rng)) for _ in range(num_batches)])
        drawn: Tensor = torch.stack(self(num_batches * num_pairs, rng))
        return drawn.view(2, num_batches, num_pairs).transpose(0, 1)

    def _allowed(self, first: Tensor, second: Tensor) -> Tensor:
        device = self._similarity.images.device
        parts = zip(first.to(device).split(_CHUNK), second.to(device).split(_CHUNK), strict=True)
        kept = [in_range(self._similarity(i, j), self._config) for i, j in parts]
        return torch.cat(kept).cpu()

    def _estimate_share(self) -> float:
        # A stream of its own; it decides how pairs are found, never which are drawn how often.
        pilot = sample_pairs(self._num_images, _PILOT_PAIRS, torch.Generator().manual_seed(0))
        return float(self._allowed(*pilot).double().mean())

    def _draw_by_rejection(self, num_pairs: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        first, second = torch.empty((2, 0), dtype=torch.int64)
        while len(first) < num_pairs:
            missing = num_pairs - len(first)
            candidates = math.ceil(1.2 * missing / max(self._share, _RARE)) + 4
            i, j = sample_pairs(self._num_images, candidates, rng)
            kept = self._allowed(i, j)
            first, second = torch.cat([first, i[kept]]), torch.cat([second, j[kept]])
        return first[:num_pairs], second[:num_pairs]

    def _list_pairs(self) -> tuple[Tensor, Tensor] | None:
        """All pairs of the range (int32), or None where they are too many to keep."""
        units = self._similarity.unit_vectors()
        starts = range(0, self._num_images, _TILE)
        found: list[Tensor] = []
        num_found = 0
        for top in starts:
            for left in range(top, self._num_images, _TILE):
                tile = units[top : top + _TILE] @ units[left : left + _TILE].T
                allowed = in_range(tile, self._config)
                pairs = allowed.triu(diagonal=1) if left == top else allowed
                index = pairs.nonzero().to(torch.int32) + torch.tensor(
                    [top, left], dtype=torch.int32, device=pairs.device
                )
                found.append(index.cpu())
                num_found += len(index)
                if num_found > _MAX_LISTED:
                    return None
        if not num_found:
            raise self._empty()
        first, second = torch.cat(found).T
        return first.contiguous(), second.contiguous()

    def _empty(self) -> ConfigError:
        total = self._num_images * (self._num_images - 1) // 2
        low = self._config.threshold_low
        limits = f"Th {self._config.threshold:g}" + (f", Th2 {low:g}" if low is not None else "")
        return ConfigError(
            f"regularizer.pairs: no pair is in the range {self._config.pairs} ({limits}): "
            f"0 of {total} pairs of {self._num_images} images"
        )
