"""The corrupted test images of CIFAR-10-C (Hendrycks, Dietterich, arXiv:1903.12261).

A folder holds ``labels.npy`` and one ``KIND.npy`` per corruption: uint8 (50000, 32, 32, 3), the
10,000 test images at severity 1, then at severity 2, and so on. They are converted like the task's
images: to grey by ITU-R 601 luma, and to the task's size.
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
from simreg_core.errors import ConfigError, concerning, one_line
from simreg_core.registry import CORRUPTION_PREFIX, Attack
from simreg_core.robustness.attack import AttackInput, Perturbation
from simreg_core.storage.array_cache import file_stamp

_NUM_IMAGES = 10_000
_SHAPE = (5 * _NUM_IMAGES, 32, 32, 3)
_KEY = "robustness.corruptions.folder"


class StoredCorruptions(NamedTuple):
    """The files of a folder, and the rows of the test split's images in them."""

    files: dict[str, NDArray[np.uint8]]
    """Memory-mapped, by kind."""
    order: NDArray[np.int64]
    """Row within a severity of every image of the split."""
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
        ConfigError: the folder or its labels are missing, it has no file of a configured kind, a
            file has another layout, or the labels are not those of the test images.
    """
    if config is None or config.folder is None:
        return None
    folder = Path(config.folder)
    if not folder.is_dir():
        raise ConfigError(f"{_KEY}: {folder} does not exist; expected a folder of KIND.npy files")
    files = {kind: _load(path, _SHAPE) for kind, path in _present(config.kinds, folder).items()}
    if not files:
        names = ", ".join(f"{kind}.npy" for kind in config.kinds)
        raise ConfigError(f"{_KEY}: {folder} holds none of {names}")
    labels = _load(folder / "labels.npy", (_SHAPE[0],))[:_NUM_IMAGES]
    order = order_of_test_images(task, _NUM_IMAGES, len(test.labels)).numpy()
    if not np.array_equal(labels[order], test.labels.cpu().numpy()):
        raise ConfigError(
            f"{_KEY}: {folder / 'labels.npy'} has other labels than the task's "
            f"{len(test.labels)} test images; expected CIFAR-10's test set in its own order"
        )
    return StoredCorruptions(files, order, *test.images.shape[1:3])


def stored_digest(config: CorruptionsConfig) -> str | None:
    """Digest of path, size and date of the configured kinds' files; None without a folder."""
    if config.folder is None:
        return None
    present = _present(config.kinds, Path(config.folder))
    with concerning(_KEY):
        stamps = {kind: file_stamp(path) for kind, path in present.items()}
    return hashlib.sha256(json.dumps(stamps).encode()).hexdigest()[:16]


def _present(kinds: Sequence[str], folder: Path) -> dict[str, Path]:
    """Files of the kinds that have one."""
    paths = {kind: folder / f"{kind}.npy" for kind in kinds}
    return {kind: path for kind, path in paths.items() if path.is_file()}


def _load(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    if not path.is_file():  # opening a pipe would block
        raise ConfigError(f"{_KEY}: {path} does not exist or is not a file")
    try:
        # np.load would also open archives, and its errors mention pickles.
        array: Any = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, EOFError) as err:
        raise ConfigError(f"{_KEY}: {path} is not a readable .npy file: {one_line(err)}") from err
    is_typed = array.dtype.kind in "iu" if len(shape) == 1 else array.dtype == np.uint8
    if array.shape != shape or not is_typed:
        raise ConfigError(
            f"{_KEY}: {path} holds {array.dtype} {array.shape}, expected uint8 {shape}"
        )
    result: NDArray[np.uint8] = array
    return result
