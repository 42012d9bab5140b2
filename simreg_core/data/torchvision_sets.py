"""The datasets that torchvision reads and downloads, laid out in the data folder as it does.

Loading never downloads; :func:`download` does.
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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from simreg_core.data.images import ImagePool, ImageRequest, Split, convert
from simreg_core.errors import ConfigError
from simreg_core.storage.array_cache import Arrays, cached_arrays, data_folder, file_stamp

_TIMEOUT_SECONDS = 60.0

# What torchvision and the libraries below it raise for damaged files.
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
    class_name: str
    folder: str
    files: tuple[str, ...]
    num_classes: int = 10
    has_checksums: bool = True
    """Whether torchvision notices damage of the unpacked files, or only that one is missing."""

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
SOURCES = {
    "cifar10": _Source("CIFAR10", "cifar-10-batches-py", _CIFAR10_FILES),
    "cifar100": _Source("CIFAR100", "cifar-100-python", ("train", "test", "meta"), num_classes=100),
    "mnist": _Source("MNIST", "MNIST/raw", _IDX_FILES, has_checksums=False),
    "fashion_mnist": _Source("FashionMNIST", "FashionMNIST/raw", _IDX_FILES, has_checksums=False),
    "svhn": _Source("SVHN", "", ("train_32x32.mat", "test_32x32.mat")),
}


def load_torchvision(name: str, request: ImageRequest) -> ImagePool:
    """A dataset in :data:`SOURCES`, from :func:`~simreg_core.storage.array_cache.data_folder`.

    Raises:
        ConfigError: a file is missing or damaged, or torchvision cannot be imported.
    """
    source, data = SOURCES[name], data_folder(request.key)
    missing = source.missing(data)
    if missing:
        raise ConfigError(
            f"{request.key}: {name}: {missing[0]} does not exist; expected in {data}: "
            f"{source.listing()}; to download them: {_command(name, data)}"
        )
    stamps = [file_stamp(path, request.key) for path in source.paths(data)]
    arrays = cached_arrays(
        [name, request.identity(), *stamps], lambda: _build(name, data, request), request.key
    )
    tensors = {part: torch.from_numpy(array) for part, array in arrays.items()}
    test = (
        Split(tensors["test_images"], tensors["test_labels"]) if "test_images" in tensors else None
    )
    return ImagePool(tensors["images"], tensors["labels"], test, source.num_classes)


def download(name: str, data: Path) -> None:
    """Make the files of a dataset exist and be readable; processes that ask at once take turns.

    Raises:
        ConfigError: they cannot be had; names the folder and the files expected there.
    """
    source = SOURCES[name]
    _import_datasets(name)  # its failure is another message
    try:
        data.mkdir(parents=True, exist_ok=True)
        with FileLock(data / f".{name}.lock"), _socket_timeout(_TIMEOUT_SECONDS):
            is_complete = not source.missing(data)
            if is_complete and not source.has_checksums and not _is_readable(name, data):
                for path in source.paths(data):
                    path.unlink()
            for is_train in (True, False):
                _read(name, data, name, is_train=is_train, download=True)
    except (*_UNREADABLE, http.client.HTTPException) as err:
        raise ConfigError(
            f"{name}: cannot be downloaded to {data}: {_one_line(err)}; "
            f"files expected there: {source.listing()}"
        ) from err


def _command(name: str, data: Path) -> str:
    return f"python -m simreg_core.datasets {name} --data {shlex.quote(str(data))}"


def _build(name: str, data: Path, request: ImageRequest) -> Arrays:
    try:
        images, labels = _read(name, data, request.key, is_train=True)
        chosen = torch.from_numpy(request.choose(len(labels)))
        arrays = {"images": convert(images[chosen], request), "labels": labels[chosen]}
        if request.limit is None:
            images, labels = _read(name, data, request.key, is_train=False)
            arrays |= {"test_images": convert(images, request), "test_labels": labels}
    except ConfigError:
        raise
    except _UNREADABLE as err:
        raise ConfigError(
            f"{request.key}: {name}: the files in {data / SOURCES[name].folder} are damaged: "
            f"{_one_line(err)}; to replace them: {_command(name, data)}"
        ) from err
    return {part: tensor.numpy() for part, tensor in arrays.items()}


def _is_readable(name: str, data: Path) -> bool:
    try:
        for is_train in (True, False):
            _read(name, data, name, is_train=is_train)
    except _UNREADABLE:
        return False
    return True


def _read(
    name: str, data: Path, key: str, *, is_train: bool, download: bool = False
) -> tuple[Tensor, Tensor]:
    """Images uint8 (N, C, H, W) as stored and labels int64 (N,)."""
    constructor = getattr(_import_datasets(key), SOURCES[name].class_name)
    if name == "svhn":
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
    if not 0 <= int(classes.min()) <= int(classes.max()) < SOURCES[name].num_classes:
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
        raise ConfigError(f"{key}: torchvision cannot be imported: {_one_line(err)}") from err


def _declare_operators() -> None:
    """Declare the operators that torchvision's import names, without any implementation.

    Where its compiled part does not fit the installed torch, they do not exist and the import
    fails; reading datasets needs none of them.
    """
    schemas = {
        "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
        "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    }
    for operator, schema in schemas.items():
        if not hasattr(torch.ops.torchvision, operator):
            torch.library.define(f"torchvision::{operator}", schema)


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Torchvision waits for a silent server without end."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _one_line(err: BaseException) -> str:
    return " ".join(str(err).split()) or type(err).__name__
