"""Images in memory: datasets, their fixed splits, and the regularization images.

Images are uint8 tensors (N, C, H, W), C = 1 (grey) or 3 (RGB); labels are int64 (N,) from 0.
Nothing is downloaded. How to add a dataset: write a loader that returns :class:`ImagePool` and
enter it in :func:`load_dataset` and in ``config.DATASETS``.
"""

from __future__ import annotations

import hashlib
import io
import json
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional

from simreg_core.config import TaskConfig, TrialConfig
from simreg_core.config_io import ConfigError
from simreg_core.seeding import generator

_PATCH_SIZE = 32
_PATCH_STRIDE = 8  # 7,700 patches of the two photographs


class Split(NamedTuple):
    """Images uint8 (N, C, H, W) and their labels int64 (N,)."""

    images: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> Split:
        """The same split on ``device``."""
        return Split(self.images.to(device), self.labels.to(device))


class ImagePool(NamedTuple):
    """A dataset as it comes: all images, and its own test set where it has one."""

    images: Tensor
    labels: Tensor | None
    test: Split | None
    num_classes: int


class TaskData(NamedTuple):
    """The three disjoint splits of a task."""

    train: Split
    validation: Split
    test: Split
    num_classes: int
    fingerprint: str
    """16 hexadecimal digits of the content, by which changed files are noticed."""

    def split(self, name: str) -> Split:
        """The split called ``train``, ``validation`` or ``test``."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]

    def to(self, device: torch.device) -> TaskData:
        """The same data on ``device``."""
        train, validation, test = (split.to(device) for split in self[:3])
        return self._replace(train=train, validation=validation, test=test)


def load_task(config: TaskConfig) -> TaskData:
    """The task's splits: a function of the configuration and the files alone.

    Test and validation images are drawn first (in this order, seeded by ``split_seed``), so that
    a smaller training set never changes what is measured on.

    Raises:
        ConfigError: a file is missing or damaged, or there are too few images.
    """
    pool = load_dataset(
        config.dataset, color=config.color, size=config.image_size, key="task.dataset"
    )
    if pool.labels is None:
        raise ConfigError(f"task.dataset: {config.dataset} has no labels")
    order = torch.randperm(len(pool.images), generator=generator(config.split_seed, "split"))
    if pool.test is None:
        if config.num_test is None:
            raise ConfigError(
                f"task.num_test: {config.dataset} has no test set, so the number of images to hold "
                f"out must be given (it has {len(order)} images)"
            )
        test_index, order = order[: config.num_test], order[config.num_test :]
        test = Split(pool.images[test_index], pool.labels[test_index])
    else:
        test = _first(pool.test, config)
    num_validation = config.num_validation or max(1, len(order) // 10)
    num_train = config.num_train or len(order) - num_validation
    if num_validation + num_train > len(order) or num_train < 2:
        raise ConfigError(
            f"task.num_train: {num_train} training and {num_validation} validation images asked of "
            f"{config.dataset}, which has {max(len(order), 0)} left beside the test set"
        )
    validation_index = order[:num_validation]
    train_index = order[num_validation : num_validation + num_train]
    train = Split(pool.images[train_index], pool.labels[train_index])
    validation = Split(pool.images[validation_index], pool.labels[validation_index])
    return TaskData(
        train, validation, test, pool.num_classes, _fingerprint(train, validation, test)
    )


def _fingerprint(*splits: Split) -> str:
    digest = hashlib.sha256()
    for split in splits:
        for tensor in split:
            digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _first(test: Split, config: TaskConfig) -> Split:
    if config.num_test is None:
        return test
    if config.num_test > len(test.labels):
        raise ConfigError(
            f"task.num_test: {config.num_test} asked of {config.dataset}, "
            f"whose test set has {len(test.labels)} images"
        )
    index = order_of_test_images(config, len(test.labels), config.num_test)
    return Split(test.images[index], test.labels[index])


def order_of_test_images(config: TaskConfig, num_available: int, num_used: int) -> Tensor:
    """Which images of a dataset's own test set the test split has, in its order, int64."""
    if config.num_test is None:
        return torch.arange(num_available)[:num_used]
    rng = generator(config.split_seed, "test split")
    return torch.randperm(num_available, generator=rng)[:num_used]


def load_regularization_images(config: TrialConfig, train: Split) -> Tensor:
    """The N regularization images, uint8 (N, C, H, W), with the channels and size of the task's.

    The task's own dataset contributes its training images only: images that a network is
    measured on never regularize it.

    Args:
        config: The trial's configuration.
        train: The task's training split.

    Raises:
        ConfigError: the dataset cannot be read or has fewer than N images.
    """
    regularizer = config.regularizer
    if regularizer.dataset in ("task", config.task.dataset):
        images = train.images
    else:
        size = train.images.shape[-1]
        images = load_dataset(
            regularizer.dataset, color=config.task.color, size=size, key="regularizer.dataset"
        ).images
        order = torch.randperm(
            len(images), generator=generator(config.task.split_seed, "regularization images")
        )
        images = images[order]
    if regularizer.num_images > len(images):
        raise ConfigError(
            f"regularizer.num_images: {regularizer.num_images} asked, but the regularization "
            f"dataset {regularizer.dataset!r} has {len(images)} images"
        )
    return images[: regularizer.num_images]


def sample_pairs(num_images: int, num_pairs: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Indices i < j of pairs drawn uniformly, with replacement, among all pairs of N images.

    Args:
        num_images: N >= 2.
        num_pairs: k >= 1.
        rng: CPU generator; advanced.

    Returns:
        Two int64 tensors (k,). No list or matrix of pairs is ever built.
    """
    first = torch.randint(num_images, (num_pairs,), generator=rng)
    second = torch.randint(num_images - 1, (num_pairs,), generator=rng)
    second += second >= first  # skip the diagonal: uniform over ordered pairs i != j
    return torch.minimum(first, second), torch.maximum(first, second)


def load_dataset(name: str, *, color: bool, size: int | None, key: str) -> ImagePool:
    """All images of a dataset, converted to the asked channels and size.

    Args:
        name: ``digits``, ``natural`` or ``parquet:PATH``.
        color: RGB (3, H, W) instead of grey (1, H, W; ITU-R 601 luma).
        size: Side in pixels; photographs are centre-cropped to a square first. None: as they are.
        key: Configuration key that named the dataset, for messages.

    Raises:
        ConfigError: a file is missing, damaged or not of the expected layout.
    """
    if name == "digits":
        return _digits(color, size)
    if name == "natural":
        return _natural(color, size)
    folder = Path(name.removeprefix("parquet:"))
    train, test = folder / "train.parquet", folder / "test.parquet"
    if not train.is_file():
        raise ConfigError(f"{key}: {train} does not exist (a folder with train.parquet is needed)")
    stamps = tuple((f.stat().st_mtime_ns, f.stat().st_size) for f in (train, test) if f.is_file())
    return _parquet_pool(train, test if test.is_file() else None, color, size, key, stamps)


def resize(images: Tensor, size: int | None) -> Tensor:
    """uint8 (N, C, H, W) centre-cropped to squares and resized bilinearly (antialiased) to size."""
    height, width = images.shape[-2:]
    if size is None or (height, width) == (size, size):
        return images
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = images[..., top : top + side, left : left + side].to(torch.float32)
    resized = functional.interpolate(
        square, size=(size, size), mode="bilinear", antialias=side > size, align_corners=False
    )
    return resized.round().clamp(0, 255).to(torch.uint8)


def _digits(color: bool, size: int | None) -> ImagePool:
    from sklearn.datasets import load_digits  # heavy; needed by this dataset only

    digits = load_digits()
    images = torch.from_numpy(np.rint(digits.images * (255 / 16)).astype(np.uint8))[:, None]
    images = resize(images, size)
    if color:
        images = images.expand(-1, 3, -1, -1).contiguous()
    labels = torch.from_numpy(digits.target.astype(np.int64))
    return ImagePool(images, labels, None, num_classes=10)


def _natural(color: bool, size: int | None) -> ImagePool:
    from sklearn.datasets import load_sample_images  # heavy; needed by this dataset only

    patches = []
    for photograph in load_sample_images().images:
        image = _to_tensor(Image.fromarray(photograph), color)
        windows = image.unfold(1, _PATCH_SIZE, _PATCH_STRIDE).unfold(2, _PATCH_SIZE, _PATCH_STRIDE)
        patches.append(windows.permute(1, 2, 0, 3, 4).flatten(0, 1))
    return ImagePool(resize(torch.cat(patches), size), None, None, num_classes=0)


@lru_cache(maxsize=4)
def _parquet_pool(
    train: Path, test: Path | None, color: bool, size: int | None, key: str, stamps: Any
) -> ImagePool:
    """Decoded once per process; ``stamps`` make a changed file a different argument."""
    images, labels, names = _read_parquet(train, color, size, key)
    tests = _read_parquet(test, color, size, key) if test is not None else None
    if labels is None or (tests is not None and tests[1] is None):
        return ImagePool(images, None, None, num_classes=0)
    test_split = Split(tests[0], tests[1]) if tests is not None and tests[1] is not None else None
    if test_split is not None and test_split.images.shape[1:] != images.shape[1:]:
        raise ConfigError(
            f"{key}: {test} has images of {tuple(test_split.images.shape[1:])}, "
            f"{train} of {tuple(images.shape[1:])}; set task.image_size"
        )
    parts = [labels] if test_split is None else [labels, test_split.labels]
    largest = max(int(part.max()) for part in parts)
    num_classes = max(largest + 1, len(names))
    return ImagePool(images, labels, test_split, num_classes)


def _read_parquet(
    path: Path, color: bool, size: int | None, key: str
) -> tuple[Tensor, Tensor | None, list[str]]:
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as err:
        raise ConfigError(f"{key}: {path} is not a readable Parquet file: {err}") from err
    if not _holds_images(table):
        raise ConfigError(
            f"{key}: {path} needs a column 'image' (struct of bytes and path), "
            f"found columns: {', '.join(table.column_names)}"
        )
    if not len(table):
        raise ConfigError(f"{key}: {path} holds no images")
    encoded = table.column("image").to_pylist()

    def decode(row: int) -> NDArray[np.uint8]:
        data = encoded[row]["bytes"] if encoded[row] else None
        if data is None:
            raise ConfigError(f"{key}: {path}: row {row} holds no image bytes")
        try:
            with Image.open(io.BytesIO(data)) as image:
                return resize(_to_tensor(image, color)[None], size)[0].numpy()
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as err:
            # Pillow's text for an unknown format names an object in memory.
            problem = "unknown format" if isinstance(err, UnidentifiedImageError) else str(err)
            raise ConfigError(
                f"{key}: {path}: row {row} is not a readable image: {problem}"
            ) from err

    with ThreadPoolExecutor() as pool:
        arrays = list(pool.map(decode, range(len(encoded))))
    if len({array.shape for array in arrays}) > 1:
        raise ConfigError(f"{key}: {path} holds images of different sizes; set task.image_size")
    images = torch.from_numpy(np.stack(arrays))
    return images, _labels(table, path, key), _class_names(table, path, key)


def _holds_images(table: pa.Table) -> bool:
    if "image" not in table.column_names:
        return False
    kind = table.schema.field("image").type
    return pa.types.is_struct(kind) and any(
        field.name == "bytes" and field.type in (pa.binary(), pa.large_binary()) for field in kind
    )


def _to_tensor(image: Image.Image, color: bool) -> Tensor:
    array = np.array(image.convert("RGB" if color else "L"))
    return torch.from_numpy(array[None] if array.ndim == 2 else array.transpose(2, 0, 1).copy())


def _labels(table: pa.Table, path: Path, key: str) -> Tensor | None:
    if "label" not in table.column_names:
        return None
    column = table.column("label")
    if not pa.types.is_integer(column.type) or column.null_count:
        raise ConfigError(
            f"{key}: {path}: column 'label' must hold integers, found {column.type} "
            f"with {column.null_count} nulls"
        )
    labels = column.to_numpy().astype(np.int64)
    if labels.min() < 0:
        raise ConfigError(f"{key}: {path}: labels start at 0, found {labels.min()}")
    return torch.from_numpy(labels)


def _class_names(table: pa.Table, path: Path, key: str) -> list[str]:
    text = (table.schema.metadata or {}).get(b"class_names", b"[]")
    try:
        names = json.loads(text)
    except ValueError as err:
        raise ConfigError(f"{key}: {path}: class_names is not a JSON list: {text!r}") from err
    if not isinstance(names, list):
        raise ConfigError(f"{key}: {path}: class_names is not a JSON list: {text!r}")
    return [str(name) for name in names]
