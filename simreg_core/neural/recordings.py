"""Recordings of neurons: images and the responses to them.

Responses are finite numbers, such as spike counts, rates or dF/F. Two formats are supported.

``FILE.npz`` with NumPy arrays (no pickled objects; further arrays are ignored):

* ``images``: uint8 (I, H, W), (I, C, H, W) or (I, H, W, C) with C = 1 or 3. If a shape allows both
  readings, channels come first.
* ``responses``: (R, I, M) for R repeats of every image, or (T, M) for one row per trial.
* ``image_index``: integers (T,) from 0 to I - 1, the image of each trial; only with (T, M).

``FOLDER`` with Parquet files, which is also the dataset ``parquet:FOLDER`` of the recorded images:

* ``train.parquet``: the images (column ``image``).
* ``responses.parquet``: one row per trial. Column ``image`` holds the row number of the image. The
  responses are a column ``response`` of lists of M numbers, or one column of numbers per neuron,
  named after it. Columns ``trial`` and ``repeat`` are ignored.

Legend: I images, T trials, M neurons.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simreg_core.data.registry import load_dataset
from simreg_core.errors import ConfigError, one_line
from simreg_core.regularizer.features import LISTS, list_column, number_column
from simreg_core.results.tables import read_parquet
from simreg_core.storage.atomic import atomic_file
from simreg_core.storage.location import to_path

_RESPONSES_FILE = "responses.parquet"
_NOT_NEURONS = ("image", "trial", "repeat")


@dataclass(frozen=True, kw_only=True)
class Recordings:
    """Images and the responses to them; every image has at least one trial."""

    images: Tensor
    """uint8 (I, C, H, W)."""
    trials: Tensor
    """Responses, float32 (T, M)."""
    image_index: Tensor
    """Image of each trial, int64 (T,)."""
    neurons: tuple[str, ...]
    """M names."""

    def num_trials(self) -> Tensor:
        """Number of trials of each image, int64 (I,)."""
        return torch.bincount(self.image_index, minlength=len(self.images))

    def mean_responses(self) -> Tensor:
        """Mean over the trials of each image, float64 (I, M)."""
        return self._sum_by_image(self.trials.to(torch.float64)) / self.num_trials()[:, None]

    def noise_variance(self) -> Tensor:
        """Unbiased variance over the trials of each image, float64 (I, M); NaN for one trial."""
        deviation = self.trials.to(torch.float64) - self.mean_responses()[self.image_index]
        freedom = (self.num_trials() - 1).to(torch.float64)
        total = self._sum_by_image(deviation.square())
        return total / torch.where(freedom > 0, freedom, torch.nan)[:, None]

    def _sum_by_image(self, values: Tensor) -> Tensor:
        total = torch.zeros(len(self.images), values.shape[1], dtype=torch.float64)
        return total.index_add_(0, self.image_index, values)


def load_recordings(path: str | Path) -> Recordings:
    """Read recordings from an ``.npz`` file or a Parquet folder.

    Raises:
        ConfigError: the recordings are unreadable or malformed. The message names the file and the
            array or column.
    """
    path = to_path(path)
    file = path / _RESPONSES_FILE if path.is_dir() else path
    if file.exists() and not file.is_file():  # reading a pipe would block
        raise ConfigError(f"{file}: no regular file")
    if path.is_dir():
        return _read_folder(path)
    arrays = _read_npz(path)
    images = _images(arrays["images"], f"{path}: images")
    responses, index = _trials(arrays, len(images), path)
    return _checked(images, responses, index, path)


def save_recordings(
    recordings: Recordings, path: Path, extra: Mapping[str, NDArray[Any]] | None = None
) -> None:
    """Write recordings and further arrays to an ``.npz`` file, atomically."""
    arrays = {
        "images": recordings.images.numpy(),
        "responses": recordings.trials.numpy(),
        "image_index": recordings.image_index.numpy(),
    }
    with atomic_file(path) as stream:
        np.savez_compressed(stream, **{**(extra or {}), **arrays})  # type: ignore[arg-type]


def _read_npz(path: Path) -> dict[str, NDArray[Any]]:
    try:
        # If NumPy opens a damaged archive itself, it does not close it.
        with path.open("rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("a single array")
            for name in ("images", "responses"):
                if name not in archive:
                    found = ", ".join(archive) or "none"
                    raise ConfigError(f"{path}: array {name!r} is missing; found: {found}")
            return {n: archive[n] for n in ("images", "responses", "image_index") if n in archive}
    except ConfigError:
        raise
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as err:
        reason = getattr(err, "strerror", None) or one_line(err)
        raise ConfigError(f"{path}: not an .npz file or a Parquet folder: {reason}") from err


def _images(array: NDArray[Any], where: str) -> Tensor:
    found = f"{array.dtype} {array.shape}"
    is_image = array.dtype == np.uint8 and array.ndim in (3, 4) and 0 not in array.shape
    if is_image and array.ndim == 3:
        array = array[:, None]
    elif is_image and array.shape[1] not in (1, 3):
        array = array.transpose(0, 3, 1, 2)
    if not is_image or array.shape[1] not in (1, 3):
        allowed = "(I, H, W), (I, C, H, W) or (I, H, W, C) with C = 1 or 3"
        raise ConfigError(f"{where}: expected uint8 {allowed}, found {found}")
    return torch.from_numpy(np.ascontiguousarray(array))


def _trials(
    arrays: Mapping[str, NDArray[Any]], num_images: int, path: Path
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Responses (T, M) and the image of each trial (T,)."""
    responses, index = arrays["responses"], arrays.get("image_index")
    found = f"found responses {responses.shape}"
    is_repeated = responses.ndim == 3 and responses.shape[1] == num_images
    if not is_repeated and responses.ndim != 2:
        allowed = f"(repeats, {num_images} images, neurons) or (trials, neurons)"
        raise ConfigError(f"{path}: responses: expected {allowed}, {found}")
    if is_repeated:
        if index is not None:
            raise ConfigError(f"{path}: image_index: only for (trials, neurons), {found}")
        index = np.tile(np.arange(num_images), len(responses))
        return responses.reshape(len(index), responses.shape[2]), index
    if index is None:
        raise ConfigError(f"{path}: image_index: missing; (trials, neurons) needs it, {found}")
    return responses, index


def _checked(
    images: Tensor,
    responses: NDArray[Any],
    index: NDArray[Any],
    path: Path,
    neurons: tuple[str, ...] | None = None,
) -> Recordings:
    where = f"{path}: responses"
    if responses.dtype.kind not in "fiu" or 0 in responses.shape:
        allowed = "numbers for at least one trial and one neuron"
        found = f"{responses.dtype} {responses.shape}"
        raise ConfigError(f"{where}: expected {allowed}, found {found}")
    with np.errstate(over="ignore"):  # a value beyond float32 becomes infinite
        trials = responses.astype(np.float32)
    if not np.isfinite(trials).all():
        trial, neuron = np.argwhere(~np.isfinite(trials))[0]
        found = f"{responses[trial, neuron]} (trial {trial}, neuron {neuron})"
        raise ConfigError(f"{where}: expected finite numbers, found {found}")
    num_images, where = len(images), f"{path}: image_index"
    if index.dtype.kind not in "iu" or index.shape != (len(trials),):
        allowed = f"integers ({len(trials)},), one per row of responses"
        raise ConfigError(f"{where}: expected {allowed}, found {index.dtype} {index.shape}")
    if len(wrong := index[(index < 0) | (index >= num_images)]):
        raise ConfigError(f"{where}: expected 0 to {num_images - 1}, found {wrong[0]}")
    if len(unseen := np.setdiff1d(np.arange(num_images), index)):
        raise ConfigError(f"{where}: expected a trial of every image, image {unseen[0]} has none")
    return Recordings(
        images=images,
        trials=torch.from_numpy(trials),
        image_index=torch.from_numpy(index.astype(np.int64)),
        neurons=neurons or tuple(map(str, range(trials.shape[1]))),
    )


def _read_folder(folder: Path) -> Recordings:
    dataset = load_dataset(f"parquet:{folder}", color=True, size=None, key=f"{folder}: images")
    images = dataset.images
    if torch.equal(images[:, :1].expand_as(images), images):
        images = images[:, :1].contiguous()
    path = folder / _RESPONSES_FILE
    table = read_parquet(path)
    found = f"found: {', '.join(table.column_names)}"
    if "image" not in table.column_names:
        raise ConfigError(f"{path}: column 'image' is missing; {found}")
    index = number_column(table, "image", path)
    neurons = tuple(name for name in table.column_names if name not in _NOT_NEURONS)
    if not neurons:
        allowed = "a column 'response' of lists or one number column per neuron"
        raise ConfigError(f"{path}: responses: expected {allowed}, {found}")
    if neurons == ("response",) and isinstance(table.schema.field("response").type, LISTS):
        return _checked(images, list_column(table, "response", path), index, path)
    columns = [number_column(table, name, path).astype(np.float64) for name in neurons]
    return _checked(images, np.stack(columns, axis=1), index, path, neurons)
