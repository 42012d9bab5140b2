"""Datasets that torchvision reads and downloads, in its layout of the data folder.

Loading never downloads; only the ``download`` of a dataset does.
"""

from __future__ import annotations

import http.client
import importlib
import pickle
import re
import shlex
import socket
import tarfile
import zlib
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from filelock import FileLock

from simreg_core.cli import program
from simreg_core.config.protocols import NO_AUGMENTATION, WIDE_RANGES, WIDE_REFERENCE
from simreg_core.data.images import ImagePool, ImageRequest, Split, convert
from simreg_core.errors import ConfigError, one_line
from simreg_core.registry import Dataset
from simreg_core.storage.array_cache import Arrays, cached_arrays, data_folder, file_stamp

_TIMEOUT_SECONDS = 60.0

# Exceptions of torchvision and its libraries for damaged files.
_DAMAGED = (OSError, EOFError, LookupError, RuntimeError, TypeError, ValueError, AssertionError)
_UNREADABLE = (*_DAMAGED, pickle.UnpicklingError, tarfile.TarError, zlib.error)


class _Source(NamedTuple):
    name: str
    class_name: str
    folder: str
    files: tuple[str, ...]
    num_classes: int = 10
    has_checksums: bool = True
    """Whether torchvision detects damaged unpacked files, or only missing ones."""

    def paths(self, data: Path) -> list[Path]:
        return [data / self.folder / name for name in self.files]

    def missing(self, data: Path) -> list[Path]:
        return [path for path in self.paths(data) if not path.is_file()]

    def listing(self) -> str:
        return ", ".join(str(Path(self.folder) / name) for name in self.files)

    def command(self, data: Path) -> str:
        """The command that downloads it."""
        return f"{program('simreg_core.datasets')} {self.name} --data {shlex.quote(str(data))}"


_IDX_FILES = tuple(
    f"{split}-{content}-ubyte"
    for split in ("train", "t10k")
    for content in ("images-idx3", "labels-idx1")
)
_CIFAR10_FILES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta")


def _load(source: _Source, request: ImageRequest) -> ImagePool:
    """A dataset in the data folder; its errors show the command that downloads it."""
    data = data_folder()
    if missing := source.missing(data):
        raise ConfigError(
            f"{source.name}: {missing[0]} does not exist; expected in {data}: "
            f"{source.listing()}; to download them: {source.command(data)}"
        )

    def build() -> Arrays:
        library = _import_datasets()
        try:
            train, test = _read(source, library, data)
        except _UNREADABLE as err:
            raise ConfigError(
                f"{source.name}: the files in {data / source.folder} are damaged: {one_line(err)}; "
                f"to replace them: {source.command(data)}"
            ) from err
        num_stored = len(train.labels)
        train = train.take(torch.from_numpy(request.choose(num_stored)))
        parts = [*train, *(test if request.limit is None else ())]
        parts[::2] = [convert(images, request) for images in parts[::2]]
        arrays = {str(n): part.numpy() for n, part in enumerate(parts)}
        return {**arrays, "num_stored": np.array([num_stored])}

    stamps = [file_stamp(path) for path in source.paths(data)]
    arrays = dict(cached_arrays([source.name, request.identity(), *stamps], build))
    num_stored = int(arrays.pop("num_stored")[0])
    images, labels, *test = (torch.from_numpy(arrays[str(n)]) for n in range(len(arrays)))
    held_out = Split(*test) if test else None
    return ImagePool(images, labels, held_out, source.num_classes, num_stored=num_stored)


def _download(source: _Source, data: Path) -> None:
    """Download missing or damaged files; concurrent processes take turns."""
    library = _import_datasets()
    try:
        data.mkdir(parents=True, exist_ok=True)
        with FileLock(data / f".{source.name}.lock"), ExitStack() as stack:
            # torchvision sets no timeout.
            stack.callback(socket.setdefaulttimeout, socket.getdefaulttimeout())
            socket.setdefaulttimeout(_TIMEOUT_SECONDS)
            if not source.missing(data) and not source.has_checksums:
                try:
                    _read(source, library, data)
                except _UNREADABLE:
                    for path in source.paths(data):
                        path.unlink()
            _read(source, library, data, download=True)
    except (*_UNREADABLE, http.client.HTTPException) as err:
        raise ConfigError(
            f"cannot be downloaded to {data}: {one_line(err)}; files expected there: "
            f"{source.listing()}"
        ) from err


def _read(source: _Source, library: Any, data: Path, *, download: bool = False) -> list[Split]:
    """The training and the test set, with the images (N, C, H, W) as stored."""
    constructor = getattr(library, source.class_name)
    splits = []
    for is_train in (True, False):
        if source.class_name == "SVHN":
            dataset = constructor(data, split="train" if is_train else "test", download=download)
            images, labels = dataset.data, dataset.labels  # (N, 3, H, W)
        else:
            dataset = constructor(data, train=is_train, download=download)
            images, labels = np.asarray(dataset.data), dataset.targets
            # MNIST (N, H, W), CIFAR (N, H, W, 3)
            images = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
        if len(images) != len(labels) or not len(images):
            raise ValueError(f"{len(images)} images and {len(labels)} labels")
        classes = torch.from_numpy(np.asarray(labels).astype(np.int64))
        if not 0 <= int(classes.min()) <= int(classes.max()) < source.num_classes:
            raise ValueError(f"labels from {int(classes.min())} to {int(classes.max())}")
        splits.append(Split(torch.from_numpy(np.ascontiguousarray(images)), classes))
    return splits


def _import_datasets() -> Any:
    try:
        try:
            return importlib.import_module("torchvision.datasets")
        except RuntimeError as err:
            if not re.search(r"operator torchvision::\w+ does not exist", str(err)):
                raise
            # Its compiled part does not fit the installed torch; datasets need no operator.
            for name in ("nms", "qnms"):
                if not hasattr(torch.ops.torchvision, name):
                    schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                    torch.library.define(f"torchvision::{name}", schema)
            return importlib.import_module("torchvision.datasets")
    except (ImportError, RuntimeError, OSError) as err:
        raise ConfigError(f"torchvision cannot be imported: {one_line(err)}") from err


def _declare(source: _Source, side: int, protocol: Mapping[str, Any]) -> Dataset:
    return Dataset(
        name=source.name,
        function=partial(_load, source),
        classes=source.num_classes,
        side=side,
        protocol=protocol,
        download=partial(_download, source),
    )


_GREY: dict[str, Any] = {
    "training": {"augmentation": NO_AUGMENTATION},
    "robustness": {"attacks": WIDE_RANGES, "reference": WIDE_REFERENCE},
}
_CIFAR100_EPSILONS = {"gaussian": 0.1, "uniform": 0.1, "salt_pepper": 0.1, "transfer_fgsm": 0.005}
_CIFAR100_ROBUSTNESS = {
    "attacks": {name: {"max_epsilon": e} for name, e in _CIFAR100_EPSILONS.items()},
    "reference": _CIFAR100_EPSILONS,
}
# alpha and Th are those of the paper's table of hyperparameters.
cifar10 = _declare(_Source("cifar10", "CIFAR10", "cifar-10-batches-py", _CIFAR10_FILES), 32, {})
cifar100 = _declare(
    _Source("cifar100", "CIFAR100", "cifar-100-python", ("train", "test", "meta"), num_classes=100),
    32,
    {"robustness": _CIFAR100_ROBUSTNESS},
)
mnist = _declare(
    _Source("mnist", "MNIST", "MNIST/raw", _IDX_FILES, has_checksums=False),
    28,
    {**_GREY, "regularizer": {"alpha": 4.0, "threshold": 0.2}},
)
fashion_mnist = _declare(
    _Source("fashion_mnist", "FashionMNIST", "FashionMNIST/raw", _IDX_FILES, has_checksums=False),
    28,
    _GREY,
)
# Not in the paper. As CIFAR-10, but without flips, because a mirrored digit is not a digit.
svhn = _declare(
    _Source("svhn", "SVHN", "", ("train_32x32.mat", "test_32x32.mat")),
    32,
    {"training": {"augmentation": {"horizontal_flip": False}}},
)
