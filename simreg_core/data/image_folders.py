"""Datasets of image files with one folder per class.

The label of a class is the rank of its folder in the training set, sorted by code points. Images
may be at any depth below a class folder that holds images itself. :mod:`simreg_core.data.listing`
says which files are read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from simreg_core.data.encoded import EncodedImage, EncodedSplit, Indices, load_encoded
from simreg_core.data.images import ImagePool, ImageRequest, PoolInfo
from simreg_core.data.listing import SUFFIXES, Listing
from simreg_core.data.split_names import Role, one_per_role, split_in, split_of
from simreg_core.errors import ConfigError, counted
from simreg_core.registry import dataset

_DECODED_AT_ONCE = 1024
_FOR_IMAGES = ("data", "image", "images", "img", "imgs", "jpg", "jpeg", "png")


@dataset("folder", argument="PATH")
def load_folder(request: ImageRequest) -> ImagePool:
    """``PATH/CLASS/*``; or ``PATH/train/CLASS/*``, with optional ``PATH/test`` and ``val``."""
    listing = Listing(Path(request.path))
    _require_folder(listing.root, "PATH/train/CLASS/*.png, or PATH/CLASS/*.png")
    return _load(_find_splits(listing), listing, request)


@dataset("imagenet", argument="PATH")
def load_imagenet(request: ImageRequest) -> ImagePool:
    """``PATH/train/WNID/*.JPEG`` with ``PATH/val/WNID/*.JPEG``, if it exists, as test set."""
    train, val = Path(request.path) / "train", Path(request.path) / "val"
    _require_folder(train, "PATH/train/WNID/*.JPEG")
    splits: dict[Role, Path] = {"train": train, **({"validation": val} if val.is_dir() else {})}
    return _load(splits, Listing(Path(request.path)), request)


def _require_folder(folder: Path, expected: str) -> None:
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder (expected {expected})")


def _find_splits(listing: Listing) -> dict[Role, Path]:
    """The folder of every split; the root as that of training images if it holds the classes."""
    root = listing.root
    roles = {name: split_of(name) for name in listing.folders(root)}
    by_words = {name: role or split_in(name) for name, role in roles.items()}
    if None not in by_words.values() and not any(
        listing.has_images(root / name) for name, role in roles.items() if role is None
    ):
        roles = by_words  # such as seg_train and seg_test
    named = one_per_role({str(root / name): role for name, role in roles.items()})
    found = {role: Path(folder) for role, folder in named.items()}
    if not found:
        return {"train": root}
    others = [name for name, role in roles.items() if role is None]
    if "train" not in found or (others and not listing.folders(found["train"])):
        raise _no_class(next(iter(found.values())), root)
    listing.count_others(root)
    for name in others:
        listing.leave_out(root / name, f"in {name}, next to the splits")
    return {role: _innermost(folder, role, listing) for role, folder in found.items()}


def _no_class(folder: Path, root: Path) -> ConfigError:
    return ConfigError(
        f"{folder} is named like a split, not like a class (expected {root}/train/CLASS/*, "
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


def _load(folders: Mapping[Role, Path], listing: Listing, request: ImageRequest) -> ImagePool:
    classes = _class_names(folders["train"], listing)

    def open_split(role: Role) -> EncodedSplit:
        return _open(folders[role], classes, folders["train"], listing)

    pool = load_encoded(folders, open_split, classes, request)
    return pool._replace(info=PoolInfo(tuple(classes), listing.left_out_text()))


def _class_names(folder: Path, listing: Listing) -> list[str]:
    names = listing.folders(folder)
    if not names:
        raise ConfigError(
            f"{folder} holds no class folders (expected {folder}/CLASS/*; images outside of "
            "class folders have no labels)"
        )
    return names


def _open(folder: Path, classes: Sequence[str], train: Path, listing: Listing) -> EncodedSplit:
    """The images of a split in order of class and name; ``train`` is the folder of the classes."""
    paths: list[str] = []
    labels: list[int] = []
    names = _class_names(folder, listing)
    listing.count_others(folder)
    for name in names:
        if name not in classes:
            raise ConfigError(
                f"class {name!r} is in {folder}, but not in {train} "
                f"(which has {counted(len(classes), 'class')})"
            )
        if split_of(name) is not None:
            raise _no_class(folder / name, folder)
        found = _images(folder / name, listing)
        paths += found
        labels += [classes.index(name)] * len(found)

    def batches(rows: Indices) -> Iterator[list[EncodedImage]]:
        for start in range(0, len(rows), _DECODED_AT_ONCE):
            part = [paths[row] for row in rows[start : start + _DECODED_AT_ONCE]]
            yield [EncodedImage(start + i, path, Path(path)) for i, path in enumerate(part)]

    return EncodedSplit(
        np.array(labels, np.int64),
        np.arange(len(paths)),
        batches,
        lambda rows: [paths[row] for row in rows],
    )


def _images(folder: Path, listing: Listing) -> list[str]:
    """The images of a class folder, which may not hold folders only: these may be the classes."""
    paths = listing.images(folder)
    if not paths:
        raise ConfigError(
            f"class folder {folder} holds no images (suffixes: {', '.join(SUFFIXES)})"
        )
    if any(os.path.dirname(path) == str(folder) for path in paths):
        return paths
    inner = sorted({Path(path).relative_to(folder).parts[0] for path in paths})
    if len(inner) > 1 or inner[0].lower() not in _FOR_IMAGES:
        shown = ", ".join(inner[:3]) + (", ..." if len(inner) > 3 else "")
        raise ConfigError(
            f"class folder {folder} holds only folders ({shown}), expected images; if these "
            f"are the classes, the dataset is {folder}, or {folder.name} is a split and must be "
            "named train, val or test"
        )
    return paths
