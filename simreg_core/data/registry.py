"""Load a dataset by its name.

A dataset is a function from an :class:`~simreg_core.data.images.ImageRequest` to an
:class:`~simreg_core.data.images.ImagePool`, declared with :func:`simreg_core.registry.dataset`.
:mod:`simreg_core.data.bundled` has examples.
"""

from __future__ import annotations

import torch
from torch import Tensor

from simreg_core.config.trial import require_dataset
from simreg_core.data.images import ImagePool, ImageRequest
from simreg_core.errors import ConfigError
from simreg_core.plugins import foreign_code
from simreg_core.registry import DATASETS, Dataset


def load_dataset(
    name: str, *, color: bool, size: int | None, key: str, limit: int | None = None, seed: int = 0
) -> ImagePool:
    """The images of a dataset with the requested channels and size.

    ``name`` is the name of a dataset, ``NAME:PATH`` or ``module:function``. For the other
    arguments see :class:`~simreg_core.data.images.ImageRequest`.

    Raises:
        ConfigError: a file is missing, damaged, or does not have the expected layout.
    """
    try:
        require_dataset(name)
        kind, _, path = name.partition(":")
        found = DATASETS.known[kind] if kind in DATASETS.known else DATASETS.get(name)
    except ValueError as err:
        raise ConfigError(f"{key}: {err}") from err
    request = ImageRequest(color, size, key, limit, seed, path)
    return _foreign_pool(found, request) if found.is_foreign else found(request)


def _foreign_pool(dataset: Dataset, request: ImageRequest) -> ImagePool:
    """What a foreign dataset returns, checked."""
    where = f"{request.key}: {dataset.name}"
    with foreign_code(where):
        pool = dataset(request)
    if not isinstance(pool, ImagePool):
        raise ConfigError(f"{where}: expected an ImagePool, found {type(pool).__name__}")
    held_out = [split for split in (pool.test, pool.validation) if split is not None]
    for images, labels in ((pool.images, pool.labels), *held_out):
        _check_images(where, images, request)
        if labels is not None:
            _check_labels(where, labels, len(images), pool.num_classes)
    return pool


def _check_images(where: str, images: Tensor, request: ImageRequest) -> None:
    channels, side = 3 if request.color else 1, request.size
    is_right = images.dtype == torch.uint8 and images.ndim == 4 and images.shape[1] == channels
    if not is_right or (side is not None and images.shape[2:] != (side, side)):
        size = "H, W" if side is None else f"{side}, {side}"
        raise ConfigError(
            f"{where}: expected uint8 images (N, {channels}, {size}), found "
            f"{images.dtype} {tuple(images.shape)}; simreg_core.data.images.convert makes them"
        )


def _check_labels(where: str, labels: Tensor, num_images: int, num_classes: int) -> None:
    if labels.dtype != torch.int64 or labels.shape != (num_images,):
        found = f"{labels.dtype} {tuple(labels.shape)}"
        raise ConfigError(f"{where}: expected int64 labels ({num_images},), found {found}")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        found = f"{int(labels.min())} to {int(labels.max())}"
        raise ConfigError(f"{where}: expected labels 0 to {num_classes - 1}, found {found}")
