"""Every dataset by its name; ``python -m simreg_core.datasets NAME`` downloads some of them.

How to add a dataset: write a loader from its name (or path) and an
:class:`~simreg_core.images.ImageRequest` to an :class:`~simreg_core.images.ImagePool`, and enter
it in :data:`LOADERS` and ``config.DATASETS``, or in :data:`PATH_LOADERS` and
``config.PATH_DATASETS``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from simreg_core import cli
from simreg_core.array_cache import data_folder
from simreg_core.config_io import ConfigError
from simreg_core.image_folders import load_folder, load_imagenet
from simreg_core.images import ImagePool, ImageRequest, convert, resize, to_tensor
from simreg_core.parquet_images import load_parquet
from simreg_core.torchvision_sets import SOURCES, download, load_torchvision

__all__ = ["LOADERS", "PATH_LOADERS", "load_dataset", "main"]

Loader = Callable[[str, ImageRequest], ImagePool]

_PATCH_SIZE = 32
_PATCH_STRIDE = 8  # 7,700 patches of the two photographs


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


def _load_digits(_: str, request: ImageRequest) -> ImagePool:
    from sklearn.datasets import load_digits  # heavy; needed by this dataset only

    digits = load_digits()
    chosen = request.choose(len(digits.target))
    pixels = np.rint(digits.images[chosen] * (255 / 16)).astype(np.uint8)
    labels = torch.from_numpy(digits.target[chosen].astype(np.int64))
    images = convert(torch.from_numpy(pixels)[:, None], request)
    return ImagePool(images, labels, None, num_classes=10)


def _load_natural(_: str, request: ImageRequest) -> ImagePool:
    from sklearn.datasets import load_sample_images  # heavy; needed by this dataset only

    patches = []
    for photograph in load_sample_images().images:
        image = to_tensor(Image.fromarray(photograph), request.color)
        windows = image.unfold(1, _PATCH_SIZE, _PATCH_STRIDE).unfold(2, _PATCH_SIZE, _PATCH_STRIDE)
        patches.append(windows.permute(1, 2, 0, 3, 4).flatten(0, 1))
    images = torch.cat(patches)
    chosen = torch.from_numpy(request.choose(len(images)))
    return ImagePool(resize(images[chosen], request.size), None, None, num_classes=0)


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


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line, which downloads datasets.

    Returns:
        0 done, 2 bad input or no network, 130 interrupted.
    """
    parser = cli.Parser("simreg_core.datasets", "Download datasets into the data folder.")
    parser.add_argument("names", nargs="+", choices=tuple(SOURCES), metavar="NAME")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="data folder (default: SIMREG_DATA, else ~/.cache/simreg-tune)",
    )
    return cli.run(parser, argv, _download_all)


def _download_all(args: argparse.Namespace) -> int:
    folder = args.data.expanduser().absolute() if args.data is not None else data_folder("--data")
    for name in args.names:
        download(name, folder)
        print(f"{name}: {folder}")
    return 0


if __name__ == "__main__":
    cli.leave(main())
