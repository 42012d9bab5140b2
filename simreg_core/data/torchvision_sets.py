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
from torch import Tensor

from simreg_core.cli import program
from simreg_core.config.protocols import NO_AUGMENTATION, WIDE_RANGES, WIDE_REFERENCE
from simreg_core.data.images import ImagePool, ImageRequest, Split, convert
from simreg_core.errors import ConfigError, one_line
from simreg_core.registry import Dataset
from simreg_core.storage.array_cache import Arrays, cached_arrays, data_folder, file_stamp

_TIMEOUT_SECONDS = 60.0

# Exceptions of torchvision and its libraries for damaged files.
_UNREADABLE = (
    RuntimeError,
    TypeError,
    ValueError,
    AssertionError,
    OSError,
    EOFError,
    LookupError,
    pickle.UnpicklingError,
    tarfile.TarError,
    zlib.error,
)


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


_IDX_FILES = tuple(
    f"{split}-{content}-ubyte"
    for split in ("train", "t10k")
    for content in ("images-idx3", "labels-idx1")
)
_CIFAR10_FILES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta")


def _load(source: _Source, request: ImageRequest) -> ImagePool:
    """A dataset in the data folder; its errors show the command that downloads it."""
    name, data = source.name, data_folder(request.key)
    missing = source.missing(data)
    if missing:
        raise ConfigError(
            f"{request.key}: {name}: {missing[0]} does not exist; expected in {data}: "
            f"{source.listing()}; to download them: {_command(name, data)}"
        )
    stamps = [file_stamp(path, request.key) for path in source.paths(data)]
    arrays = cached_arrays(
        [name, request.identity(), *stamps], lambda: _build(source, data, request), request.key
    )
    tensors = {part: torch.from_numpy(array) for part, array in arrays.items()}
    has_test = request.limit is None
    test = Split(tensors["test_images"], tensors["test_labels"]) if has_test else None
    return ImagePool(tensors["images"], tensors["labels"], test, source.num_classes)


def _download(source: _Source, data: Path) -> None:
    """Download missing or damaged files; concurrent processes take turns."""
    name = source.name
    _import_datasets(name)  # outside of the block: a failure is not about the files
    try:
        data.mkdir(parents=True, exist_ok=True)
        with FileLock(data / f".{name}.lock"), ExitStack() as stack:
            # torchvision sets no timeout.
            stack.callback(socket.setdefaulttimeout, socket.getdefaulttimeout())
            socket.setdefaulttimeout(_TIMEOUT_SECONDS)
            if not source.missing(data) and not source.has_checksums:
                try:
                    _read_both(source, data)
                except _UNREADABLE:
                    for path in source.paths(data):
                        path.unlink()
            _read_both(source, data, download=True)
    except (*_UNREADABLE, http.client.HTTPException) as err:
        raise ConfigError(
            f"{name}: cannot be downloaded to {data}: {one_line(err)}; "
            f"files expected there: {source.listing()}"
        ) from err


def _command(name: str, data: Path) -> str:
    return f"{program('simreg_core.datasets')} {name} --data {shlex.quote(str(data))}"


def _build(source: _Source, data: Path, request: ImageRequest) -> Arrays:
    try:
        images, labels = _read(source, data, request.key, is_train=True)
        chosen = torch.from_numpy(request.choose(len(labels)))
        arrays = {"images": convert(images[chosen], request), "labels": labels[chosen]}
        if request.limit is None:
            images, labels = _read(source, data, request.key, is_train=False)
            arrays |= {"test_images": convert(images, request), "test_labels": labels}
    except ConfigError:
        raise
    except _UNREADABLE as err:
        raise ConfigError(
            f"{request.key}: {source.name}: the files in {data / source.folder} are damaged: "
            f"{one_line(err)}; to replace them: {_command(source.name, data)}"
        ) from err
    return {part: tensor.numpy() for part, tensor in arrays.items()}


def _read_both(source: _Source, data: Path, *, download: bool = False) -> None:
    for is_train in (True, False):
        _read(source, data, source.name, is_train=is_train, download=download)


def _read(
    source: _Source, data: Path, key: str, *, is_train: bool, download: bool = False
) -> tuple[Tensor, Tensor]:
    """Images uint8 (N, C, H, W) as stored and labels int64 (N,)."""
    constructor = getattr(_import_datasets(key), source.class_name)
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
    return torch.from_numpy(np.ascontiguousarray(images)), classes


def _import_datasets(key: str) -> Any:
    try:
        try:
            return importlib.import_module("torchvision.datasets")
        except RuntimeError as err:
            if not re.search(r"operator torchvision::\w+ does not exist", str(err)):
                raise
            _declare_operators()
            return importlib.import_module("torchvision.datasets")
    except (ImportError, RuntimeError, OSError) as err:
        raise ConfigError(f"{key}: torchvision cannot be imported: {one_line(err)}") from err


def _declare_operators() -> None:
    """Declare the operators that torchvision uses on import, without an implementation.

    They are missing if its compiled part does not fit the installed torch. Datasets need none.
    """
    for operator in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, operator):
            schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            torch.library.define(f"torchvision::{operator}", schema)


def _declare(source: _Source, *, side: int, protocol: Mapping[str, Any]) -> Dataset:
    return Dataset(
        name=source.name,
        function=partial(_load, source),
        classes=source.num_classes,
        side=side,
        protocol=protocol,
        download=partial(_download, source),
    )


_GREY_ROBUSTNESS = {"attacks": WIDE_RANGES, "reference": WIDE_REFERENCE}
# alpha and Th are those of the paper's table of hyperparameters.
cifar10 = _declare(
    _Source("cifar10", "CIFAR10", "cifar-10-batches-py", _CIFAR10_FILES), side=32, protocol={}
)
_CIFAR100_EPSILONS = {"gaussian": 0.1, "uniform": 0.1, "salt_pepper": 0.1, "transfer_fgsm": 0.005}
cifar100 = _declare(
    _Source("cifar100", "CIFAR100", "cifar-100-python", ("train", "test", "meta"), num_classes=100),
    side=32,
    protocol={
        "robustness": {
            "attacks": {name: {"max_epsilon": e} for name, e in _CIFAR100_EPSILONS.items()},
            "reference": _CIFAR100_EPSILONS,
        }
    },
)
mnist = _declare(
    _Source("mnist", "MNIST", "MNIST/raw", _IDX_FILES, has_checksums=False),
    side=28,
    protocol={
        "training": {"augmentation": NO_AUGMENTATION},
        "regularizer": {"alpha": 4.0, "threshold": 0.2},
        "robustness": _GREY_ROBUSTNESS,
    },
)
fashion_mnist = _declare(
    _Source("fashion_mnist", "FashionMNIST", "FashionMNIST/raw", _IDX_FILES, has_checksums=False),
    side=28,
    protocol={"training": {"augmentation": NO_AUGMENTATION}, "robustness": _GREY_ROBUSTNESS},
)
# Not in the paper. As CIFAR-10, but without flips, because a mirrored digit is not a digit.
svhn = _declare(
    _Source("svhn", "SVHN", "", ("train_32x32.mat", "test_32x32.mat")),
    side=32,
    protocol={"training": {"augmentation": {"horizontal_flip": False}}},
)
