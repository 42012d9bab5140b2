"""Common corruptions at severities 1 to 5 (Hendrycks, Dietterich, arXiv:1903.12261).

The constants are those of CIFAR-10-C, for images of 32 x 32 pixels. Widths of blurs are in
pixels: they grow with larger images, but do not shrink with smaller ones, where a blur of less
than a pixel would be none. Elastic displacements are parts of the side, as in CIFAR-10-C. The
operations are written anew in torch (JPEG and pixelation in Pillow), so single images differ
from CIFAR-10-C's own, which :mod:`simreg_core.robustness.cifar10c` reads.

A corruption maps float images (B, C, H, W) in [0, 1], C = 1 or 3, a severity and a generator on the
images' device to images of the same shape. Brightness and saturation act on HSV; a pixel without
hue keeps none, so saturating grey images is the identity. Noise, motion blur and elastic transforms
draw per image from the generator and depend on how images are batched; the others do not.
:func:`simreg_core.registry.corruption` declares one.
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

from simreg_core.registry import ATTACKS, CORRUPTIONS, Attack, corruption
from simreg_core.results.measurements import CORRUPTION_PREFIX
from simreg_core.robustness.attack import AttackInput, Perturbation


def corruption_attack(kind: str) -> Attack:
    """A corruption as an attack whose epsilon is the severity, 1 to 5.

    All severities start from the same state of the batch's generator: their noises are the same
    draws, scaled. Images are rounded to 8 bits, as stored images are.
    """
    apply = CORRUPTIONS.get(kind)

    def attack(batch: AttackInput) -> Perturbation:
        state = batch.rng.get_state()

        def corrupted(severity: float) -> Tensor:
            if severity not in range(1, 6):
                raise ValueError(f"severity must be in 1 to 5, got {severity}")
            batch.rng.set_state(state)
            result: Tensor = apply(batch.images, int(severity), batch.rng)
            return (result.clamp(0, 1) * 255).round() / 255

        return corrupted

    attack.__module__ = apply.function.__module__  # says whether the attack is foreign
    return Attack(name=f"{CORRUPTION_PREFIX}{kind}", function=attack, label=apply.title)


def label_of(attack: str) -> str:
    """The name in charts of an attack, or of a corruption among the attacks of a curve."""
    if attack.startswith(CORRUPTION_PREFIX):
        return CORRUPTIONS.get(attack.removeprefix(CORRUPTION_PREFIX)).title
    return ATTACKS.get(attack).title


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


# Blur


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
    angle = torch.empty(len(images), device=images.device).uniform_(-45, 45, generator=rng)
    angle = torch.deg2rad(angle)
    offsets = [step for step in range(math.floor(2 * radius) + 1) if step < 4 * sigma]
    weights = [math.exp(-(step**2) / (2 * sigma**2)) for step in offsets]
    blurred = torch.zeros_like(images)
    x, y = _positions(images)
    for step, weight in zip(offsets, weights, strict=True):
        dx, dy = (f(angle)[:, None, None] * step for f in (torch.cos, torch.sin))
        blurred += weight / sum(weights) * _sample(images, x + dx, y + dy, "border")
    return blurred


@corruption("zoom_blur")
def _zoom_blur(images: Tensor, severity: int, rng: torch.Generator) -> Tensor:
    """Mean of the image and of itself enlarged by 1, 1.01, ... about its centre."""
    percent = (7, 12, 16, 21, 26)[severity - 1]  # lengths of CIFAR-10-C's ranges
    height, width = images.shape[-2:]
    x, y = _positions(images)
    total = images.clone()
    for step in range(percent):
        zoom = 1 + step / 100
        at_x = (x - (width - 1) / 2) / zoom + (width - 1) / 2
        at_y = (y - (height - 1) / 2) / zoom + (height - 1) / 2
        total += _sample(images, at_x, at_y, "border")
    return total / (percent + 1)


# Colour and digital


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

    All lengths are parts of the side. Severity moves from the affine map to the displacement;
    the distance to the clean image need not grow with it.
    """
    constants = ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05))
    side = min(images.shape[-2:])
    strength, sigma, affine = (
        value * side for value in (*constants, (0.1, 0.03, 0.03))[severity - 1]
    )
    x, y = _positions(images)
    noise = torch.empty((2, len(images), 1, *images.shape[2:]), device=images.device)
    noise.uniform_(-1, 1, generator=rng)
    dx, dy = (strength * _smooth(field, sigma)[:, 0] for field in noise)
    map_x, map_y = _affine(images, affine, rng)(x + dx, y + dy)
    return _sample(images, map_x, map_y, "reflection")


def _affine(
    images: Tensor, shift: float, rng: torch.Generator
) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Per image, where pixels come from under the affine map that moves three points randomly."""
    height, width = images.shape[-2:]
    centre = torch.tensor([width // 2, height // 2], device=images.device, dtype=images.dtype)
    arm = max(1, min(height, width) // 3)
    corners = torch.tensor([[1, 1], [1, -1], [-1, -1]], device=images.device) * arm
    before = (centre + corners).expand(len(images), 3, 2)
    after = before + torch.empty_like(before).uniform_(-1, 1, generator=rng) * shift
    ones = torch.ones_like(after[..., :1])
    matrix = torch.linalg.solve(torch.cat([after, ones], dim=2), before)  # (B, 3, 2)

    def move(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        weights = matrix[..., None, None]
        moved_x, moved_y = (
            weights[:, 0, i] * x + weights[:, 1, i] * y + weights[:, 2, i] for i in (0, 1)
        )
        return moved_x, moved_y

    return move


# Tools


def _pixels(images: Tensor) -> float:
    """Length of a CIFAR-10-C pixel in pixels of these images; at least 1."""
    return max(1.0, min(images.shape[-2:]) / 32)


def _smooth(images: Tensor, sigma: float, reach: int | None = None) -> Tensor:
    """Gaussian filter (B, C, H, W), edges repeated; cut off at ``reach`` or four sigma."""
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
    height, width = images.shape[-2:]
    y, x = torch.meshgrid(
        torch.arange(height, device=images.device, dtype=images.dtype),
        torch.arange(width, device=images.device, dtype=images.dtype),
        indexing="ij",
    )
    return x[None], y[None]


def _sample(images: Tensor, x: Tensor, y: Tensor, padding: str) -> Tensor:
    """Images read at columns x and rows y, (B or 1, H, W), bilinearly."""
    height, width = images.shape[-2:]
    grid = torch.stack([2 * x / max(1, width - 1) - 1, 2 * y / max(1, height - 1) - 1], dim=-1)
    return functional.grid_sample(
        images,
        grid.expand(len(images), -1, -1, -1),
        mode="bilinear",
        padding_mode=padding,
        align_corners=True,
    )


def _by_pillow(images: Tensor, operation: Callable[[Image.Image], Image.Image]) -> Tensor:
    """An operation of Pillow on every image, as 8-bit grey or RGB, on the CPU."""
    stored = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    results = []
    for array in stored:
        image = Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)
        result = np.asarray(operation(image))
        results.append(result[..., None] if result.ndim == 2 else result)
    changed = torch.from_numpy(np.stack(results)).permute(0, 3, 1, 2)
    return changed.to(images) / 255
