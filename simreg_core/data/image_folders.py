"""Datasets of image files with one folder per class.

The label of a class is the rank of its folder in the training set, sorted by code points. Images
may be at any depth below a class folder. Hidden files and files without the suffix of an image
format are ignored.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from simreg_core.data.images import (
    EncodedImage,
    EncodedSplit,
    ImagePool,
    ImageRequest,
    Split,
    decode_splits,
)
from simreg_core.errors import ConfigError
from simreg_core.registry import dataset
from simreg_core.storage.array_cache import file_stamp

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
_DECODED_AT_ONCE = 1024


@dataset("folder", takes_path=True)
def load_folder(request: ImageRequest) -> ImagePool:
    """``PATH/CLASS/*``; or ``PATH/train/CLASS/*``, with optional ``PATH/test`` or ``val``."""
    root = Path(request.path)
    _require_folder(root, "PATH/train/CLASS/*.png, or PATH/CLASS/*.png", request.key)
    if not (root / "train").is_dir():
        return _load(root, None, request)
    tests = [root / name for name in ("test", "val") if (root / name).is_dir()]
    return _load(root / "train", tests[0] if tests else None, request)


@dataset("imagenet", takes_path=True)
def load_imagenet(request: ImageRequest) -> ImagePool:
    """``PATH/train/WNID/*.JPEG`` with ``PATH/val/WNID/*.JPEG``, if it exists, as test set."""
    train, val = Path(request.path) / "train", Path(request.path) / "val"
    _require_folder(train, "PATH/train/WNID/*.JPEG", request.key)
    return _load(train, val if val.is_dir() else None, request)


def _require_folder(folder: Path, expected: str, key: str) -> None:
    if not folder.is_dir():
        raise ConfigError(f"{key}: {folder} is not a folder (expected {expected})")


def _load(train: Path, test: Path | None, request: ImageRequest) -> ImagePool:
    classes = {name: label for label, name in enumerate(_class_names(train, request.key))}
    paths, labels = _find(train, classes, request.key)
    chosen = request.choose(len(paths))
    labelled = [(train, [paths[i] for i in chosen], labels[chosen])]
    if test is not None and request.limit is None:
        if unknown := [name for name in _class_names(test, request.key) if name not in classes]:
            raise ConfigError(
                f"{request.key}: class {unknown[0]!r} is in {test}, but not in {train} "
                f"(which has {len(classes)} classes)"
            )
        labelled.append((test, *_find(test, classes, request.key)))
    encoded = [_encoded(folder, paths, request.key) for folder, paths, _ in labelled]
    images = decode_splits(encoded, request)
    splits = [Split(i, torch.from_numpy(y)) for i, (*_, y) in zip(images, labelled, strict=True)]
    return ImagePool(*splits[0], splits[1] if len(splits) == 2 else None, len(classes))


def _encoded(folder: Path, paths: Sequence[str], key: str) -> EncodedSplit:
    def batches() -> Iterator[list[EncodedImage]]:
        for start in range(0, len(paths), _DECODED_AT_ONCE):
            part = paths[start : start + _DECODED_AT_ONCE]
            yield [EncodedImage(start + i, path, Path(path)) for i, path in enumerate(part)]

    return EncodedSplit(folder, len(paths), batches, (file_stamp(path, key) for path in paths))


def _class_names(folder: Path, key: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            names = sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    except OSError as err:
        raise ConfigError(f"{key}: {folder} cannot be read: {err.strerror or err}") from err
    if not names:
        raise ConfigError(
            f"{key}: {folder} holds no class folders (expected {folder}/CLASS/*; images outside of "
            "class folders have no labels)"
        )
    return names


def _find(folder: Path, classes: dict[str, int], key: str) -> tuple[list[str], NDArray[np.int64]]:
    """Files in order of class and name, and their labels int64 (N,)."""
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
    return paths, np.array(labels, np.int64)


def _walk(folder: Path, key: str) -> Iterator[str]:
    def refuse(err: OSError) -> None:
        raise ConfigError(f"{key}: {err.filename} cannot be read: {err.strerror}") from err

    for parent, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith(".") and name.lower().endswith(SUFFIXES):
                yield os.path.join(parent, name)
