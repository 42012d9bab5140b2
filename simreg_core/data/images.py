"""Images as tensors, and the decoding of image files.

Images are uint8 (N, C, H, W) with C = 1 (grey) or 3 (RGB). Labels are int64 (N,) and start at 0.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional

from simreg_core.errors import ConfigError, one_line
from simreg_core.seeding import generator
from simreg_core.storage.array_cache import Arrays, cached_arrays

_CONVERTED_AT_ONCE = 4096  # limits the size of the float copy for resizing

# Exceptions of Pillow for damaged data, depending on the format.
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
        """This split on ``device``."""
        return Split(self.images.to(device), self.labels.to(device))

    def take(self, index: Tensor) -> Split:
        """The images with these indices."""
        return Split(self.images[index], self.labels[index])


class ImagePool(NamedTuple):
    """A dataset: its training images, and its test set if it has one."""

    images: Tensor
    labels: Tensor | None
    test: Split | None
    num_classes: int


class ImageRequest(NamedTuple):
    """The images that a dataset must return, and their form."""

    color: bool
    """RGB (3, H, W) instead of grey (1, H, W; ITU-R 601 luma)."""
    size: int | None
    """Height and width in pixels, after a crop to the central square; None: as stored."""
    key: str
    """Configuration key of the dataset, for messages."""
    limit: int | None = None
    """Number of images to draw with ``seed``, without the test set. A smaller limit gives a prefix
    of a larger one. None: all images in their stored order, with the test set."""
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


class EncodedImage(NamedTuple):
    """One image to decode."""

    position: int
    """Index in the decoded array."""
    where: str
    """File and, if any, row, for messages."""
    source: bytes | Path
    """The encoded image, or its file."""


class EncodedSplit(NamedTuple):
    """The images of one split, before decoding."""

    origin: Path
    """Common folder or file, for messages."""
    num_images: int
    batches: Callable[[], Iterable[Sequence[EncodedImage]]]
    """Returns every image once; each batch is decoded in parallel."""
    identity: Iterable[object]
    """Stamps of the files, as JSON values."""


def decode_splits(splits: Sequence[EncodedSplit], request: ImageRequest) -> list[Tensor]:
    """Decoded images uint8 (N, C, H, W) of every split, from the cache if possible.

    Raises:
        ConfigError: an image is damaged, or images differ in size and the request has no size.
    """
    identity = chain([request.identity()], *(chain([s.num_images], s.identity) for s in splits))

    def build() -> Arrays:
        arrays = {str(n): _decode_split(split, request) for n, split in enumerate(splits)}
        for split, array in zip(splits, arrays.values(), strict=True):
            if array.shape[1:] != arrays["0"].shape[1:]:
                raise ConfigError(
                    f"{request.key}: {split.origin} has images of {array.shape[1:]}, "
                    f"{splits[0].origin} of {arrays['0'].shape[1:]}; {_one_size(request.key)}"
                )
        return arrays

    found = cached_arrays(identity, build, request.key)
    return [torch.from_numpy(found[str(n)]) for n in range(len(splits))]


def _decode_split(split: EncodedSplit, request: ImageRequest) -> NDArray[np.uint8]:
    images: NDArray[np.uint8] | None = None
    with ThreadPoolExecutor() as pool:
        for batch in split.batches():
            decoded = pool.map(lambda encoded: _decode(encoded, request), batch)
            for encoded, image in zip(batch, decoded, strict=True):
                if images is None:
                    images = np.empty((split.num_images, *image.shape), np.uint8)
                if image.shape != images.shape[1:]:
                    raise ConfigError(
                        f"{request.key}: {split.origin} holds images of different sizes; "
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
        # Pillow's message for an unknown format contains a memory address.
        is_unknown = isinstance(err, UnidentifiedImageError)
        problem = "unknown format" if is_unknown else one_line(err)
        raise ConfigError(
            f"{request.key}: {encoded.where} is not a readable image: {problem}"
        ) from err


def to_tensor(image: Image.Image, color: bool) -> Tensor:
    """uint8 (3, H, W) if ``color``, else (1, H, W)."""
    if image.mode.startswith("I"):  # 16 bits, which Pillow would clip at 255
        image = Image.fromarray((np.array(image).clip(0, 65535) >> 8).astype(np.uint8))
    array = np.array(image.convert("RGB" if color else "L"))
    return torch.from_numpy(array[None] if array.ndim == 2 else array.transpose(2, 0, 1).copy())


def convert(images: Tensor, request: ImageRequest) -> Tensor:
    """uint8 (N, C, H, W) with the requested channels and size."""
    parts = images.split(_CONVERTED_AT_ONCE)
    return torch.cat([resize(to_channels(part, request.color), request.size) for part in parts])


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


def _one_size(key: str) -> str:
    """Advice about images of different sizes."""
    return "set task.image_size" if key == "task.dataset" else "images of one size are needed"
