"""Decodes the images of whole splits, once for all processes."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from simreg_core.data.decoding import UNREADABLE, Levels, measure, to_tensor
from simreg_core.data.images import ImageRequest, resize
from simreg_core.errors import ConfigError, one_line
from simreg_core.storage.array_cache import Arrays, cached_arrays


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


class EncodedDataset(NamedTuple):
    """The splits to decode, and all splits of the same dataset."""

    splits: Sequence[EncodedSplit]
    whole: Callable[[], Sequence[EncodedSplit]]
    """Called only if there are images whose values are scaled by the range of all of them."""


def decode_splits(dataset: EncodedDataset, request: ImageRequest) -> list[Tensor]:
    """Decoded images uint8 (N, C, H, W) of every split, from the cache if possible.

    Raises:
        ConfigError: an image is damaged or would not show what its file shows, or images differ in
            size and the request has no size.
    """
    splits = dataset.splits
    identity = chain([request.identity()], *(chain([s.num_images], s.identity) for s in splits))

    def build() -> Arrays:
        ranges = _Ranges(dataset.whole, request.key)
        arrays = {str(n): _decode_split(split, request, ranges) for n, split in enumerate(splits)}
        for split, array in zip(splits, arrays.values(), strict=True):
            if array.shape[1:] != arrays["0"].shape[1:]:
                raise ConfigError(
                    f"{request.key}: {split.origin} has images of {array.shape[1:]}, "
                    f"{splits[0].origin} of {arrays['0'].shape[1:]}; {_one_size(request.key)}"
                )
        return arrays

    found = cached_arrays(identity, build, request.key)
    return [torch.from_numpy(found[str(n)]) for n in range(len(splits))]


def _decode_split(split: EncodedSplit, request: ImageRequest, ranges: _Ranges) -> NDArray[np.uint8]:
    images: NDArray[np.uint8] | None = None
    with ThreadPoolExecutor() as pool:
        for batch in split.batches():
            decoded = pool.map(lambda encoded: _decode(encoded, request, ranges), batch)
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


class _Ranges:
    """The levels of the wide images of a dataset, measured when the first one is met."""

    def __init__(self, whole: Callable[[], Sequence[EncodedSplit]], key: str) -> None:
        self._whole, self._key = whole, key
        self._lock = threading.Lock()
        self._levels: dict[str, Levels] | None = None

    def of(self, kind: str) -> Levels | None:
        with self._lock:
            if self._levels is None:
                self._levels = self._measure()
        return self._levels.get(kind)

    def _measure(self) -> dict[str, Levels]:
        levels: dict[str, Levels] = {}
        with ThreadPoolExecutor() as pool:
            for split in self._whole():
                for batch in split.batches():
                    for found in pool.map(self._measure_one, batch):
                        if found is not None:
                            kind, own = found
                            levels[kind] = own.join(levels.get(kind, own))
        return levels

    def _measure_one(self, encoded: EncodedImage) -> tuple[str, Levels] | None:
        with _opened(encoded, self._key) as image:
            return measure(image)


def _decode(encoded: EncodedImage, request: ImageRequest, ranges: _Ranges) -> NDArray[np.uint8]:
    with _opened(encoded, request.key) as image:
        tensor = to_tensor(image, request.color, ranges.of)
    return resize(tensor[None], request.size)[0].numpy()


@contextmanager
def _opened(encoded: EncodedImage, key: str) -> Iterator[Image.Image]:
    """An image that is not loaded yet; errors of Pillow name the file."""
    try:
        data = encoded.source if isinstance(encoded.source, bytes) else encoded.source.read_bytes()
    except OSError as err:
        raise ConfigError(f"{key}: {encoded.where} cannot be read: {err.strerror or err}") from err
    try:
        with Image.open(io.BytesIO(data)) as image:
            yield image
    except ConfigError:  # of another image, while the range of all was measured
        raise
    except UNREADABLE as err:
        # Pillow's message for an unknown format contains a memory address.
        is_unknown = isinstance(err, UnidentifiedImageError)
        problem = "unknown format" if is_unknown else one_line(err)
        raise ConfigError(f"{key}: {encoded.where} is not a readable image: {problem}") from err


def _one_size(key: str) -> str:
    """Advice about images of different sizes."""
    return "set task.image_size" if key == "task.dataset" else "images of one size are needed"
