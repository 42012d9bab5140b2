"""A dataset of your own: noisy gratings, whose class is their orientation."""

# Name it in a space file:
#
#   trial:
#     task: {dataset: "examples.own_dataset:gratings", num_test: 200}

import math

import torch

from simreg_core.data.images import ImagePool, ImageRequest, convert
from simreg_core.registry import dataset


@dataset("gratings", classes=4, side=16, protocol={"task": {"num_validation": 200}})
def gratings(request: ImageRequest) -> ImagePool:
    """1,200 gratings of 16 x 16 pixels at four orientations; without a test set."""
    rng = torch.Generator().manual_seed(0)
    labels = torch.arange(1200) % 4
    angle = labels[:, None, None] * (math.pi / 4)
    phase = 2 * math.pi * torch.rand(1200, 1, 1, generator=rng)
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    wave = torch.sin(0.8 * (x * angle.cos() + y * angle.sin()) + phase)
    noise = torch.randn(1200, 16, 16, generator=rng)
    pixels = (127.5 + 60 * wave + 40 * noise).clamp(0, 255).to(torch.uint8)
    chosen = torch.from_numpy(request.choose(len(labels)))
    images = convert(pixels[chosen, None], request)
    return ImagePool(images, labels[chosen], None, num_classes=4, num_stored=len(labels))
