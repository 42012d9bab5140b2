"""CIFAR-10-C's own corrupted test images (Hendrycks, Dietterich, arXiv:1903.12261).

A folder holds ``labels.npy`` and one ``KIND.npy`` per corruption: uint8 (50000, 32, 32, 3), the
10,000 test images at severity 1, then at severity 2, and so on. They are converted as the task's
images are: to grey by ITU-R 601 luma, and to the task's size.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simreg_core.config.robustness import CorruptionsConfig
from simreg_core.config.trial import TaskConfig
from simreg_core.data.images import Split, resize, to_channels
from simreg_core.data.task import order_of_test_images
from simreg_core.errors import ConfigError
from simreg_core.registry import Attack
from simreg_core.results.measurements import CORRUPTION_PREFIX
from simreg_core.robustness.attack import AttackInput, Perturbation
from simreg_core.storage.array_cache import file_stamp

_NUM_IMAGES = 10_000
_SHAPE = (5 * _NUM_IMAGES, 32, 32, 3)
_KEY = "robustness.corruptions.folder"


class StoredCorruptions(NamedTuple):
    """The files of a folder, and which of their images the test split has."""

    files: dict[str, NDArray[np.uint8]]
    """By kind; read from disk as they are used."""
    order: NDArray[np.int64]
    """Of every image of the split, its row within a severity."""
    channels: int
    size: int

    def images(self, kind: str, severity: int, start: int, stop: int) -> Tensor:
        """Corrupted images ``start`` to ``stop`` of the split, uint8 (B, C, H, W), on the CPU."""
        rows = (severity - 1) * _NUM_IMAGES + self.order[start:stop]
        images = torch.from_numpy(self.files[kind][rows]).permute(0, 3, 1, 2)
        return resize(to_channels(images, self.channels == 3), self.size)

    def attack(self, kind: str) -> Attack:
        """A stored corruption as an attack whose epsilon is the severity."""

        def attack(batch: AttackInput) -> Perturbation:
            def corrupted(severity: float) -> Tensor:
                stop = batch.first + len(batch.images)
                images = self.images(kind, int(severity), batch.first, stop)
                return images.to(batch.images.device, torch.float32) / 255

            return corrupted

        return Attack(name=f"{CORRUPTION_PREFIX}{kind}", function=attack)


def open_folder(
    config: CorruptionsConfig | None, task: TaskConfig, test: Split
) -> StoredCorruptions | None:
    """The stored corruptions of the test split; None if no folder is configured.

    Raises:
        ConfigError: the folder or its labels are missing, no configured kind has a file there, a
            file has another layout, or the labels are not those of the test images.
    """
    if config is None or config.folder is None:
        return None
    folder = Path(config.folder)
    if not folder.is_dir():
        raise ConfigError(f"{_KEY}: {folder} does not exist (a folder of KIND.npy is needed)")
    files = {kind: _load(path, _SHAPE) for kind, path in _present(config.kinds, folder).items()}
    if not files:
        names = ", ".join(f"{kind}.npy" for kind in config.kinds)
        raise ConfigError(f"{_KEY}: {folder} holds none of {names}")
    labels = _load(folder / "labels.npy", _SHAPE[:1])[:_NUM_IMAGES]
    order = order_of_test_images(task, _NUM_IMAGES, len(test.labels)).numpy()
    num_other = _NUM_IMAGES
    if len(order) == len(test.labels):
        num_other = int((labels[order] != test.labels.cpu().numpy()).sum())
    if num_other:
        raise ConfigError(
            f"{_KEY}: {folder / 'labels.npy'} has other labels than the task's "
            f"{len(test.labels)} test images; expected CIFAR-10's test set in its own order"
        )
    return StoredCorruptions(files, order, *test.images.shape[1:3])


def stored_digest(config: CorruptionsConfig) -> str | None:
    """16 hexadecimal digits by which a changed file of the folder is noticed; None without one.

    They follow the path, size and date of every file of a configured kind.
    """
    if config.folder is None:
        return None
    present = _present(config.kinds, Path(config.folder))
    stamps = {kind: file_stamp(path, _KEY) for kind, path in present.items()}
    return hashlib.sha256(json.dumps(stamps).encode()).hexdigest()[:16]


def _present(kinds: Sequence[str], folder: Path) -> dict[str, Path]:
    """Files of the kinds that have one."""
    paths = {kind: folder / f"{kind}.npy" for kind in kinds}
    return {kind: path for kind, path in paths.items() if path.is_file()}


def _load(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    if not path.is_file():  # opening a pipe would wait for its writer
        raise ConfigError(f"{_KEY}: {path} does not exist, or is no file")
    try:
        # Not np.load, which opens archives as well, and for other files speaks of pickles.
        array: Any = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, EOFError) as err:
        reason = " ".join(str(err).split())
        raise ConfigError(f"{_KEY}: {path} is not a readable .npy file: {reason}") from err
    whole = np.issubdtype(array.dtype, np.integer) if len(shape) == 1 else array.dtype == np.uint8
    if array.shape != shape or not whole:
        raise ConfigError(
            f"{_KEY}: {path} holds {array.dtype} {array.shape}, expected uint8 {shape}"
        )
    result: NDArray[np.uint8] = array
    return result
