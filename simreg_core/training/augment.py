"""Random transformations of image batches: what is drawn, and applying it."""

from __future__ import annotations

import torch
from torch import Tensor

from simreg_core.config.trial import AugmentationConfig


def draw_augmentation(num_images: int, config: AugmentationConfig, rng: torch.Generator) -> Tensor:
    """What is done to each of B images, drawn independently.

    Args:
        num_images: B.
        config: What to apply.
        rng: CPU generator; advanced only by what is applied.

    Returns:
        int64 (3, B) on the CPU: top and left corner of a window of the padded image, uniform in
        [0, 2 * crop_padding], and whether it is mirrored (0 or 1, with equal chances).
    """
    draws = torch.zeros((3, num_images), dtype=torch.int64)
    if config.crop_padding:
        draws[:2] = torch.randint(2 * config.crop_padding + 1, (2, num_images), generator=rng)
    if config.horizontal_flip:
        draws[2] = torch.rand(num_images, generator=rng) < 0.5
    return draws


def augment(images: Tensor, index: Tensor, draws: Tensor, config: AugmentationConfig) -> Tensor:
    """Copies of some images, cropped after reflect padding and mirrored left to right as drawn.

    Both are one look-up of pixels: no padded image is ever made.

    Args:
        images: (N, C, H, W) of any type and on any device.
        index: int64 (B,), the images to take.
        draws: From :func:`draw_augmentation`.
        config: What to apply; its padding is below H and W.
    """
    if not config.crop_padding and not config.horizontal_flip:
        return images[index]
    height, width = images.shape[2:]
    top, left, is_mirrored = draws[:, :, None]
    rows = _reflect(top + torch.arange(height, device=images.device), config.crop_padding, height)
    columns = torch.arange(width, device=images.device)
    columns = torch.where(is_mirrored == 1, columns.flip(0), columns)
    columns = _reflect(left + columns, config.crop_padding, width)
    # Advanced indices around the channel slice put the channels last.
    picked = images[index[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2)


def _reflect(position: Tensor, padding: int, size: int) -> Tensor:
    """Where a position in the padded image lies in the image itself."""
    inside = (position - padding).abs()
    return size - 1 - (size - 1 - inside).abs()
