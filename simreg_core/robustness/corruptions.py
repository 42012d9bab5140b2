"""Common corruptions at severities 1 to 5 (Hendrycks, Dietterich, arXiv:1903.12261).

The constants are those of CIFAR-10-C, for images of 32 x 32 pixels. Widths of blurs, in pixels,
grow with larger images but do not shrink with smaller ones, because a blur below a pixel has no
effect. Elastic displacements are fractions of the side. The operations are implemented in torch
(JPEG and pixelation in Pillow), so results differ from the files of CIFAR-10-C, which
:mod:`simreg_core.robustness.cifar10c` reads.

A corruption maps float images (B, C, H, W) in [0, 1], C = 1 or 3, a severity and a generator on the
images' device to images of the same shape. Brightness and saturation act on HSV; saturating grey
images is the identity. Noise, motion blur and elastic transforms draw from the generator, so they
depend on the batches. :func:`simreg_core.registry.corruption` declares one.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from simreg_core.registry import CORRUPTION_PREFIX, CORRUPTIONS, Attack, corruption
from simreg_core.robustness.attack import AttackInput, Perturbation


def corruption_attack(kind: str) -> Attack:
    """A corruption as an attack whose epsilon is the severity, 1 to 5.

    All severities use the same draws. Images are rounded to 8 bits, like stored images.
    """
    apply = CORRUPTIONS.get(kind)

    def attack(batch: AttackInput) -> Perturbation:
        state = batch.rng.get_state()

        def corrupted(severity: float) -> Tensor:
            batch.rng.set_state(state)
            result: Tensor = apply(batch.images, int(severity), batch.rng)
            return (result.clamp(0, 1) * 255).round() / 255

        return corrupted

    attack.__module__ = apply.function.__module__  # makes attacks by foreign corruptions foreign
    return Attack(
        name=f"{CORRUPTION_PREFIX}{kind}",
        function=attack,
        label=apply.title,
        max_epsilon=5,
        reference=3,
    )


# Noise


@corruption("gaussian_noise")
def _gaussian_noise(images: Tensor, severity: int, rng: torch.Generator) -> Tensor:
    deviation = (0.04, 0.06, 0.08, 0.09, 0.10)[severity - 1]
    return images + deviation * torch.empty_like(images).normal_(generator=rng)


@corruption("shot_noise")
def _shot_noise(images: Tensor, severity: int, rng: torch.Generator) -> Tensor:
    photons = (500, 250, 100, 75, 50)[severity - 1]
    return torch.poisson(images * photons, generator=rng) / photons


@corruption("impulse_noise")
def _impulse_noise(images: Tensor, severity: int, rng: torch.Generator) -> Tensor:
    amount = (0.01, 0.02, 0.03, 0.05, 0.07)[severity - 1]
    chance, value = torch.empty((2, *images.shape), device=images.device).uniform_(generator=rng)
    return torch.where(chance < amount, (value < 0.5).to(images.dtype), images)


@corruption("gaussian_blur")
def _gaussian_blur(images: Tensor, severity: int, rng: torch.Generator) -> Tensor:
    return _smooth(images, (0.4, 0.6, 0.7, 0.8, 1.0)[severity - 1] * _pixels(images))


@corruption("defocus_blur")
def _defocus_blur(images: Tensor, severity: int, rng: torch.Generator) -> Tensor:
    constants = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1))
    radius, antialias = (value * _pixels(images) for value in constants[severity - 1])
    reach = math.ceil(radius) + 1
    y, x = torch.meshgrid(*[torch.arange(-reach, reach + 1.0)] * 2, indexing="ij")
    disk = (x**2 + y**2 <= radius**2).to(images)[None, None]
    # The rim is softened over the neighbouring pixels only, as in CIFAR-10-C.
    kernel = _smooth(disk / disk.sum(), antialias, reach=1)
    padded = functional.pad(images, [reach] * 4, mode="replicate")
    return functional.conv2d(padded.flatten(0, 1)[:, None], kernel).reshape(images.shape)


@corruption("motion_blur")
def _motion_blur(images: Tensor, severity: int, rng: torch.Generator) -> Tensor:
    """Averages over positions along a line, whose weights fall like half a Gaussian."""
    constants = ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5))
    radius, sigma = (value * _pixels(images) for value in constants[severity - 1])
    angle = torch.empty(len(images), 1, 1, device=images.device).uniform_(-45, 45, generator=rng)
    angle = torch.deg2rad(angle)
    offsets = [step for step in range(math.floor(2 * radius) + 1) if step < 4 * sigma]
    weights = [math.exp(-(step**2) / (2 * sigma**2)) for step in offsets]
    blurred = torch.zeros_like(images)
    x, y = _positions(images)
    for step, weight in zip(offsets, weights, strict=True):
        at_x, at_y = x + angle.cos() * step, y + angle.sin() * step
        blurred += weight / sum(weights) * _sample(images, at_x, at_y, "border")
    return blurred


@corruption("zoom_blur")
def _zoom_blur(images: Tensor, severity: int, rng: torch.Generator) -> Tensor:
    """Mean of the image and of itself enlarged by 1, 1.01, ... about its centre."""
    num_zooms = (7, 12, 16, 21, 26)[severity - 1]
    middle_y, middle_x = ((side - 1) / 2 for side in images.shape[-2:])
    x, y = _positions(images)
    total = images.clone()
    for step in range(num_zooms):
        zoom = 1 + step / 100
        at_x, at_y = (x - middle_x) / zoom + middle_x, (y - middle_y) / zoom + middle_y
        total += _sample(images, at_x, at_y, "border")
    return total / (num_zooms + 1)


@corruption("brightness")
def _brightness(images: Tensor, severity: int, rng: torch.Generator) -> Tensor:
    value = images.amax(dim=1, keepdim=True)
    brighter = (value + (0.05, 0.1, 0.15, 0.2, 0.3)[severity - 1]).clamp_max(1)
    return torch.where(value > 0, images * (brighter / value.clamp_min(1e-6)), brighter)


@corruption("contrast")
def _contrast(images: Tensor, severity: int, rng: torch.Generator) -> Tensor:
    means = images.mean(dim=(2, 3), keepdim=True)
    return means + (0.75, 0.5, 0.4, 0.3, 0.15)[severity - 1] * (images - means)


@corruption("saturate")
def _saturate(images: Tensor, severity: int, rng: torch.Generator) -> Tensor:
    scale, shift = ((0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2))[severity - 1]
    value = images.amax(dim=1, keepdim=True)
    chroma = value - images.amin(dim=1, keepdim=True)
    saturation = chroma / value.clamp_min(1e-6)
    wanted = (scale * saturation + shift).clamp(0, 1)
    factor = torch.where(chroma > 0, wanted / saturation.clamp_min(1e-6), 1.0)
    return value - (value - images) * factor


@corruption("pixelate")
def _pixelate(images: Tensor, severity: int, rng: torch.Generator) -> Tensor:
    part = (0.95, 0.9, 0.85, 0.75, 0.65)[severity - 1]
    height, width = images.shape[-2:]
    small = (max(1, int(width * part)), max(1, int(height * part)))
    box = Image.Resampling.BOX
    return _by_pillow(images, lambda image: image.resize(small, box).resize((width, height), box))


@corruption("jpeg_compression", label="JPEG compression")
def _jpeg_compression(images: Tensor, severity: int, rng: torch.Generator) -> Tensor:
    quality = (80, 65, 58, 50, 40)[severity - 1]

    def compress(image: Image.Image) -> Image.Image:
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=quality)
        return Image.open(stream)

    return _by_pillow(images, compress)


@corruption("elastic_transform")
def _elastic_transform(images: Tensor, severity: int, rng: torch.Generator) -> Tensor:
    """A random affine map of each image, and a smooth random displacement of its pixels.

    Lengths are fractions of the side. Higher severities have more of the displacement and less of
    the affine map, so the distance to the clean image need not grow.
    """
    side = min(images.shape[-2:])
    strength = (0, 0.05, 0.08, 0.1, 0.1)[severity - 1] * side
    sigma = (0, 0.2, 0.06, 0.04, 0.03)[severity - 1] * side
    shift = (0.08, 0.07, 0.06, 0.05, 0.03)[severity - 1] * side
    x, y = _positions(images)
    noise = torch.empty((2, len(images), 1, *images.shape[2:]), device=images.device)
    noise.uniform_(-1, 1, generator=rng)
    dx, dy = (strength * _smooth(field, sigma)[:, 0] for field in noise)
    weights = _random_affine(images, shift, rng)[..., None, None]
    at_x, at_y = (
        weights[:, 0, i] * (x + dx) + weights[:, 1, i] * (y + dy) + weights[:, 2, i] for i in (0, 1)
    )
    return _sample(images, at_x, at_y, "reflection")


def _random_affine(images: Tensor, shift: float, rng: torch.Generator) -> Tensor:
    """Inverses (B, 3, 2) of affine maps that move three points by up to ``shift`` pixels."""
    height, width = images.shape[-2:]
    centre = torch.tensor([width // 2, height // 2], device=images.device, dtype=images.dtype)
    arm = max(1, min(height, width) // 3)
    corners = torch.tensor([[1, 1], [1, -1], [-1, -1]], device=images.device) * arm
    before = (centre + corners).expand(len(images), 3, 2)
    after = before + torch.empty_like(before).uniform_(-1, 1, generator=rng) * shift
    ones = torch.ones_like(after[..., :1])
    inverses: Tensor = torch.linalg.solve(torch.cat([after, ones], dim=2), before)
    return inverses


def _pixels(images: Tensor) -> float:
    """Width of a pixel of CIFAR-10-C in pixels of these images; at least 1."""
    return max(1.0, min(images.shape[-2:]) / 32)


def _smooth(images: Tensor, sigma: float, reach: int | None = None) -> Tensor:
    """Gaussian filter (B, C, H, W), edges replicated; cut off at ``reach`` or four sigma."""
    reach = math.ceil(4 * sigma) if reach is None else reach
    if sigma == 0 or reach == 0:
        return images
    steps = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    weights = torch.exp(-(steps**2) / (2 * sigma**2))
    weights = weights / weights.sum()
    padded = functional.pad(images, [reach] * 4, mode="replicate").flatten(0, 1)[:, None]
    rows = functional.conv2d(padded, weights[None, None, None, :])
    return functional.conv2d(rows, weights[None, None, :, None]).reshape(images.shape)


def _positions(images: Tensor) -> tuple[Tensor, Tensor]:
    """Column and row of every pixel, (1, H, W) each."""
    sides = (torch.arange(side).to(images) for side in images.shape[-2:])
    y, x = torch.meshgrid(*sides, indexing="ij")
    return x[None], y[None]


def _sample(images: Tensor, x: Tensor, y: Tensor, padding: str) -> Tensor:
    """Bilinear interpolation at columns x and rows y, (B or 1, H, W)."""
    height, width = images.shape[-2:]
    grid = torch.stack([2 * x / max(1, width - 1) - 1, 2 * y / max(1, height - 1) - 1], dim=-1)
    grid = grid.expand(len(images), -1, -1, -1)
    return functional.grid_sample(images, grid, padding_mode=padding, align_corners=True)


def _by_pillow(images: Tensor, operation: Callable[[Image.Image], Image.Image]) -> Tensor:
    """Apply an operation of Pillow to every image, as 8-bit grey or RGB, on the CPU."""
    stored = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).squeeze(3).cpu().numpy()
    results = [np.asarray(operation(Image.fromarray(array))) for array in stored]
    changed = torch.from_numpy(np.stack(results)).reshape(len(images), *images.shape[2:], -1)
    return changed.permute(0, 3, 1, 2).to(images) / 255
