"""One image file as a tensor of 8-bit values, with Pillow.

* An image stands upright: its EXIF orientation is applied.
* Transparent images are composited on white.
* Wide values (32-bit integers, floats and 16-bit greys) are scaled to 0..255 by the range of these
  values in the whole dataset, so that equal values look equal in all of its images. If no value is
  negative, integers are scaled by the number of bits that they use: 12-bit data lose their last 4
  bits. All others are scaled linearly, from the smallest value to the largest.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps
from PIL.Image import DecompressionBombError
from torch import Tensor

# Exceptions of Pillow for damaged data, depending on the format.
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, DecompressionBombError)
_BROKEN_EXIF = (*UNREADABLE, LookupError, TypeError, AttributeError)

_PHOTOMETRIC, _SAMPLE_FORMAT = 262, 339  # tags of TIFF
_WHITE_IS_ZERO, _UNSIGNED = 0, 1  # their values
_LEAST_COLOR = 16  # 8-bit values below this come from at most 12 of 16 bits
_WHITE = (255, 255, 255, 255)


class Levels(NamedTuple):
    """The smallest and the largest value of one kind of wide images."""

    low: float
    high: float

    def join(self, other: Levels) -> Levels:
        """The levels of both."""
        return Levels(min(self.low, other.low), max(self.high, other.high))


class UnknownLevels(Exception):
    """An image has wide values, whose levels in the whole dataset are not known yet."""


def measure(image: Image.Image) -> tuple[str, Levels] | None:
    """Kind and levels of an image with wide values; None for all others.

    Raises:
        one of UNREADABLE: the image is damaged, or a value is not finite.
    """
    kind = _kind(image)
    if kind is None:
        return None
    values = _values(image)
    return kind, Levels(values.min().item(), values.max().item())


def to_tensor(
    image: Image.Image, color: bool, levels: Mapping[str, Levels] | None = None
) -> Tensor:
    """uint8 (3, H, W) if ``color``, else (1, H, W; ITU-R 601 luma).

    Raises:
        one of UNREADABLE: the image is damaged, or what it shows would be lost.
        UnknownLevels: it has wide values, and ``levels``, those of the dataset by kind, are None.
    """
    kind = _kind(image)
    shown = image
    if kind is not None:
        if levels is None:
            raise UnknownLevels
        if kind in _WIDE_GREYS:
            shown = Image.fromarray(_scale(_values(image), levels[kind]))
            if _tag(image, _PHOTOMETRIC) == _WHITE_IS_ZERO:
                shown = shown.point([255 - value for value in range(256)])
        elif levels[kind].high < _LEAST_COLOR:
            raise ValueError("its 16-bit colors use 12 bits or fewer; store it with 8 bits")
    elif image.has_transparency_data:
        shown = _on_white(image)
    array = np.array(_upright(shown.convert("RGB" if color else "L"), image))
    return torch.from_numpy(array[None] if array.ndim == 2 else array.transpose(2, 0, 1).copy())


_WIDE_GREYS = ("I", "I;16", "F")


def _kind(image: Image.Image) -> str | None:
    """``I``, ``I;16``, ``F``, or the mode of 16-bit colors, which Pillow reads as 8 bits."""
    if image.mode in ("I", "F"):
        return image.mode
    if image.mode.startswith("I;16"):  # in either byte order
        return "I;16"
    arguments = [tile[3] for tile in getattr(image, "tile", ())]  # gone once the image is loaded
    stored = [args[0] if isinstance(args, tuple) and args else args for args in arguments]
    is_wide = any(isinstance(name, str) and ";16" in name for name in stored)
    return f"{image.mode};16" if is_wide else None


def _values(image: Image.Image) -> NDArray[Any]:
    """All values of a wide image, without transparency."""
    if image.mode.startswith("I;16") and "transparency" in image.info:
        raise ValueError("transparent 16-bit greys are not supported")
    array = np.array(image)
    if image.mode == "F" and not np.isfinite(array).all():
        raise ValueError("a value is not finite")
    if image.mode == "I" and _tag(image, _SAMPLE_FORMAT) == _UNSIGNED:  # Pillow reads them signed
        array = array.view(np.uint32)
    if image.mode.lower() in ("la", "rgba"):
        array = array[..., :-1]
    return array.astype(np.float64 if image.mode == "F" else np.int64)


def _tag(image: Image.Image, number: int) -> int | None:
    """The value, or the first of the values, of a TIFF tag."""
    value: Any = getattr(image, "tag_v2", {}).get(number)
    first: int | None = value[0] if isinstance(value, tuple) and value else value
    return first


def _scale(values: NDArray[Any], levels: Levels) -> NDArray[np.uint8]:
    """Values within the levels to 0..255, see the top of this module."""
    low, high = levels
    if values.dtype.kind == "f" or low < 0:
        span = (high - low) or 1.0
        scaled = np.rint((values - low) * (255 / span))
    else:
        depth = int(high).bit_length()
        if depth <= 4:
            scaled = values * 255 // (1, 1, 3, 15, 15)[depth]  # formats have 1, 2 or 4 bits
        else:
            scaled = values >> max(depth + depth % 2 - 8, 0)  # sensors have 8, 10, ..., 16 bits
    clipped: NDArray[np.uint8] = scaled.clip(0, 255).astype(np.uint8)
    return clipped


def _on_white(image: Image.Image) -> Image.Image:
    """A transparent image composited on white."""
    if image.mode == "La":  # which Pillow converts to LA only
        image = image.convert("LA")
    rgba = image.convert("RGBA")
    flat = Image.alpha_composite(Image.new("RGBA", rgba.size, _WHITE), rgba).convert("RGB")
    if _is_constant(flat) and not _is_constant(rgba):
        raise ValueError(
            "nothing of it is visible on a white ground; store it without transparency"
        )
    return flat


def _is_constant(image: Image.Image) -> bool:
    array = np.array(image)
    return bool((array == array[0, 0]).all())


def _upright(shown: Image.Image, image: Image.Image) -> Image.Image:
    """``shown``, turned as the EXIF data of the loaded ``image`` say."""
    shown.info = {}
    with suppress(*_BROKEN_EXIF):  # viewers show such images as they are stored
        orientation = ExifTags.Base.Orientation
        shown.getexif()[orientation] = image.getexif().get(orientation, 1)
    return ImageOps.exif_transpose(shown)
