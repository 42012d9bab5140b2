"""Random crops and horizontal flips of image batches."""

from __future__ import annotations

import torch
from torch import Tensor

from simreg_core.config.trial import AugmentationConfig


def draw_augmentation(num_images: int, config: AugmentationConfig, rng: torch.Generator) -> Tensor:
    """Draw a crop and a flip for each of B images, int64 (3, B), from a CPU generator.

    The rows are the top and left corner of the crop in the padded image, uniform in
    [0, 2 * crop_padding], and whether the crop is flipped (0 or 1, equally likely). What ``config``
    turns off does not advance ``rng``.
    """
    draws = torch.zeros((3, num_images), dtype=torch.int64)
    if config.crop_padding:
        draws[:2] = torch.randint(2 * config.crop_padding + 1, (2, num_images), generator=rng)
    if config.horizontal_flip:
        draws[2] = torch.rand(num_images, generator=rng) < 0.5
    return draws


def augment(images: Tensor, index: Tensor, draws: Tensor, config: AugmentationConfig) -> Tensor:
    """Crops of reflect-padded images, flipped left to right, as :func:`draw_augmentation` drew.

    Pixels are looked up directly; no padded image is built.

    Args:
        images: (N, C, H, W) of any type, on any device.
        index: int64 (B,), the images to take.
        draws: int64 (3, B), on the images' device.
        config: What to apply; its padding is below H and W.
    """
    if not config.crop_padding and not config.horizontal_flip:
        return images[index]
    height, width = images.shape[2:]
    top, left, is_flipped = draws[:, :, None]
    rows = _reflect(top + torch.arange(height, device=images.device), config.crop_padding, height)
    columns = torch.arange(width, device=images.device)
    columns = torch.where(is_flipped == 1, columns.flip(0), columns)
    columns = _reflect(left + columns, config.crop_padding, width)
    # Advanced indices around the channel slice put the channels last.
    picked = images[index[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2)


def _reflect(position: Tensor, padding: int, size: int) -> Tensor:
    """The position in the image of a position in the padded image."""
    inside = (position - padding).abs()
    return size - 1 - (size - 1 - inside).abs()
