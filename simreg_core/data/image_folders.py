"""Datasets of image files: one folder per class.

A class's label is the rank of its folder's name among those of the training set, sorted by code
points. Files are found at any depth below a class folder; hidden ones and those without the suffix
of an image format are ignored.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from simreg_core.data.images import (
    EncodedImage,
    ImagePool,
    ImageRequest,
    Split,
    decode_images,
    require_one_shape,
)
from simreg_core.errors import ConfigError
from simreg_core.registry import dataset
from simreg_core.storage.array_cache import cached_arrays, file_stamp

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
_DECODED_AT_ONCE = 1024


class _ImageFiles(NamedTuple):
    """Files in order of class and name, with their labels int64 (N,)."""

    folder: Path
    paths: list[str]
    labels: NDArray[np.int64]

    def take(self, index: NDArray[np.int64]) -> _ImageFiles:
        return _ImageFiles(self.folder, [self.paths[i] for i in index], self.labels[index])


@dataset("folder", takes_path=True)
def load_folder(request: ImageRequest) -> ImagePool:
    """``PATH/train/CLASS/*`` with maybe ``PATH/test`` or else ``PATH/val``, or ``PATH/CLASS/*``.

    Raises:
        ConfigError: there are no classes, one is empty or in the test set only, or an image is
            damaged; or the images differ in size and the request names none.
    """
    root = Path(request.path)
    if not root.is_dir():
        raise ConfigError(
            f"{request.key}: {root} is not a folder "
            "(expected PATH/train/CLASS/*.png, or PATH/CLASS/*.png)"
        )
    if not (root / "train").is_dir():
        return _load(root, None, request)
    tests = [root / name for name in ("test", "val") if (root / name).is_dir()]
    return _load(root / "train", tests[0] if tests else None, request)


@dataset("imagenet", takes_path=True)
def load_imagenet(request: ImageRequest) -> ImagePool:
    """``PATH/train/WNID/*.JPEG``, with ``PATH/val/WNID/*.JPEG`` as test set where it exists.

    Raises:
        ConfigError: as :func:`load_folder`.
    """
    train, val = Path(request.path) / "train", Path(request.path) / "val"
    if not train.is_dir():
        raise ConfigError(
            f"{request.key}: {train} is not a folder (expected PATH/train/WNID/*.JPEG)"
        )
    return _load(train, val if val.is_dir() else None, request)


def _load(train: Path, test: Path | None, request: ImageRequest) -> ImagePool:
    classes = {name: label for label, name in enumerate(_class_names(train, request.key))}
    files = _find(train, classes, request.key)
    found = {"images": files.take(request.choose(len(files.paths)))}
    if test is not None and request.limit is None:
        _require_known_classes(test, train, classes, request.key)
        found["test_images"] = _find(test, classes, request.key)
    arrays = cached_arrays(
        _identity(found, request),
        lambda: {name: _decode(files, request) for name, files in found.items()},
        request.key,
    )
    if "test_images" in arrays:
        pair = (arrays["images"], arrays["test_images"])
        require_one_shape(*pair, found["images"].folder, found["test_images"].folder, request.key)
    splits = {
        name: Split(torch.from_numpy(arrays[name]), torch.from_numpy(files.labels))
        for name, files in found.items()
    }
    return ImagePool(*splits["images"], splits.get("test_images"), len(classes))


def _identity(found: dict[str, _ImageFiles], request: ImageRequest) -> Iterator[object]:
    yield request.identity()
    for name, files in found.items():
        yield name
        yield from (file_stamp(path, request.key) for path in files.paths)


def _class_names(folder: Path, key: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            names = sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    except OSError as err:
        raise ConfigError(f"{key}: {folder} cannot be read: {err.strerror or err}") from err
    if not names:
        raise ConfigError(
            f"{key}: {folder} holds no class folders (expected {folder}/CLASS/*; images outside of "
            "class folders, such as a flat val/*.JPEG, have no labels)"
        )
    return names


def _require_known_classes(test: Path, train: Path, classes: dict[str, int], key: str) -> None:
    unknown = [name for name in _class_names(test, key) if name not in classes]
    if unknown:
        raise ConfigError(
            f"{key}: class {unknown[0]!r} is in {test}, but not in {train} "
            f"(which has {len(classes)} classes)"
        )


def _find(folder: Path, classes: dict[str, int], key: str) -> _ImageFiles:
    paths: list[str] = []
    labels: list[int] = []
    for name in _class_names(folder, key):
        in_class = sorted(_walk(folder / name, key))
        if not in_class:
            raise ConfigError(
                f"{key}: class folder {folder / name} holds no images "
                f"(suffixes: {', '.join(SUFFIXES)})"
            )
        paths += in_class
        labels += [classes[name]] * len(in_class)
    return _ImageFiles(folder, paths, np.array(labels, np.int64))


def _walk(folder: Path, key: str) -> Iterator[str]:
    def refuse(err: OSError) -> None:
        raise ConfigError(f"{key}: {err.filename} cannot be read: {err.strerror}") from err

    for parent, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith(".") and name.lower().endswith(SUFFIXES):
                yield os.path.join(parent, name)


def _decode(files: _ImageFiles, request: ImageRequest) -> NDArray[np.uint8]:
    return decode_images(_batches(files.paths), len(files.paths), request, files.folder)


def _batches(paths: Sequence[str]) -> Iterator[list[EncodedImage]]:
    for start in range(0, len(paths), _DECODED_AT_ONCE):
        part = paths[start : start + _DECODED_AT_ONCE]
        yield [EncodedImage(start + i, path, Path(path)) for i, path in enumerate(part)]
