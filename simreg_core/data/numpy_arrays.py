"""Datasets that are stored as arrays of pixels, among them NumPy's ``.npz`` files."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from tokenize import TokenError
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simreg_core.data.images import ImagePool, ImageRequest, PoolInfo, Split, convert, require_size
from simreg_core.data.split_names import ROLES, Role, one_per_role, split_of
from simreg_core.errors import ConfigError, concerning, one_line
from simreg_core.registry import dataset
from simreg_core.storage.array_cache import Arrays, cached_arrays, file_stamp

_IMAGES = re.compile(r"[xX]_(?P<x>.+)|(?P<split>.+)_images")

# Exceptions of NumPy and its libraries for damaged, encrypted and too large files.
_DAMAGED = (OSError, ValueError, EOFError, RuntimeError, MemoryError, LookupError)
_UNREADABLE = (*_DAMAGED, zipfile.BadZipFile, zlib.error, TokenError)

StoredSplits = Mapping[Role, tuple[Tensor, Tensor | None]]
"""Images uint8 (N, C, H, W) and labels int64 (N,) of every split, as stored."""


@dataset("npz", argument="PATH")
def load_npz(request: ImageRequest) -> ImagePool:
    """The NumPy file ``PATH`` with arrays ``x_train``, ``y_train``, ``x_test`` and ``y_test``."""
    path = request.path
    stamp = file_stamp(path)
    with concerning(path):
        keys, _ = _arrays(path)
        names = _names(keys)
        absent = [label for _, label in names.values() if label not in keys]

        def read() -> StoredSplits:
            _, found = _arrays(path, [key for pair in names.values() for key in pair])
            return {role: _checked(found, *pair) for role, pair in names.items()}

        pool = load_arrays(["npz", stamp], read, request)
    reason = f"{path} has no array {absent[0]} (found: {', '.join(keys[:6])})" if absent else ""
    return pool._replace(info=PoolInfo(no_labels=reason))


def _arrays(path: str, wanted: Iterable[str] = ()) -> tuple[list[str], dict[str, NDArray[Any]]]:
    """The names of all arrays, and those of the wanted ones that exist."""
    try:
        with (
            open(path, "rb") as stream,
            np.lib.npyio.NpzFile(stream, allow_pickle=False) as archive,
        ):
            keys = archive.files
            return keys, {key: np.asarray(archive[key]) for key in wanted if key in keys}
    except _UNREADABLE as err:
        raise ConfigError(f"not a readable .npz file of arrays: {one_line(err)}") from err


def _names(keys: list[str]) -> dict[Role, tuple[str, str]]:
    """The names of the images and of the labels of every split."""
    matches = {key: match for key in keys if (match := _IMAGES.fullmatch(key))}
    found = one_per_role({key: split_of(m["x"] or m["split"]) for key, m in matches.items()})
    if "train" not in found:
        raise ConfigError(
            f"no array x_train (found: {', '.join(keys[:6]) or 'no arrays'}; allowed: x_train, "
            "y_train, x_test, y_test, x_val, y_val; or train_images, train_labels and so on)"
        )
    labels = {
        key: f"{m['split']}_labels" if m["split"] else f"y_{m['x']}" for key, m in matches.items()
    }
    return {role: (key, labels[key]) for role, key in found.items()}


def _checked(
    arrays: Mapping[str, NDArray[Any]], key: str, label_key: str
) -> tuple[Tensor, Tensor | None]:
    images, labels = arrays[key], arrays.get(label_key)
    has_shape = images.ndim == 3 or (images.ndim == 4 and images.shape[3] in (1, 3))
    if images.dtype != np.uint8 or not has_shape or not images.size:
        raise ConfigError(
            f"{key} must be uint8 (N, H, W) or (N, H, W, C) with C = 1 or 3, found "
            f"{images.dtype} {images.shape}"
        )
    pixels = torch.from_numpy(images.reshape(*images.shape[:3], -1)).permute(0, 3, 1, 2)
    if labels is None:
        return pixels, None
    shapes = (len(images),), (len(images), 1)
    is_integer = labels.dtype.kind in "iu" and labels.shape in shapes
    if not is_integer or labels.min() < 0:
        raise ConfigError(
            f"{label_key} must be integers from 0, {shapes[0]} or {shapes[1]}, found "
            f"{labels.min() if is_integer else f'{labels.dtype} {labels.shape}'}"
        )
    return pixels, torch.from_numpy(labels.reshape(-1).astype(np.int64))


def load_arrays(
    identity: Iterable[object], read: Callable[[], StoredSplits], request: ImageRequest
) -> ImagePool:
    """The requested images of a dataset of arrays, from the cache if possible.

    Without labels in one of the splits, the dataset has no labels. ``identity`` is everything but
    the request that the arrays depend on, as JSON values.
    """

    def build() -> Arrays:
        splits = read()
        arrays: dict[str, NDArray[Any]] = {}
        for role in ROLES[: None if request.limit is None else 1]:
            if role not in splits:
                continue
            images, labels = splits[role]
            chosen = np.arange(len(images))
            if role == "train":
                arrays["num_stored"] = np.array(len(images))
                chosen = request.choose(len(images))
            arrays[role] = convert(images[torch.from_numpy(chosen)], request).numpy()
            require_size(arrays[role].shape[1:], arrays["train"].shape[1:], f"{role} set")
            if labels is not None:
                arrays[f"{role}_labels"] = labels.numpy()[chosen]
        return arrays

    stored = cached_arrays([*identity, request.identity()], build)
    arrays = {name: torch.from_numpy(array) for name, array in stored.items()}
    num_stored = int(arrays["num_stored"])
    roles = [role for role in ROLES if role in arrays]
    if not all(f"{role}_labels" in arrays for role in roles):
        return ImagePool(arrays["train"], None, None, 0, num_stored=num_stored)
    splits = {role: Split(arrays[role], arrays[f"{role}_labels"]) for role in roles}
    num_classes = 1 + max(int(split.labels.max()) for split in splits.values())
    return ImagePool.of_splits(splits, num_classes, num_stored=num_stored)
