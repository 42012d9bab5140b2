"""Which spatial frequencies fool a network (poster, section 4.ii).

Two views: the radial power spectrum of minimal adversarial perturbations, and the accuracy under
Gaussian noise that is confined to one radial band of frequencies at a time. Frequencies are in
cycles per pixel: 0 is a uniform shift, 0.5 along an axis a change of sign from pixel to pixel.
Bands are rings around 0 that contain their lower edge and not their upper one. Those below 0.5
have equal widths; the last collects the corners of the spectrum, up to sqrt(0.5) = 0.707.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from simreg_core.config.robustness import RobustnessConfig
from simreg_core.data.images import Split
from simreg_core.networks.network import evaluation_mode
from simreg_core.seeding import generator

MAX_BANDS = 8  # below 0.5: rings of 1/16, two steps of the spectrum of an image of 32 pixels
CORNER_EDGE = 0.71  # just above sqrt(0.5), so that the corner belongs to the last band
DEFAULT_EPSILON = 0.1  # reference of Gaussian noise on CIFAR-10 (arXiv:2410.03952)
_TOLERANCE = 1e-9  # of frequencies: 3/10 and 3 * 0.1 differ in floating point


class SpectrumPoint(NamedTuple):
    """One band of one network's spectrum; fields as in ``records.SPECTRUM_COLUMNS``."""

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

    At most :data:`MAX_BANDS` bands below 0.5, fewer where an image is too small to have a
    frequency in each; 0 is the first edge, the two last are 0.5 and :data:`CORNER_EDGE`.

    Raises:
        ValueError: a side is below 2 pixels, or a band has no frequency (3x3 pixels).
    """
    side = min(height, width)
    if side < 2:
        raise ValueError(f"a spectrum needs images of at least 2x2 pixels, found {height}x{width}")
    bands = min(MAX_BANDS, side // 2)
    edges = [*(0.5 * band / bands for band in range(bands + 1)), CORNER_EDGE]
    radius = _radius(height, width, torch.device("cpu"))
    for low, high in pairwise(edges):
        if not bool(_in_band(radius, low, high).any()):
            raise ValueError(_empty_band(height, width, low, high))
    return edges


def radial_power(perturbations: Tensor) -> tuple[Tensor, Tensor]:
    """Radial power spectrum of perturbations: which share of their power lies in which band.

    The squared magnitude of the 2-D discrete Fourier transform is summed over channels and over
    the frequencies of a band, and divided by the image's total. These shares are averaged over
    the images, so every image counts the same, however large its perturbation.

    Args:
        perturbations: Real (N, C, H, W), N >= 1, none of them zero everywhere.

    Returns:
        ``edges`` float64 (B + 1,), see :func:`band_edges`, and ``share`` float64 (B,), which sums
        to 1; both on the device of the perturbations.

    Raises:
        ValueError: there are none, one is zero or not finite, or images are too small.
    """
    if not len(perturbations):
        raise ValueError("a spectrum needs at least one perturbation")
    height, width = perturbations.shape[-2:]
    edges = band_edges(height, width)
    power = torch.fft.fft2(perturbations.to(torch.float64)).abs().square().sum(dim=1)
    total = power.sum(dim=(1, 2))
    if not bool((torch.isfinite(total) & (total > 0)).all()):
        raise ValueError("a perturbation is zero or not finite; leave it out")
    radius = _radius(height, width, perturbations.device)
    share = torch.stack(
        [
            (power[:, _in_band(radius, low, high)].sum(dim=1) / total).mean()
            for low, high in pairwise(edges)
        ]
    )
    return torch.tensor(edges, dtype=torch.float64, device=share.device), share


def band_noise(
    images: Tensor, low: float, high: float, epsilon: float, rng: torch.Generator
) -> Tensor:
    """Images with Gaussian noise of one radial band of frequencies added, clipped to [0, 1].

    White noise is filtered to the band and scaled so that, before clipping, every pixel's noise
    is Gaussian with standard deviation ``epsilon``. It is independent per image and channel.

    Args:
        images: Float (N, C, H, W) in [0, 1].
        low: Lower edge of the band, cycles per pixel, contained in it.
        high: Upper edge, not contained.
        epsilon: Standard deviation per pixel, in pixel units of [0, 1].
        rng: Generator on the images' device; advanced.

    Raises:
        ValueError: images of this size have no frequency in the band.
    """
    noise = torch.empty_like(images).normal_(generator=rng)
    return (images + epsilon * _confine(noise, low, high)).clamp(0, 1)


def measure_frequencies(
    model: nn.Module,
    split: Split,
    name: str,
    config: RobustnessConfig,
    perturbations: Tensor,
) -> list[SpectrumPoint]:
    """Both views of one network on one split.

    The noise depends on the configuration and the split's name alone, so two networks meet the
    same. Its epsilon is the configuration's reference for ``gaussian``, else the largest one that
    ``gaussian`` is measured at, else :data:`DEFAULT_EPSILON`. The network's mode is restored; its
    parameters and the global RNG are not touched.

    Args:
        model: The network; pixels (B, C, H, W) in [0, 1] to logits.
        split: uint8 images and labels, on the network's device; all are classified under noise.
        name: Name of the split, ``validation`` or ``test``.
        config: Epsilon, noise seed, batch size.
        perturbations: Minimal adversarial perturbations of this network on this split, adversarial
            minus original image, (M, C, H, W), where one was found. Those that are zero
            everywhere (images misclassified as they are) have no spectrum and are left out.

    Returns:
        ``perturbation_power`` by ascending frequency (none if no perturbation is left), then
        ``band_noise_accuracy``.

    Raises:
        ValueError: the split is empty.
    """
    if not len(split.labels):
        raise ValueError(f"frequencies: the {name} split is empty")
    points = _power_points(name, perturbations)
    epsilon = _noise_epsilon(config)
    edges = band_edges(*split.images.shape[-2:])
    with evaluation_mode(model):
        for low, high in pairwise(edges):
            accuracy = _accuracy_under_band(model, split, name, config, (low, high, epsilon))
            points.append(
                SpectrumPoint(
                    name, "band_noise_accuracy", low, high, epsilon, accuracy, len(split.labels)
                )
            )
    return points


def _power_points(name: str, perturbations: Tensor) -> list[SpectrumPoint]:
    moved = perturbations[perturbations.flatten(1).any(dim=1)]
    if not len(moved):
        return []
    edges, share = (values.tolist() for values in radial_power(moved))
    return [
        SpectrumPoint(name, "perturbation_power", low, high, None, value, len(moved))
        for low, high, value in zip(edges[:-1], edges[1:], share, strict=True)
    ]


@torch.no_grad()
def _accuracy_under_band(
    model: nn.Module,
    split: Split,
    name: str,
    config: RobustnessConfig,
    band: tuple[float, float, float],
) -> float:
    low, high, epsilon = band
    device = split.images.device
    correct = torch.zeros((), dtype=torch.int64, device=device)
    batches = zip(
        split.images.split(config.batch_size), split.labels.split(config.batch_size), strict=True
    )
    for number, (stored, labels) in enumerate(batches):
        rng = generator(config.noise_seed, f"band {low:.6f} on {name}", number, device=device)
        noisy = band_noise(stored.to(torch.float32) / 255, low, high, epsilon, rng)
        correct += (model(noisy).argmax(dim=1) == labels).sum()
    return int(correct) / len(split.labels)


def _noise_epsilon(config: RobustnessConfig) -> float:
    if "gaussian" in config.reference:
        return config.reference["gaussian"]
    if "gaussian" in config.attacks:
        return config.attacks["gaussian"].max_epsilon
    return DEFAULT_EPSILON


def _confine(noise: Tensor, low: float, high: float) -> Tensor:
    """White noise (N, C, H, W) filtered to a band, at the standard deviation that it had."""
    height, width = noise.shape[-2:]
    mask = _in_band(_radius(height, width, noise.device), low, high)
    num_frequencies = int(mask.sum())
    if not num_frequencies:
        raise ValueError(_empty_band(height, width, low, high))
    # The filter keeps this share of the variance. The mask is symmetric, so the result is real.
    gain = (height * width / num_frequencies) ** 0.5
    filtered: Tensor = torch.fft.ifft2(torch.fft.fft2(noise.to(torch.float64)) * mask).real
    scaled: Tensor = (gain * filtered).to(noise.dtype)
    return scaled


def _empty_band(height: int, width: int, low: float, high: float) -> str:
    return f"images of {height}x{width} have no frequency in [{low:g}, {high:g}) cycles per pixel"


def _radius(height: int, width: int, device: torch.device) -> Tensor:
    """Distance from frequency 0, float64 (H, W), in the order of ``torch.fft.fft2``."""
    vertical = torch.fft.fftfreq(height, dtype=torch.float64, device=device)
    horizontal = torch.fft.fftfreq(width, dtype=torch.float64, device=device)
    return torch.hypot(vertical[:, None], horizontal[None, :])


def _in_band(radius: Tensor, low: float, high: float) -> Tensor:
    return (radius >= low - _TOLERANCE) & (radius < high - _TOLERANCE)
