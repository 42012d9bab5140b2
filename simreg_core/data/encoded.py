"""Datasets of encoded images, decoded once for all processes."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from simreg_core.data.decoding import UNREADABLE, Levels, UnknownLevels, measure, to_tensor
from simreg_core.data.images import (
    ImagePool,
    ImageRequest,
    PoolInfo,
    Split,
    require_size,
    resize,
)
from simreg_core.data.split_names import ROLES, Role
from simreg_core.errors import ConfigError, one_line
from simreg_core.storage.array_cache import Arrays, cached_arrays, file_stamp

Found = TypeVar("Found")
Indices = NDArray[np.int64]


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

    labels: Indices | str
    """Labels of all its images, or why there are none."""
    rows: Indices
    """The images to decode."""
    batches: Callable[[Indices], Iterable[Sequence[EncodedImage]]]
    """Returns each of these images once; a batch is decoded in parallel."""
    files: Callable[[Indices], Iterable[Path | str]]
    """Returns the files that these images depend on."""


def load_encoded(
    roles: Collection[Role],
    open_split: Callable[[Role], EncodedSplit],
    class_names: Sequence[str],
    request: ImageRequest,
) -> ImagePool:
    """The requested images of a dataset, from the cache if possible.

    A validation set serves as test set if there is none. Without labels in one of the splits, the
    dataset has no labels. ``open_split`` returns all images of a split.

    Raises:
        ConfigError: an image is damaged or would not show what its file shows, or images differ in
            size and the request has no size.
    """
    ordered = [role for role in ROLES if role in roles]
    opened = {role: open_split(role) for role in ordered[: None if request.limit is None else 1]}
    num_train = len(opened["train"].rows)
    splits = {**opened, "train": opened["train"]._replace(rows=request.choose(num_train))}

    def identity() -> Iterator[object]:
        yield from (request.identity(), num_train)
        for role, split in splits.items():
            yield role, len(split.rows)
            yield from (file_stamp(path) for path in split.files(split.rows))

    def build() -> Arrays:
        try:
            return _decode_splits(splits, request, None)
        except UnknownLevels:
            whole = [opened.get(role) or open_split(role) for role in ordered]
            return _decode_splits(splits, request, _measure(whole))

    arrays = cached_arrays(identity(), build)
    found: dict[Role, Split] = {}
    num_classes = len(class_names)
    for role, split in splits.items():
        if isinstance(split.labels, str):
            info = PoolInfo(no_labels=split.labels)
            images = torch.from_numpy(arrays["train"])
            return ImagePool(images, None, None, 0, info=info, num_stored=num_train)
        num_classes = max(num_classes, int(split.labels.max()) + 1)
        labels = torch.from_numpy(split.labels[split.rows])
        found[role] = Split(torch.from_numpy(arrays[role]), labels)
    return ImagePool.of_splits(found, num_classes, num_stored=num_train)


def _decode_splits(
    splits: Mapping[Role, EncodedSplit],
    request: ImageRequest,
    levels: Mapping[str, Levels] | None,
) -> Arrays:
    """Arrays uint8 (N, C, H, W) by role."""
    arrays: dict[str, NDArray[np.uint8]] = {}
    shape: tuple[int, ...] = ()
    with ThreadPoolExecutor() as pool:
        for role, split in splits.items():
            for batch in split.batches(split.rows):
                decoded = pool.map(lambda encoded: _decode(encoded, request, levels), batch)
                for encoded, image in zip(batch, decoded, strict=True):
                    shape = shape or image.shape
                    require_size(image.shape, shape, encoded.where)
                    if role not in arrays:
                        arrays[role] = np.empty((len(split.rows), *shape), np.uint8)
                    arrays[role][encoded.position] = image
    return arrays


def _measure(splits: Iterable[EncodedSplit]) -> dict[str, Levels]:
    """The levels of all wide images, by kind."""
    levels: dict[str, Levels] = {}
    with ThreadPoolExecutor() as pool:
        for split in splits:
            for batch in split.batches(split.rows):
                for found in pool.map(lambda encoded: _open(encoded, measure), batch):
                    if found is not None:
                        kind, own = found
                        levels[kind] = own.join(levels.get(kind, own))
    return levels


def _decode(
    encoded: EncodedImage, request: ImageRequest, levels: Mapping[str, Levels] | None
) -> NDArray[np.uint8]:
    tensor = _open(encoded, lambda image: to_tensor(image, request.color, levels))
    return resize(tensor[None], request.size)[0].numpy()


def _open(encoded: EncodedImage, read: Callable[[Image.Image], Found]) -> Found:
    """What is read from an image; errors of Pillow name the file."""
    try:
        data = encoded.source if isinstance(encoded.source, bytes) else encoded.source.read_bytes()
    except OSError as err:
        raise ConfigError(f"{encoded.where} cannot be read: {err.strerror or err}") from err
    try:
        with Image.open(io.BytesIO(data)) as image:
            # Cameras put a preview after the photograph (MPO).
            if getattr(image, "is_animated", False) and image.format != "MPO":
                raise ValueError("it has several pages or frames; allowed: one")
            return read(image)
    except UNREADABLE as err:
        # Pillow's message for an unknown format contains a memory address.
        is_unknown = isinstance(err, UnidentifiedImageError)
        problem = "unknown format" if is_unknown else one_line(err)
        raise ConfigError(f"{encoded.where} is not a readable image: {problem}") from err
