"""Images as tensors: splits, datasets, and what is asked of a dataset.

Images are uint8 (N, C, H, W) with C = 1 (grey) or 3 (RGB). Labels are int64 (N,) and start at 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from simreg_core.data.split_names import Role
from simreg_core.errors import ConfigError
from simreg_core.seeding import generator

_CONVERTED_AT_ONCE = 4096  # limits the size of the float copy for resizing


class Split(NamedTuple):
    """Images uint8 (N, C, H, W) and their labels int64 (N,)."""

    images: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> Split:
        """This split on ``device``."""
        return Split(self.images.to(device), self.labels.to(device))

    def take(self, index: Tensor) -> Split:
        """The images with these indices."""
        return Split(self.images[index], self.labels[index])


class PoolInfo(NamedTuple):
    """What a reader of a dataset wants to know of it."""

    class_names: tuple[str, ...] = ()
    """By label; empty: the classes have no names."""
    left_out: str = ""
    """Number and kinds of the files that are not read; empty: none."""
    label_column: str = ""
    """Column of the labels, if the files have several."""
    no_labels: str = ""
    """Why there are no labels; empty: unknown, or there are."""


class ImagePool(NamedTuple):
    """A dataset: its training images, and its test and validation sets if it has them."""

    images: Tensor
    labels: Tensor | None
    test: Split | None
    num_classes: int
    validation: Split | None = None
    info: PoolInfo = PoolInfo()
    num_stored: int | None = None
    """Number of training images that ``ImageRequest.choose`` got; None: unknown."""

    @classmethod
    def of_splits(
        cls, splits: Mapping[Role, Split], num_classes: int, *, num_stored: int
    ) -> ImagePool:
        """A dataset with labels; a validation set serves as test set if there is none."""
        test, validation = splits.get("test"), splits.get("validation")
        if test is None:
            test, validation = validation, None
        return cls(*splits["train"], test, num_classes, validation, num_stored=num_stored)


class ImageRequest(NamedTuple):
    """The images that a dataset must return, and their form."""

    color: bool
    """RGB (3, H, W) instead of grey (1, H, W; ITU-R 601 luma)."""
    size: int | None
    """Height and width in pixels, after a crop to the central square; None: as stored."""
    limit: int | None = None
    """Number of training images to draw with ``seed``, without the other sets. A smaller limit
    gives a prefix of a larger one. None: all images in their stored order, with the other sets."""
    seed: int = 0
    path: str = ""
    """PATH of a dataset named ``NAME:PATH``."""

    def choose(self, num_images: int) -> NDArray[np.int64]:
        """Indices of the requested images."""
        if self.limit is None:
            return np.arange(num_images)
        order = torch.randperm(num_images, generator=generator(self.seed, "regularization images"))
        return order[: self.limit].numpy()

    def identity(self) -> tuple[object, ...]:
        """Everything except files that the loaded arrays depend on."""
        drawn = None if self.limit is None else (self.limit, self.seed)
        return (self.color, self.size, drawn)


def convert(images: Tensor, request: ImageRequest) -> Tensor:
    """uint8 (N, C, H, W) with the requested channels and size."""
    parts = images.split(_CONVERTED_AT_ONCE)
    return torch.cat([resize(to_channels(part, request.color), request.size) for part in parts])


def require_size(shape: tuple[int, ...], expected: tuple[int, ...], where: str) -> None:
    """Reject images whose shape (C, H, W) differs from that of the first ones."""
    if shape != expected:
        sizes = " pixels instead of ".join(
            f"{height} x {width}" for _, height, width in (shape, expected)
        )
        raise ConfigError(
            f"{where}: {sizes}; images must have one size, which task.image_size gives those of a "
            "task"
        )


def to_channels(images: Tensor, color: bool) -> Tensor:
    """uint8 (N, 3, H, W) if ``color``, else (N, 1, H, W) with the luma that Pillow computes."""
    channels = images.shape[1]
    if channels == (3 if color else 1):
        return images
    if color:
        return images.expand(-1, 3, -1, -1).contiguous()
    # 0.299 R + 0.587 G + 0.114 B in 16-bit fixed point, identical to Pillow's mode L.
    red, green, blue = images.to(torch.int32).unbind(dim=1)
    luma = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16
    return luma[:, None].to(torch.uint8)


def resize(images: Tensor, size: int | None) -> Tensor:
    """uint8 (N, C, H, W), cropped to the central square and resized (bilinear, antialiased)."""
    height, width = images.shape[-2:]
    if size is None or (height, width) == (size, size):
        return images
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = images[..., top : top + side, left : left + side].to(torch.float32)
    resized = functional.interpolate(
        square, size=(size, size), mode="bilinear", antialias=side > size, align_corners=False
    )
    return resized.round().clamp(0, 255).to(torch.uint8)
