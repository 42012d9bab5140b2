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
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image
from torch import Tensor

# Exceptions of Pillow for damaged data, depending on the format.
UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    Image.DecompressionBombError,
)
_BROKEN_EXIF = (*UNREADABLE, KeyError, TypeError, IndexError, AttributeError)

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PHOTOMETRIC, _SAMPLE_FORMAT = 262, 339  # tags of TIFF
_WHITE_IS_ZERO, _UNSIGNED = 0, 1  # their values
_SMALL_DEPTHS = (1, 2, 4)  # those below 8 bits that image formats have
_LEAST_COLOR = 16  # 8-bit values below this come from at most 12 of 16 bits
_WHITE = (255, 255, 255, 255)


class Levels(NamedTuple):
    """The smallest and the largest value of one kind of wide images."""

    low: float
    high: float

    def join(self, other: Levels) -> Levels:
        """The levels of both."""
        return Levels(min(self.low, other.low), max(self.high, other.high))


LevelsOf = Callable[[str], Levels | None]
"""Kind of wide images to the levels of the dataset; None: those of the image itself."""


def measure(image: Image.Image) -> tuple[str, Levels] | None:
    """Kind and levels of an image with wide values; None for all others.

    Raises:
        one of UNREADABLE: the image is damaged, or a value is not finite.
    """
    kind = _kind(image)
    return None if kind is None else (kind, _levels(_values(image)))


def to_tensor(image: Image.Image, color: bool, levels_of: LevelsOf = lambda kind: None) -> Tensor:
    """uint8 (3, H, W) if ``color``, else (1, H, W; ITU-R 601 luma).

    Raises:
        one of UNREADABLE: the image is damaged, or what it shows would be lost.
    """
    kind = _kind(image)
    shown = image
    if kind is not None:
        values = _values(image)
        levels = levels_of(kind) or _levels(values)
        if kind in _WIDE_GREYS:
            shown = Image.fromarray(_scale(values, levels))
            if _tag(image, _PHOTOMETRIC) == _WHITE_IS_ZERO:
                shown = shown.point([255 - value for value in range(256)])
        elif levels.high < _LEAST_COLOR:
            raise ValueError("its 16-bit colors use 12 bits or fewer; store it with 8 bits")
    elif image.has_transparency_data:
        shown = _on_white(image)
    shown = shown.convert("RGB" if color else "L")
    orientation = _orientation(image)
    if orientation in _UPRIGHT:
        shown = shown.transpose(_UPRIGHT[orientation])
    array = np.array(shown)
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


def _levels(values: NDArray[Any]) -> Levels:
    return Levels(values.min().item(), values.max().item())


def _scale(values: NDArray[Any], levels: Levels) -> NDArray[np.uint8]:
    """Values within the levels to 0..255, see the top of this module."""
    low, high = levels
    if values.dtype.kind == "f" or low < 0:
        span = (high - low) or 1.0
        scaled = np.rint((values - low) * (255 / span))
    else:
        depth = int(high).bit_length()
        if depth <= _SMALL_DEPTHS[-1]:
            depth = next(small for small in _SMALL_DEPTHS if depth <= small)
            scaled = values * 255 // (2**depth - 1)
        else:
            depth += depth % 2  # sensors have 8, 10, 12, 14 or 16 bits
            scaled = values >> max(depth - 8, 0)
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


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 if there is none."""
    image.load()  # which makes a TIFF upright
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except _BROKEN_EXIF:  # viewers show such images as they are stored
        return 1
