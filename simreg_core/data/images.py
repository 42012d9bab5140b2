"""Images as tensors: what every dataset is made of, and how encoded images become it.

Images are uint8 (N, C, H, W), C = 1 (grey) or 3 (RGB); labels are int64 (N,) from 0.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional

from simreg_core.errors import ConfigError
from simreg_core.seeding import generator

_CONVERTED_AT_ONCE = 4096  # bounds the float copy that resizing makes

# What Pillow raises for damaged data, depending on the format.
_UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    Image.DecompressionBombError,
)


class Split(NamedTuple):
    """Images uint8 (N, C, H, W) and their labels int64 (N,)."""

    images: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> Split:
        """The same split on ``device``."""
        return Split(self.images.to(device), self.labels.to(device))


class ImagePool(NamedTuple):
    """A dataset as it comes: all images, and its own test set where it has one."""

    images: Tensor
    labels: Tensor | None
    test: Split | None
    num_classes: int


class ImageRequest(NamedTuple):
    """Which images of a dataset are asked for, and in which form."""

    color: bool
    """RGB instead of grey (ITU-R 601 luma)."""
    size: int | None
    """Side in pixels; None: as they are."""
    key: str
    """Configuration key that named the dataset, for messages."""
    limit: int | None = None
    """Number of images, drawn by ``seed`` and in the drawn order, without the test set; None: all
    images in their own order, with the test set."""
    seed: int = 0
    path: str = ""
    """PATH of a dataset that is named as NAME:PATH."""

    def choose(self, num_images: int) -> NDArray[np.int64]:
        """Indices of the images to load; those of a smaller limit begin those of a larger one."""
        if self.limit is None:
            return np.arange(num_images)
        order = torch.randperm(num_images, generator=generator(self.seed, "regularization images"))
        return order[: self.limit].numpy()

    def identity(self) -> tuple[object, ...]:
        """What the loaded arrays depend on, beside the files."""
        drawn = None if self.limit is None else (self.limit, self.seed)
        return (self.color, self.size, drawn)


class EncodedImage(NamedTuple):
    """One image to decode."""

    position: int
    """Its place in the decoded array."""
    where: str
    """File, or file and row, for messages."""
    source: bytes | Path
    """The encoded image, or the file that holds it."""


def decode_images(
    batches: Iterable[Sequence[EncodedImage]], num_images: int, request: ImageRequest, origin: Path
) -> NDArray[np.uint8]:
    """Decoded images, uint8 (N, C, H, W); each batch is decoded in parallel.

    Args:
        batches: Together, one image for every position from 0 to N - 1.
        num_images: N >= 1.
        request: Channels and size of the result, and the key for messages.
        origin: Folder or file that all come from, for messages.

    Raises:
        ConfigError: an image is damaged, or they differ in size and the request names none.
    """
    images: NDArray[np.uint8] | None = None
    with ThreadPoolExecutor() as pool:
        for batch in batches:
            decoded = pool.map(lambda encoded: _decode(encoded, request), batch)
            for encoded, image in zip(batch, decoded, strict=True):
                if images is None:
                    images = np.empty((num_images, *image.shape), np.uint8)
                if image.shape != images.shape[1:]:
                    raise ConfigError(
                        f"{request.key}: {origin} holds images of different sizes; "
                        f"{_one_size(request.key)}"
                    )
                images[encoded.position] = image
    assert images is not None
    return images


def _decode(encoded: EncodedImage, request: ImageRequest) -> NDArray[np.uint8]:
    try:
        data = encoded.source if isinstance(encoded.source, bytes) else encoded.source.read_bytes()
    except OSError as err:
        raise ConfigError(
            f"{request.key}: {encoded.where} cannot be read: {err.strerror or err}"
        ) from err
    try:
        with Image.open(io.BytesIO(data)) as image:
            return resize(to_tensor(image, request.color)[None], request.size)[0].numpy()
    except _UNREADABLE as err:
        # Pillow's text for an unknown format names an object in memory.
        is_unknown = isinstance(err, UnidentifiedImageError)
        problem = "unknown format" if is_unknown else " ".join(str(err).split())
        raise ConfigError(
            f"{request.key}: {encoded.where} is not a readable image: {problem}"
        ) from err


def to_tensor(image: Image.Image, color: bool) -> Tensor:
    """uint8 (3, H, W) in color, else (1, H, W)."""
    if image.mode.startswith("I"):  # 16 bits, which Pillow would clip at 255
        image = Image.fromarray((np.array(image).clip(0, 65535) >> 8).astype(np.uint8))
    array = np.array(image.convert("RGB" if color else "L"))
    return torch.from_numpy(array[None] if array.ndim == 2 else array.transpose(2, 0, 1).copy())


def convert(images: Tensor, request: ImageRequest) -> Tensor:
    """uint8 (N, C, H, W) with the asked channels and size."""
    parts = images.split(_CONVERTED_AT_ONCE)
    return torch.cat([resize(to_channels(part, request.color), request.size) for part in parts])


def to_channels(images: Tensor, color: bool) -> Tensor:
    """uint8 (N, 3, H, W) in color, else (N, 1, H, W): the luma that Pillow computes."""
    channels = images.shape[1]
    if channels == (3 if color else 1):
        return images
    if color:
        return images.expand(-1, 3, -1, -1).contiguous()
    # 0.299 R + 0.587 G + 0.114 B in 16-bit fixed point, to the bit as Pillow's mode L.
    red, green, blue = images.to(torch.int32).unbind(dim=1)
    luma = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16
    return luma[:, None].to(torch.uint8)


def resize(images: Tensor, size: int | None) -> Tensor:
    """uint8 (N, C, H, W) centre-cropped to squares and resized bilinearly (antialiased) to size."""
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


def require_one_shape(
    images: NDArray[np.uint8],
    test_images: NDArray[np.uint8],
    train: Path,
    test: Path,
    key: str,
) -> None:
    """The test images have the channels, height and width of the training images.

    Raises:
        ConfigError: they differ; names both.
    """
    if test_images.shape[1:] != images.shape[1:]:
        raise ConfigError(
            f"{key}: {test} has images of {test_images.shape[1:]}, "
            f"{train} of {images.shape[1:]}; {_one_size(key)}"
        )


def _one_size(key: str) -> str:
    """What to do about images of different sizes."""
    return "set task.image_size" if key == "task.dataset" else "images of one size are needed"
