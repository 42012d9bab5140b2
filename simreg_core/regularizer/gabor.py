"""A fixed population of model V1 complex cells: Gabor energy units.

A unit is a quadrature pair of Gabor filters g_0 (cosine) and g_90 (sine) that share position,
orientation and spatial frequency. Its response is the root of their energy (Adelson and Bergen
1985, J. Opt. Soc. Am. A 2:284):

    response = sqrt((g_0 . x)^2 + (g_90 . x)^2)

It hardly depends on the phase of a grating. Nothing is learned or random.

Legend: N images, M units. Lengths are in units of the image's side, frequencies in cycles per
image. Angles are those of the wave vector: 0 varies along x, pi/2 along y (downwards).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from simreg_core.registry import target
from simreg_core.regularizer.responses import ResponseSimilarity, grey_pixels
from simreg_core.regularizer.targets import Similarities, TargetInput

_CHUNK = 1024
_ENVELOPE_FLOOR = 1e-9
_SIGMA_CYCLES = 0.5622
"""Standard deviation of the envelope in periods, for a half-amplitude bandwidth of one octave:
sqrt(ln(2) / 2) / pi * (2^1 + 1) / (2^1 - 1)."""


class GaborUnits(NamedTuple):
    """Preferred stimulus of each unit; float64 (M,) each."""

    orientation: Tensor
    """Radians in [0, pi)."""
    frequency: Tensor
    """Cycles per image."""
    x: Tensor
    y: Tensor


class GaborPopulation:
    """Complex cells at every orientation, frequency and position of a grid.

    At frequency f there are f x f positions, one period apart, with one unit per orientation: the
    defaults give M = 8 * (4 + 16 + 64) = 672. Filters do not respond to uniform images, and have
    the same gain at all frequencies: a unit away from the border responds with about 1 to its
    preferred grating at full contrast (pixels 0 to 1). All frequencies then respond about equally
    to natural images, whose amplitudes fall as 1/f (Field 1987, J. Opt. Soc. Am. A 4:2379).

    Images are resized to ``side`` first, so the units do not depend on the size of the images.

    Args:
        orientations: Number of orientations, evenly spaced over half a turn.
        frequencies: Cycles per image, whole numbers below ``side / 2``.
        side: Height and width, in pixels, that images are resized to.
    """

    def __init__(
        self, *, orientations: int = 8, frequencies: Sequence[int] = (2, 4, 8), side: int = 32
    ) -> None:
        self.side = side
        rows = [
            (math.pi * turn / orientations, f, (column + 0.5) / f, (row + 0.5) / f)
            for f in frequencies
            for turn in range(orientations)
            for row in range(f)
            for column in range(f)
        ]
        self.units = GaborUnits(*torch.tensor(rows, dtype=torch.float64).T)
        self.even, self.odd = (f.to(torch.float32) for f in _filters(self.units, side))

    def __len__(self) -> int:
        return len(self.units.frequency)

    def responses(self, images: Tensor) -> Tensor:
        """Responses >= 0, float32 (N, M), of images uint8 (N, C, H, W), on the images' device.

        Channels are averaged first, and images are centre-cropped to squares.
        """
        even, odd = self.even.to(images.device), self.odd.to(images.device)
        result = torch.empty(len(images), len(self), device=images.device)
        for chunk, rows in zip(images.split(_CHUNK), result.split(_CHUNK), strict=True):
            pixels = grey_pixels(chunk, self.side).flatten(1)
            # Exactly 0 for a uniform image; the filters' sums are 0 up to rounding only.
            pixels -= pixels.mean(dim=1, keepdim=True)
            torch.hypot(pixels @ even.T, pixels @ odd.T, out=rows)
        return result


def _filters(units: GaborUnits, side: int) -> tuple[Tensor, Tensor]:
    """Even and odd filters, float64 (M, side * side)."""
    centres = (torch.arange(side, dtype=torch.float64) + 0.5) / side
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    dx = x.flatten() - units.x[:, None]
    dy = y.flatten() - units.y[:, None]
    frequency = units.frequency[:, None]
    envelope = torch.exp(-(dx**2 + dy**2) / (2 * (_SIGMA_CYCLES / frequency) ** 2))
    envelope[envelope < _ENVELOPE_FLOOR] = 0  # denormal float32 numbers make products very slow
    along = dx * units.orientation.cos()[:, None] + dy * units.orientation.sin()[:, None]
    phase = 2 * math.pi * frequency * along
    return _balanced(envelope * phase.cos(), envelope), _balanced(envelope * phase.sin(), envelope)


def _balanced(filters: Tensor, envelope: Tensor) -> Tensor:
    """Filters with sum 0 and gain 1: the product with (1 + cos) / 2 of the same phase is 1."""
    mass = envelope.sum(dim=1, keepdim=True)
    return (filters - envelope * filters.sum(dim=1, keepdim=True) / mass) * 4 / mass


@target("v1_gabor", label="V1 Gabor")
def _v1_gabor(source: TargetInput) -> Similarities:
    """Mean-subtracted cosine similarity of the population's responses."""
    return ResponseSimilarity(GaborPopulation().responses(source.images))
