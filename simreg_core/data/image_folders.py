"""Datasets of image files with one folder per class.

The label of a class is the rank of its folder in the training set, sorted by code points. Images
may be at any depth below a class folder that holds images itself. :mod:`simreg_core.data.listing`
says which files are read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from simreg_core.data.encoded import EncodedDataset, EncodedImage, EncodedSplit, decode_splits
from simreg_core.data.images import ImagePool, ImageRequest, PoolInfo, Split
from simreg_core.data.listing import SUFFIXES, Listing
from simreg_core.data.split_names import Role, split_in, split_of
from simreg_core.errors import ConfigError
from simreg_core.registry import dataset
from simreg_core.storage.array_cache import file_stamp

_DECODED_AT_ONCE = 1024
_FOR_IMAGES = ("data", "image", "images", "img", "imgs", "jpg", "jpeg", "png")


class _Files(NamedTuple):
    """The images of one split."""

    folder: Path
    classes: dict[str, int]
    """Name to label."""
    paths: list[str]
    labels: NDArray[np.int64]


@dataset("folder", takes_path=True)
def load_folder(request: ImageRequest) -> ImagePool:
    """``PATH/CLASS/*``; or ``PATH/train/CLASS/*``, with optional ``PATH/test`` and ``val``."""
    root = Path(request.path)
    _require_folder(root, "PATH/train/CLASS/*.png, or PATH/CLASS/*.png", request.key)
    listing = Listing(root, request.key)
    return _load(_find_splits(root, listing, request.key), listing, request)


@dataset("imagenet", takes_path=True)
def load_imagenet(request: ImageRequest) -> ImagePool:
    """``PATH/train/WNID/*.JPEG`` with ``PATH/val/WNID/*.JPEG``, if it exists, as test set."""
    train, val = Path(request.path) / "train", Path(request.path) / "val"
    _require_folder(train, "PATH/train/WNID/*.JPEG", request.key)
    splits: dict[Role, Path] = {"train": train, **({"test": val} if val.is_dir() else {})}
    return _load(splits, Listing(Path(request.path), request.key), request)


def _require_folder(folder: Path, expected: str, key: str) -> None:
    if not folder.is_dir():
        raise ConfigError(f"{key}: {folder} is not a folder (expected {expected})")


def _find_splits(root: Path, listing: Listing, key: str) -> dict[Role, Path]:
    """The folder of every split; the root as that of training images if it holds the classes."""
    names = listing.folders(root)
    roles = {name: split_of(name) for name in names}
    by_words = {name: role or split_in(name) for name, role in roles.items()}
    if None not in by_words.values() and not any(
        listing.has_images(root / name) for name, role in roles.items() if role is None
    ):
        roles = by_words  # such as seg_train and seg_test
    found: dict[Role, Path] = {}
    for name, role in roles.items():
        if role in found:
            raise ConfigError(
                f"{key}: {found[role]} and {root / name} are both named like a {role} set; "
                "rename one of them"
            )
        if role is not None:
            found[role] = root / name
    if not found:
        return {"train": root}
    others = [name for name, role in roles.items() if role is None]
    if "train" not in found or (others and not listing.folders(found["train"])):
        raise _no_class(next(iter(found.values())), root, key)
    listing.count_others(root)
    for name in others:
        listing.left_out.add_tree(str(root / name), f"in {name}, next to the splits")
    if "test" not in found and "validation" in found:
        found["test"] = found.pop("validation")
    return {role: _innermost(folder, role, listing) for role, folder in found.items()}


def _no_class(folder: Path, root: Path, key: str) -> ConfigError:
    return ConfigError(
        f"{key}: {folder} is named like a split, not like a class (expected {root}/train/CLASS/*, "
        f"or {root}/CLASS/*); a class of this name must be renamed, for example to "
        f"class_{folder.name}"
    )


def _innermost(folder: Path, role: Role, listing: Listing) -> Path:
    """``train/train`` for a folder ``train`` that holds nothing else, as unpacked archives do."""
    while len(inner := listing.folders(folder)) == 1 and not listing.has_images(folder / inner[0]):
        if role not in (split_of(inner[0]), split_in(inner[0])):
            break
        folder /= inner[0]
    return folder


def _load(folders: dict[Role, Path], listing: Listing, request: ImageRequest) -> ImagePool:
    key = request.key
    names = _class_names(folders["train"], listing, key)
    classes = {name: label for label, name in enumerate(names)}
    train = _find(folders["train"], classes, listing, key)
    others = [role for role in folders if role != "train"]

    def all_splits() -> list[_Files]:
        return [train, *(_find_held_out(folders[role], train, listing, key) for role in others)]

    if request.limit is None:
        found = all_splits()
    else:
        chosen = request.choose(len(train.paths))
        paths = [train.paths[i] for i in chosen]
        found = [train._replace(paths=paths, labels=train.labels[chosen])]
    encoded = [_encoded(files, len(train.paths), key) for files in found]

    def whole() -> list[EncodedSplit]:
        if request.limit is None:
            return encoded
        return [_encoded(files, len(train.paths), key) for files in all_splits()]

    images = decode_splits(EncodedDataset(encoded, whole), request)
    labels = [torch.from_numpy(files.labels) for files in found]
    first, *rest = map(Split, images, labels)
    held_out = dict(zip(others, rest, strict=False))
    info = PoolInfo(tuple(names), str(listing.left_out))
    return ImagePool(*first, held_out.get("test"), len(names), held_out.get("validation"), info)


def _encoded(files: _Files, num_train: int, key: str) -> EncodedSplit:
    def batches() -> Iterator[list[EncodedImage]]:
        for start in range(0, len(files.paths), _DECODED_AT_ONCE):
            part = files.paths[start : start + _DECODED_AT_ONCE]
            yield [EncodedImage(start + i, path, Path(path)) for i, path in enumerate(part)]

    stamps = (file_stamp(path, key) for path in files.paths)
    return EncodedSplit(files.folder, len(files.paths), batches, chain([num_train], stamps))


def _class_names(folder: Path, listing: Listing, key: str) -> list[str]:
    names = listing.folders(folder)
    if not names:
        raise ConfigError(
            f"{key}: {folder} holds no class folders (expected {folder}/CLASS/*; images outside of "
            "class folders have no labels)"
        )
    return names


def _find_held_out(folder: Path, train: _Files, listing: Listing, key: str) -> _Files:
    """The files of a test or validation set, whose classes must be those of the training set."""
    for name in _class_names(folder, listing, key):
        if name not in train.classes:
            raise ConfigError(
                f"{key}: class {name!r} is in {folder}, but not in {train.folder} "
                f"(which has {len(train.classes)} classes)"
            )
    return _find(folder, train.classes, listing, key)


def _find(folder: Path, classes: dict[str, int], listing: Listing, key: str) -> _Files:
    """Files in order of class and name."""
    paths: list[str] = []
    labels: list[int] = []
    listing.count_others(folder)
    for name in _class_names(folder, listing, key):
        if split_of(name) is not None:
            raise _no_class(folder / name, folder, key)
        in_class = listing.images(folder / name)
        if not in_class:
            raise ConfigError(
                f"{key}: class folder {folder / name} holds no images "
                f"(suffixes: {', '.join(SUFFIXES)})"
            )
        _require_own_images(folder / name, in_class, key)
        paths += in_class
        labels += [classes[name]] * len(in_class)
    return _Files(folder, classes, paths, np.array(labels, np.int64))


def _require_own_images(folder: Path, paths: Sequence[str], key: str) -> None:
    """Reject a class folder that holds only folders, which may be the classes of a split."""
    if any(os.path.dirname(path) == str(folder) for path in paths):
        return
    inner = sorted({Path(path).relative_to(folder).parts[0] for path in paths})
    if len(inner) > 1 or inner[0].lower() not in _FOR_IMAGES:
        shown = ", ".join(inner[:3]) + (", ..." if len(inner) > 3 else "")
        raise ConfigError(
            f"{key}: class folder {folder} holds only folders ({shown}), expected images; "
            f"if these are the classes, the dataset is {folder}"
        )
