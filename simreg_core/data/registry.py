"""Find a dataset by its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from simreg_core.data.bundled import _load_digits, _load_natural
from simreg_core.data.image_folders import load_folder, load_imagenet
from simreg_core.data.images import ImagePool, ImageRequest
from simreg_core.data.parquet_images import load_parquet
from simreg_core.data.torchvision_sets import SOURCES, load_torchvision
from simreg_core.errors import ConfigError

Loader = Callable[[str, ImageRequest], ImagePool]


def load_dataset(
    name: str, *, color: bool, size: int | None, key: str, limit: int | None = None, seed: int = 0
) -> ImagePool:
    """All images of a dataset, or some, converted to the asked channels and size.

    Args:
        name: A name in ``config.DATASETS``, or one of ``config.PATH_DATASETS`` and its path.
        color: RGB (3, H, W) instead of grey (1, H, W; ITU-R 601 luma).
        size: Side in pixels; photographs are centre-cropped to a square first. None: as they are.
        key: Configuration key that named the dataset, for messages.
        limit: Number of images; that many (all, if there are fewer) are drawn by ``seed`` before
            any is decoded, and come in the drawn order: a smaller limit gives a prefix of a larger
            one. The test set is then left out. None: all, in their own order.
        seed: Of the draw; without effect where ``limit`` is None.

    Raises:
        ConfigError: a file is missing, damaged or not of the expected layout.
    """
    request = ImageRequest(color, size, key, limit, seed)
    kind, _, path = name.partition(":")
    if kind in PATH_LOADERS and path:
        return PATH_LOADERS[kind](path, request)
    if name in LOADERS:
        return LOADERS[name](name, request)
    allowed = ", ".join((*LOADERS, *(f"{kind}:PATH" for kind in PATH_LOADERS)))
    raise ConfigError(f"{key}: unknown dataset {name!r}; allowed: {allowed}")


LOADERS: Mapping[str, Loader] = {
    "digits": _load_digits,
    **dict.fromkeys(SOURCES, load_torchvision),
    "natural": _load_natural,
}


PATH_LOADERS: Mapping[str, Loader] = {
    "parquet": load_parquet,
    "folder": load_folder,
    "imagenet": load_imagenet,
}
