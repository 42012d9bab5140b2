"""Load a dataset by its name.

A dataset is a function from an :class:`~simreg_core.data.images.ImageRequest` to an
:class:`~simreg_core.data.images.ImagePool`, declared with :func:`simreg_core.registry.dataset`.
:mod:`simreg_core.data.bundled` has examples.
"""

from __future__ import annotations

import torch
from torch import Tensor

from simreg_core.data.images import ImagePool, ImageRequest
from simreg_core.errors import ConfigError, concerning
from simreg_core.plugins import foreign_code
from simreg_core.registry import DATASETS, Dataset


def load_dataset(
    name: str,
    *,
    color: bool,
    size: int | None,
    key: str = "dataset",
    limit: int | None = None,
    seed: int = 0,
) -> ImagePool:
    """The images of a dataset with the requested channels and size.

    ``name`` is the name of a dataset, ``NAME:PATH`` or ``module:function``; ``key``, where the
    configuration has it, begins every message. For the other arguments see
    :class:`~simreg_core.data.images.ImageRequest`.

    Raises:
        ConfigError: a file is missing, damaged, or does not have the expected layout.
    """
    with concerning(key):
        try:
            DATASETS.require(name)
        except ValueError as err:
            raise ConfigError(str(err)) from err
        found = DATASETS.get(name)
        request = ImageRequest(color, size, limit, seed, name.partition(":")[2])
        return _foreign_pool(found, request) if found.is_foreign else found(request)


def _foreign_pool(dataset: Dataset, request: ImageRequest) -> ImagePool:
    """What a foreign dataset returns, checked."""
    with foreign_code(dataset.name):
        pool = dataset(request)
    if not isinstance(pool, ImagePool):
        raise ConfigError(f"{dataset.name}: expected an ImagePool, found {type(pool).__name__}")
    with concerning(dataset.name):
        _check_number(pool, request)
        for split in ((pool.images, pool.labels), pool.test, pool.validation):
            if split is not None:
                _check_split(*split, pool.num_classes, request)
    return pool


def _check_number(pool: ImagePool, request: ImageRequest) -> None:
    found, stored = len(pool.images), pool.num_stored
    if stored is not None and found != len(request.choose(stored)):
        raise ConfigError(
            f"expected {len(request.choose(stored))} images (num_stored is {stored}, limit "
            f"{request.limit}), found {found}; request.choose says which"
        )


def _check_split(
    images: Tensor, labels: Tensor | None, num_classes: int, request: ImageRequest
) -> None:
    channels, side = 3 if request.color else 1, request.size
    is_right = images.dtype == torch.uint8 and images.ndim == 4 and images.shape[1] == channels
    if not is_right or (side is not None and images.shape[2:] != (side, side)):
        size = "H, W" if side is None else f"{side}, {side}"
        raise ConfigError(
            f"expected uint8 images (N, {channels}, {size}), found {images.dtype} "
            f"{tuple(images.shape)}; simreg_core.data.images.convert makes them"
        )
    if labels is None:
        return
    if labels.dtype != torch.int64 or labels.shape != (len(images),):
        found = f"{labels.dtype} {tuple(labels.shape)}"
        raise ConfigError(f"expected int64 labels ({len(images)},), found {found}")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        found = f"{int(labels.min())} to {int(labels.max())}"
        raise ConfigError(f"expected labels 0 to {num_classes - 1}, found {found}")
