"""Spatial frequencies that fool a network (poster, section 4.ii).

Two measurements: the radial power spectrum of minimal adversarial perturbations, and the accuracy
under Gaussian noise confined to one radial band of frequencies. Frequencies are in cycles per
pixel: 0 is a uniform shift, 0.5 along an axis a change of sign from pixel to pixel. Bands are rings
around 0 that contain their lower edge and not their upper one. Those below 0.5 have equal widths;
the last holds the corners of the spectrum, up to sqrt(0.5) = 0.707.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from simreg_core.config.robustness import RobustnessConfig
from simreg_core.data.images import Split
from simreg_core.networks.network import evaluation_mode
from simreg_core.robustness.attack import batches
from simreg_core.seeding import generator

MAX_BANDS = 8  # below 0.5: rings of 1/16, two steps of the spectrum of an image of 32 pixels
CORNER_EDGE = 0.71  # just above sqrt(0.5), so that the corner belongs to the last band
DEFAULT_EPSILON = 0.1  # reference epsilon of Gaussian noise on CIFAR-10 (arXiv:2410.03952)
_TOLERANCE = 1e-9  # of frequencies: 3/10 and 3 * 0.1 differ in floating point


class SpectrumPoint(NamedTuple):
    """One band of one network's spectrum; fields as in the table ``spectra``."""

    split: str
    kind: Literal["perturbation_power", "band_noise_accuracy"]
    frequency_low: float
    frequency_high: float
    epsilon: float | None
    """Standard deviation of the noise per pixel; None for power."""
    value: float
    num_images: int


def band_edges(height: int, width: int) -> list[float]:
    """Ascending edges of the bands of images of this size, cycles per pixel.

    There are at most :data:`MAX_BANDS` bands below 0.5, fewer for images too small to have a
    frequency in each. The first edge is 0, the last two are 0.5 and :data:`CORNER_EDGE`.

    Raises:
        ValueError: a side is below 2 pixels, or a band has no frequency (3x3 pixels).
    """
    side = min(height, width)
    if side < 2:
        raise ValueError(f"a spectrum needs images of at least 2x2 pixels, found {height}x{width}")
    bands = min(MAX_BANDS, side // 2)
    edges = [*(0.5 * band / bands for band in range(bands + 1)), CORNER_EDGE]
    for low, high in pairwise(edges):
        _band_mask(height, width, low, high)
    return edges


def radial_power(perturbations: Tensor) -> Tensor:
    """The share of the power of perturbations in each band, float64 (B,), with sum 1.

    The squared magnitude of the 2-D discrete Fourier transform is summed over channels and over
    the frequencies of a band, and divided by the image's total. These shares are averaged over
    images, so every image has the same weight, however large its perturbation.

    Args:
        perturbations: Finite (N, C, H, W), N >= 1, none of them zero everywhere.

    Raises:
        ValueError: the images are too small, see :func:`band_edges`.
    """
    height, width = perturbations.shape[-2:]
    power = torch.fft.fft2(perturbations.to(torch.float64)).abs().square().sum(dim=1)
    total = power.sum(dim=(1, 2))
    bands = pairwise(band_edges(height, width))
    masks = [_band_mask(height, width, *band, power.device) for band in bands]
    return torch.stack([(power[:, mask].sum(dim=1) / total).mean() for mask in masks])


def band_noise(
    images: Tensor, low: float, high: float, epsilon: float, rng: torch.Generator
) -> Tensor:
    """Images with Gaussian noise of one radial band of frequencies added, clipped to [0, 1].

    White noise is filtered to the band and scaled: before clipping, the noise of every pixel is
    Gaussian with standard deviation ``epsilon``. It is independent per image and channel.

    Args:
        images: Float (N, C, H, W) in [0, 1].
        low: Lower edge of the band, cycles per pixel.
        high: Upper edge.
        epsilon: Standard deviation per pixel, in pixel units of [0, 1].
        rng: Generator on the images' device.

    Raises:
        ValueError: images of this size have no frequency in the band.
    """
    noise = torch.empty_like(images).normal_(generator=rng)
    height, width = images.shape[-2:]
    mask = _band_mask(height, width, low, high, images.device)
    # The filter keeps this share of the variance. The mask is symmetric, so the result is real.
    gain: float = (mask.numel() / int(mask.sum())) ** 0.5
    filtered: Tensor = torch.fft.ifft2(torch.fft.fft2(noise.to(torch.float64)) * mask).real
    return (images + epsilon * (gain * filtered).to(noise.dtype)).clamp(0, 1)


def measure_frequencies(
    model: nn.Module, split: Split, name: str, config: RobustnessConfig, perturbations: Tensor
) -> list[SpectrumPoint]:
    """Both measurements of one network on one split.

    The noise depends only on the configuration and the split's ``name``, so it is the same for all
    networks. Its epsilon is the reference epsilon of ``gaussian``, else the largest epsilon of
    ``gaussian``, else :data:`DEFAULT_EPSILON`. ``perturbations`` are adversarial minus original
    images, (M, C, H, W). Those that are zero everywhere (misclassified images) are left out.

    Returns:
        ``perturbation_power`` by ascending frequency (none if no perturbation is left), then
        ``band_noise_accuracy``.
    """
    num_images, device = len(split.labels), split.images.device
    moved = perturbations[perturbations.flatten(1).any(dim=1)]
    bands = list(pairwise(band_edges(*split.images.shape[-2:])))
    points = []
    if len(moved):
        points = [
            SpectrumPoint(name, "perturbation_power", *band, None, share, len(moved))
            for band, share in zip(bands, radial_power(moved).tolist(), strict=True)
        ]
    gaussian = config.attacks.get("gaussian")
    largest = DEFAULT_EPSILON if gaussian is None else gaussian.max_epsilon
    epsilon = config.reference.get("gaussian", largest)
    for band in bands:
        stream = f"band {band[0]:.6f} on {name}"
        correct = torch.zeros((), dtype=torch.int64, device=device)
        with evaluation_mode(model), torch.no_grad():
            for number, (images, labels) in enumerate(batches(split, config.batch_size)):
                rng = generator(config.noise_seed, stream, number, device=device)
                noisy = band_noise(images, *band, epsilon, rng)
                correct += (model(noisy).argmax(dim=1) == labels).sum()
        accuracy = int(correct) / num_images
        points.append(
            SpectrumPoint(name, "band_noise_accuracy", *band, epsilon, accuracy, num_images)
        )
    return points


def _band_mask(
    height: int, width: int, low: float, high: float, device: torch.device | str = "cpu"
) -> Tensor:
    """Which frequencies a band contains, bool (H, W), in the order of ``torch.fft.fft2``.

    Raises:
        ValueError: it contains none.
    """
    vertical = torch.fft.fftfreq(height, dtype=torch.float64, device=device)
    horizontal = torch.fft.fftfreq(width, dtype=torch.float64, device=device)
    radius = torch.hypot(vertical[:, None], horizontal)
    mask = (radius >= low - _TOLERANCE) & (radius < high - _TOLERANCE)
    if not bool(mask.any()):
        raise ValueError(
            f"images of {height}x{width} have no frequency in [{low:g}, {high:g}) cycles per pixel"
        )
    return mask
