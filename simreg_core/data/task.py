"""The data of a trial: the fixed splits of its task, and the regularization images.

Images are uint8 (N, C, H, W) with C = 1 (grey) or 3 (RGB). Labels are int64 (N,) and start at 0.
Nothing is downloaded; :mod:`simreg_core.datasets` does that.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from simreg_core.config.regularizer import RegularizerConfig
from simreg_core.config.trial import TaskConfig
from simreg_core.data.images import ImagePool, ImageRequest, PoolInfo, Split, resize
from simreg_core.data.registry import load_dataset
from simreg_core.errors import ConfigError, counted
from simreg_core.registry import DATASETS
from simreg_core.seeding import generator

_MIN_REST = 3  # two training images and one for validation


class RegularizationImages(NamedTuple):
    """The N regularization images, and where their dataset has them."""

    images: Tensor
    """uint8 (N, C, H, W)."""
    labels: Tensor | None
    """int64 (N,); None if the images have no labels."""
    rows: Tensor | None
    """Positions among the training images of the dataset in their stored order, int64 (N,); None
    if a dataset of the user's own does not say ``num_stored``."""
    num_stored: int | None
    """Number of training images of the dataset; None as ``rows``."""

    def to(self, device: torch.device) -> RegularizationImages:
        """These images on ``device``."""
        return self._changed(lambda values: values.to(device))

    def take(self, index: slice | Tensor | Sequence[int]) -> RegularizationImages:
        """The images with these indices."""
        return self._changed(lambda values: values[index])

    def _changed(self, change: Callable[[Tensor], Tensor]) -> RegularizationImages:
        labels, rows = (None if v is None else change(v) for v in (self.labels, self.rows))
        return RegularizationImages(change(self.images), labels, rows, self.num_stored)


class TaskData(NamedTuple):
    """The three disjoint splits of a task."""

    train: Split
    validation: Split
    test: Split
    num_classes: int
    fingerprint: str
    """16 hexadecimal digits that change with the content."""
    train_rows: Tensor
    """Positions of ``train`` among the training images of the dataset in their stored order,
    int64 (N,), on the CPU."""
    num_stored: int
    """Number of training images of the dataset."""
    info: PoolInfo = PoolInfo()

    def split(self, name: str) -> Split:
        """The split called ``train``, ``validation`` or ``test``."""
        return Split(*getattr(self, name))

    def to(self, device: torch.device) -> TaskData:
        """This data on ``device``."""
        train, validation, test = (split.to(device) for split in self[:3])
        return self._replace(train=train, validation=validation, test=test)


def load_task(config: TaskConfig) -> TaskData:
    """The splits of a task, which depend only on the configuration and the files.

    Test images are drawn first and validation images second, with ``split_seed``. So the size of
    the training set does not change them. A dataset's own test and validation sets are used.

    Raises:
        ConfigError: a file is missing or damaged, there are too few images, all are equal, or the
            labels are not those of two or more classes, each with training images.
    """
    pool = load_dataset(
        config.dataset, color=config.color, size=config.image_size, key="task.dataset"
    )
    where = f"task.dataset: {config.dataset}"
    if pool.labels is None:
        raise ConfigError(": ".join(filter(None, (f"{where} has no labels", pool.info.no_labels))))
    if config.dataset not in DATASETS.own:  # those have their published labels
        _check_labels(pool, where)
        for images in (pool.images, *(s.images for s in (pool.test, pool.validation) if s)):
            require_different(images, where)
    labelled = Split(pool.images, pool.labels)
    order = torch.randperm(len(pool.images), generator=generator(config.split_seed, "split"))
    test = _own(pool.test, config.num_test, "test", config)
    validation = _own(pool.validation, config.num_validation, "validation", config)
    if test is None:
        num_test = _num_test(config, len(order))
        test, order = labelled.take(order[:num_test]), order[num_test:]
    num_validation = 0
    if validation is None:
        num_validation = config.num_validation or max(1, len(order) // 10)
    num_train = config.num_train or max(2, len(order) - num_validation)
    if num_validation + num_train > len(order):
        raise ConfigError(
            f"task.num_train: {num_train} training and {num_validation} validation images asked of "
            f"{config.dataset}, which has {len(order)} left after removing the test set"
        )
    if validation is None:
        validation = labelled.take(order[:num_validation])
    rows = order[num_validation : num_validation + num_train]
    train = labelled.take(rows)
    digest = hashlib.sha256()
    for tensor in (*train, *validation, *test):
        digest.update(tensor.contiguous().numpy().tobytes())
    fingerprint, num_stored = digest.hexdigest()[:16], len(pool.images)
    splits = train, validation, test
    return TaskData(*splits, pool.num_classes, fingerprint, rows, num_stored, pool.info)


def _own(found: Split | None, asked: int | None, name: str, config: TaskConfig) -> Split | None:
    """The asked number of images of a dataset's own test or validation set, if it has one."""
    if found is None or asked is None:
        return found
    if asked > len(found.labels):
        raise ConfigError(
            f"task.num_{name}: {asked} asked of {config.dataset}, whose {name} set has "
            f"{counted(len(found.labels), 'image')}"
        )
    return found.take(_drawn(config, name, len(found.labels), asked))


def _drawn(config: TaskConfig, name: str, num_available: int, num_used: int) -> Tensor:
    rng = generator(config.split_seed, f"{name} split")
    return torch.randperm(num_available, generator=rng)[:num_used]


def _num_test(config: TaskConfig, num_images: int) -> int:
    """Number of test images to draw from a dataset without a test set."""
    has = f"has {counted(num_images, 'image')}"
    if config.num_test is None:
        raise ConfigError(
            f"task.num_test: required, because {config.dataset} has no test set (it {has})"
        )
    if config.num_test > num_images - _MIN_REST:
        raise ConfigError(
            f"task.num_test: {config.num_test} asked of {config.dataset}, which {has} "
            "(training needs 2 of them, validation 1)"
        )
    return config.num_test


def require_different(images: Tensor, where: str) -> None:
    """Reject several images that are all equal: their files do not show what they should."""
    if len(images) > 1 and all(torch.equal(image, images[0]) for image in images[1:]):
        raise ConfigError(f"{where}: all {len(images)} images are equal")


def _check_labels(pool: ImagePool, where: str) -> None:
    """Check that the training images have all labels 0 to K - 1, and held-out images no others."""
    assert pool.labels is not None
    present = pool.labels.unique()
    if len(present) < 2:
        raise ConfigError(f"{where}: all training images have label {int(present[0])}")
    gaps = (present != torch.arange(len(present))).nonzero()
    if len(gaps):
        raise ConfigError(
            f"{where}: the training images have {len(present)} labels, which must be 0 to "
            f"{len(present) - 1}; found {int(present[-1])}, but no image with label {int(gaps[0])}"
        )
    for name, held_out in (("test", pool.test), ("validation", pool.validation)):
        if held_out is not None and (most := int(held_out.labels.max())) >= len(present):
            raise ConfigError(
                f"{where}: the {name} set has images with label {most}, the training images have "
                f"labels 0 to {len(present) - 1} only"
            )


def order_of_test_images(config: TaskConfig, num_available: int, num_used: int) -> Tensor:
    """Indices, int64, of the images of a dataset's test set that form the test split."""
    if config.num_test is None:
        return torch.arange(num_available)[:num_used]
    return _drawn(config, "test", num_available, num_used)


def load_regularization_images(
    config: RegularizerConfig, task: TaskConfig, data: TaskData
) -> RegularizationImages:
    """The N regularization images, with the channels and size of the task's images.

    Held-out images never regularize a network. The task's own dataset contributes training images
    only. From the training images of another dataset, N are drawn with ``task.split_seed``,
    excluding copies of held-out images. A smaller N gives a prefix of a larger one.

    Raises:
        ConfigError: the dataset cannot be read, or has fewer than N usable images.
    """
    if config.dataset == "task" or _files(config.dataset) == _files(task.dataset):
        found = RegularizationImages(*data.train, data.train_rows, data.num_stored)
    else:
        found = _other_images(config, task, data)
    if config.num_images > len(found.images):
        raise ConfigError(
            f"regularizer.num_images: {config.num_images} asked, but the regularization "
            f"dataset {config.dataset!r} has {counted(len(found.images), 'image')}"
        )
    found = found.take(slice(config.num_images))
    require_different(found.images, f"regularizer.dataset: {config.dataset}")
    return found


def _other_images(
    config: RegularizerConfig, task: TaskConfig, data: TaskData
) -> RegularizationImages:
    """At least N images in the drawn order, without those that equal held-out ones of this size."""
    side, held_out = data.train.images.shape[-1], (data.validation, data.test)
    excluded = {name for split in held_out for name in _digests(resize(split.images, side))}
    limit = config.num_images
    while True:
        pool = load_dataset(
            config.dataset,
            color=task.color,
            size=side,
            key="regularizer.dataset",
            limit=limit,
            seed=task.split_seed,
        )
        kept = [n for n, name in enumerate(_digests(pool.images)) if name not in excluded]
        num_dropped = len(pool.images) - len(kept)
        if not num_dropped or len(kept) >= config.num_images:
            rows = None
            if pool.num_stored is not None:
                request = ImageRequest(task.color, side, limit, task.split_seed)
                rows = torch.from_numpy(request.choose(pool.num_stored))
            found = RegularizationImages(pool.images, pool.labels, rows, pool.num_stored)
            return found.take(kept)
        if len(pool.images) < limit:  # the dataset has no more images
            raise ConfigError(
                f"regularizer.num_images: {config.num_images} asked, but of the "
                f"{len(pool.images)} images of the regularization dataset {config.dataset!r} "
                f"{num_dropped} are validation or test images of the task, which leaves {len(kept)}"
            )
        limit *= 2


def _digests(images: Tensor) -> list[bytes]:
    """16 bytes for the content of each image; 0.4 s for 50,000 of 3x32x32 on one CPU core."""
    rows = images.cpu().contiguous().flatten(1).numpy()
    return [hashlib.blake2b(row, digest_size=16).digest() for row in rows]


def _files(dataset: str) -> tuple[str, str]:
    """Layout and folder, which are equal for all names of the same files."""
    kind, _, path = dataset.partition(":")
    layout = "folder" if kind == "imagenet" else kind
    return layout, os.path.realpath(path) if path else ""
