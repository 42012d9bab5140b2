"""Load a dataset by its name.

A dataset is a function from an :class:`~simreg_core.data.images.ImageRequest` to an
:class:`~simreg_core.data.images.ImagePool`, declared with :func:`simreg_core.registry.dataset`.
:mod:`simreg_core.data.bundled` has examples.
"""

from __future__ import annotations

import torch

from simreg_core.config.trial import require_dataset
from simreg_core.data.images import ImagePool, ImageRequest
from simreg_core.errors import ConfigError, reason_of
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
    try:
        pool = dataset(request)
    except ConfigError:
        raise
    except Exception as err:  # whatever the user's function raises
        raise ConfigError(f"{where}: {reason_of(err)}") from err
    if not isinstance(pool, ImagePool):
        raise ConfigError(f"{where}: expected an ImagePool, found {type(pool).__name__}")
    channels = 3 if request.color else 1
    for images in (pool.images, *(pool.test or ())[:1]):
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != channels:
            raise ConfigError(
                f"{where}: expected uint8 images (N, {channels}, H, W), found "
                f"{images.dtype} {tuple(images.shape)}; simreg_core.data.images.convert makes them"
            )
    return pool
