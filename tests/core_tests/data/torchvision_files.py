"""Small files in the layout of torchvision's datasets."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from numpy.typing import NDArray

from simreg_core.data import torchvision_sets
from simreg_core.data.torchvision_sets import _Source
from simreg_core.registry import DATASETS

DOWNLOADABLE = [name for name, found in DATASETS.own.items() if found.download is not None]
NUM_TRAIN, NUM_TEST = 20, 7
Arrays = tuple[NDArray[np.uint8], NDArray[np.int64]]
Files = Callable[[str], dict[str, Arrays]]


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def write_idx(path: Path, array: NDArray[np.uint8]) -> None:
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    path.write_bytes(bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes())


def _write_mnist(folder: Path, split: str, images: NDArray[np.uint8], labels: Any) -> None:
    prefix = "train" if split == "train" else "t10k"
    write_idx(folder / f"{prefix}-images-idx3-ubyte", images)
    write_idx(folder / f"{prefix}-labels-idx1-ubyte", labels.astype(np.uint8))


def _write_pickle(path: Path, content: Any) -> None:
    path.write_bytes(pickle.dumps(content))


def _write_cifar(
    folder: Path, names: list[str], images: NDArray[np.uint8], labels: Any, key: str
) -> None:
    rows = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    for name, index in zip(names, np.array_split(np.arange(len(rows)), len(names)), strict=True):
        _write_pickle(folder / name, {"data": rows[index], key: labels[index].tolist()})


def source_of(name: str) -> _Source:
    function = DATASETS.own[name].function
    assert isinstance(function, partial)
    source: _Source = function.args[0]
    return source


def datasets() -> Any:
    return torchvision_sets._import_datasets()


@pytest.fixture
def make_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    """Factory of a dataset's files; returns images (N, H, W[, 3]) and labels of each split."""
    monkeypatch.setenv("SIMREG_DATA", str(tmp_path))
    rng = np.random.default_rng(0)

    def make(name: str) -> dict[str, Arrays]:
        source = source_of(name)
        shape = (28, 28) if "mnist" in name else (32, 32, 3)
        splits: dict[str, Arrays] = {}
        for split, count in (("train", NUM_TRAIN), ("test", NUM_TEST)):
            images = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
            splits[split] = (images, rng.integers(0, source.num_classes, count))
        folder = tmp_path / source.folder
        folder.mkdir(parents=True, exist_ok=True)
        constructor = getattr(datasets(), source.class_name)
        for split, (images, labels) in splits.items():
            if "mnist" in name:
                _write_mnist(folder, split, images, labels)
            elif name == "svhn":
                stored = {"X": images.transpose(1, 2, 3, 0), "y": np.where(labels, labels, 10)}
                scipy.io.savemat(folder / f"{split}_32x32.mat", stored)
            else:
                key = "labels" if name == "cifar10" else "fine_labels"
                files = [row[0] for row in getattr(constructor, f"{split}_list")]
                _write_cifar(folder, files, images, labels, key)
        if "cifar" in name:
            meta = constructor.meta
            _write_pickle(folder / meta["filename"], {meta["key"]: ["a", "b"]})
            _accept_cifar(constructor, folder, monkeypatch)
        if name == "svhn":
            _accept_svhn(constructor, folder, monkeypatch)
        return splits

    return make


def _accept_cifar(constructor: Any, folder: Path, patch: pytest.MonkeyPatch) -> None:
    for attribute in ("train_list", "test_list"):
        rows = [[row[0], md5(folder / row[0])] for row in getattr(constructor, attribute)]
        patch.setattr(constructor, attribute, rows)
    meta = constructor.meta
    patch.setattr(constructor, "meta", {**meta, "md5": md5(folder / meta["filename"])})


def _accept_svhn(constructor: Any, folder: Path, patch: pytest.MonkeyPatch) -> None:
    rows = {
        split: [url, file, md5(folder / file) if split != "extra" else ""]
        for split, (url, file, _) in constructor.split_list.items()
    }
    patch.setattr(constructor, "split_list", rows)
