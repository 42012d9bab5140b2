"""The data of a trial: a task's fixed splits, the regularization images, and pairs of them.

Images are uint8 tensors (N, C, H, W), C = 1 (grey) or 3 (RGB); labels are int64 (N,) from 0.
Nothing is downloaded; :mod:`simreg_core.datasets` says where each dataset comes from.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from simreg_core.config.trial import RegularizerConfig, TaskConfig
from simreg_core.data.images import Split, resize
from simreg_core.data.registry import load_dataset
from simreg_core.errors import ConfigError
from simreg_core.registry import DATASETS, TARGETS
from simreg_core.seeding import generator

_MIN_REST = 3  # two training images and one for validation


class RegularizationImages(NamedTuple):
    """The N regularization images uint8 (N, C, H, W); their labels int64 (N,), if they have any."""

    images: Tensor
    labels: Tensor | None

    def to(self, device: torch.device) -> RegularizationImages:
        """The same on ``device``."""
        labels = None if self.labels is None else self.labels.to(device)
        return RegularizationImages(self.images.to(device), labels)


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
        ConfigError: a file is missing or damaged, there are too few images, or the labels are not
            those of two or more classes that can be learned.
    """
    pool = load_dataset(
        config.dataset, color=config.color, size=config.image_size, key="task.dataset"
    )
    if pool.labels is None:
        raise ConfigError(f"task.dataset: {config.dataset} has no labels")
    if config.dataset not in DATASETS.own:  # those have their published labels
        _check_labels(pool.labels, pool.test, config)
    order = torch.randperm(len(pool.images), generator=generator(config.split_seed, "split"))
    if pool.test is None:
        if config.num_test is None:
            raise ConfigError(
                f"task.num_test: {config.dataset} has no test set, so the number of images to hold "
                f"out must be given (it has {len(order)} images)"
            )
        if config.num_test > len(order) - _MIN_REST:
            raise ConfigError(
                f"task.num_test: {config.num_test} asked of {config.dataset}, which has "
                f"{len(order)} images in all (training needs 2 of them, validation 1)"
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
            f"{config.dataset}, which has {len(order)} left beside the test set"
        )
    validation_index = order[:num_validation]
    train_index = order[num_validation : num_validation + num_train]
    train = Split(pool.images[train_index], pool.labels[train_index])
    validation = Split(pool.images[validation_index], pool.labels[validation_index])
    return TaskData(
        train, validation, test, pool.num_classes, _fingerprint(train, validation, test)
    )


def _check_labels(labels: Tensor, test: Split | None, config: TaskConfig) -> None:
    """Labels are 0 to K - 1, each in the training images; no other is in the test set."""
    where = f"task.dataset: {config.dataset}"
    present = labels.unique()
    if len(present) < 2:
        raise ConfigError(f"{where}: all training images have label {int(present[0])}")
    gaps = (present != torch.arange(len(present))).nonzero()
    if len(gaps):
        raise ConfigError(
            f"{where}: the training images have {len(present)} labels, which must be 0 to "
            f"{len(present) - 1}; found {int(present[-1])}, but no image with label {int(gaps[0])}"
        )
    unknown = [] if test is None else test.labels[test.labels >= len(present)].tolist()
    if unknown:
        raise ConfigError(
            f"{where}: the test set has images with label {unknown[0]}, the training images have "
            f"labels 0 to {len(present) - 1} only"
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


def load_regularization_images(
    config: RegularizerConfig, task: TaskConfig, train: Split, held_out: Sequence[Split]
) -> RegularizationImages:
    """The N regularization images, with the channels and size of the task's.

    Images that a network is measured on never regularize it: the task's own dataset contributes
    its training images only. Of another dataset's training images N are drawn by
    ``task.split_seed``, those left out that are pixel by pixel among the held-out ones; those of a
    smaller N begin those of a larger one.

    Args:
        config: The dataset, N, and the target.
        task: The task that is trained.
        train: The task's training split.
        held_out: Its validation and test split.

    Raises:
        ConfigError: the dataset cannot be read, has fewer than N images that can be used, or no
            labels where the target needs them.
    """
    if config.dataset == "task" or _files(config.dataset) == _files(task.dataset):
        found = RegularizationImages(*train)
    else:
        found = _other_images(config, task, train.images.shape[-1], held_out)
    if config.num_images > len(found.images):
        raise ConfigError(
            f"regularizer.num_images: {config.num_images} asked, but the regularization "
            f"dataset {config.dataset!r} has {len(found.images)} images"
        )
    if TARGETS.get(config.target).needs_labels and found.labels is None:
        raise ConfigError(
            f"regularizer.target: {config.target} needs labels; the regularization dataset "
            f"{config.dataset!r} has none"
        )
    chosen = slice(config.num_images)
    return RegularizationImages(
        found.images[chosen], None if found.labels is None else found.labels[chosen]
    )


def _other_images(
    config: RegularizerConfig, task: TaskConfig, side: int, held_out: Sequence[Split]
) -> RegularizationImages:
    """At least N images of another dataset in the drawn order, without the held-out ones.

    The square that is cut from an image is the same, whoever cuts it: at the same side, equal
    images are equal.
    """
    excluded = _digests(resize(split.images, side) for split in held_out)
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
        kept = [n for n, name in enumerate(_digests_in_order(pool.images)) if name not in excluded]
        num_dropped = len(pool.images) - len(kept)
        if not num_dropped:
            return RegularizationImages(pool.images, pool.labels)
        if len(kept) >= config.num_images:
            labels = None if pool.labels is None else pool.labels[kept]
            return RegularizationImages(pool.images[kept], labels)
        if len(pool.images) < limit:  # that is all there are
            raise ConfigError(
                f"regularizer.num_images: {config.num_images} asked, but of the "
                f"{len(pool.images)} images of the regularization dataset {config.dataset!r} "
                f"{num_dropped} are validation or test images of the task, which leaves {len(kept)}"
            )
        limit *= 2


def _digests(images: Iterable[Tensor]) -> set[bytes]:
    return {digest for part in images for digest in _digests_in_order(part)}


def _digests_in_order(images: Tensor) -> list[bytes]:
    """16 bytes that name each image's content; 0.4 s for 50,000 of 3x32x32 on one CPU core."""
    rows = images.cpu().contiguous().flatten(1).numpy()
    return [hashlib.blake2b(row, digest_size=16).digest() for row in rows]


def _files(dataset: str) -> tuple[str, str]:
    """What all names of the same files have in common: layout and folder."""
    kind, _, path = dataset.partition(":")
    layout = "folder" if kind == "imagenet" else kind
    return layout, os.path.realpath(path) if path else ""
