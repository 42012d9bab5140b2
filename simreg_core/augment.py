"""Random transformations of image batches; each draws from the generator that it is given."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from simreg_core.config import AugmentationConfig


def augment(images: Tensor, config: AugmentationConfig, rng: torch.Generator) -> Tensor:
    """Randomly cropped and flipped copies, each image with draws of its own.

    Args:
        images: Float (B, C, H, W).
        config: What to apply.
        rng: CPU generator; advanced only by what is applied.
    """
    if config.crop_padding:
        images = random_crop(images, config.crop_padding, rng)
    if config.horizontal_flip:
        images = random_flip(images, rng)
    return images


def random_crop(images: Tensor, padding: int, rng: torch.Generator) -> Tensor:
    """A window of the original size from each reflect-padded image, uniform over its positions."""
    batch, _, height, width = images.shape
    padded = functional.pad(images, (padding,) * 4, mode="reflect")
    top, left = torch.randint(2 * padding + 1, (2, batch), generator=rng).to(images.device)
    rows = top[:, None] + torch.arange(height, device=images.device)
    columns = left[:, None] + torch.arange(width, device=images.device)
    index = torch.arange(batch, device=images.device)[:, None, None]
    # Advanced indices around the channel slice put the channels last.
    return padded[index, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def random_flip(images: Tensor, rng: torch.Generator) -> Tensor:
    """Each image mirrored left to right with probability one half."""
    flip = (torch.rand(len(images), generator=rng) < 0.5).to(images.device)
    return torch.where(flip[:, None, None, None], images.flip(-1), images)
