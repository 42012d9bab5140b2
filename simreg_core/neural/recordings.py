"""Recordings: images, and the responses of neurons to them; read, checked and written.

Two formats are read. Responses are any finite numbers (spike counts, rates, dF/F).

``FILE.npz``, NumPy arrays without pickled objects; further arrays are ignored:

* ``images``: uint8 (I, H, W), (I, C, H, W) or (I, H, W, C), C = 1 or 3 (where both readings are
  possible, channels come first);
* ``responses``: (R, I, M), R repeats of every image; or (T, M), one row per trial, with
* ``image_index``: integers (T,) from 0 to I - 1, the image that each trial showed.

``FOLDER``, Parquet, which is also a dataset ``parquet:FOLDER`` of the recorded images:

* ``train.parquet``: the images, in the layout of the project's datasets (column ``image``);
* ``responses.parquet``: one row per trial; column ``image``: integers, the image's row; the
  responses as one column ``response`` of lists of M numbers, or as one number column per neuron,
  which it names. A column ``trial`` or ``repeat`` is ignored.

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
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from simreg_core.data.registry import load_dataset
from simreg_core.errors import ConfigError
from simreg_core.storage.atomic import atomic_file

_NOT_NEURONS = ("image", "trial", "repeat")


@dataclass(frozen=True, kw_only=True)
class Recordings:
    """Every image has at least one trial."""

    images: Tensor
    """uint8 (I, C, H, W)."""
    trials: Tensor
    """Responses of one trial a row, float32 (T, M)."""
    image_index: Tensor
    """int64 (T,): the image of each trial."""
    neurons: tuple[str, ...]
    """Names, M of them."""

    def num_trials(self) -> Tensor:
        """Trials of each image, int64 (I,)."""
        return torch.bincount(self.image_index, minlength=len(self.images))

    def mean_responses(self) -> Tensor:
        """Mean over the trials of each image, float64 (I, M)."""
        total = torch.zeros(len(self.images), self.trials.shape[1], dtype=torch.float64)
        total.index_add_(0, self.image_index, self.trials.to(torch.float64))
        return total / self.num_trials()[:, None]

    def noise_variance(self) -> Tensor:
        """Unbiased variance over the trials of each image, float64 (I, M); NaN for one trial."""
        deviation = self.trials.to(torch.float64) - self.mean_responses()[self.image_index]
        total = torch.zeros(len(self.images), self.trials.shape[1], dtype=torch.float64)
        total.index_add_(0, self.image_index, deviation.square())
        freedom = (self.num_trials() - 1).to(torch.float64)
        return total / torch.where(freedom > 0, freedom, torch.nan)[:, None]


def load_recordings(path: Path) -> Recordings:
    """The recordings in an ``.npz`` file or a Parquet folder.

    Raises:
        ConfigError: names the file and the array, what was found and what is allowed.
    """
    if path.is_dir():
        return _read_folder(path)
    _require_file(path)
    arrays = _read_npz(path)
    images = _images(arrays["images"], f"{path}: images")
    trials, index = _trials(arrays, len(images), path)
    return _checked(images, trials, index, path)


def save_recordings(
    recordings: Recordings, path: Path, extra: Mapping[str, NDArray[Any]] | None = None
) -> None:
    """Write an ``.npz`` file of trials, with further arrays beside; whole or absent."""
    arrays = {
        "images": recordings.images.numpy(),
        "responses": recordings.trials.numpy(),
        "image_index": recordings.image_index.numpy(),
    }
    with atomic_file(path) as stream:
        np.savez_compressed(stream, **{**(extra or {}), **arrays})  # type: ignore[arg-type]


def _require_file(path: Path) -> None:
    if path.exists() and not path.is_file():  # reading a pipe would wait for its writer
        raise ConfigError(f"{path}: no regular file")


def _read_npz(path: Path) -> dict[str, NDArray[Any]]:
    try:
        # NumPy leaves a file that it opened itself open where an archive is damaged.
        with path.open("rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ConfigError(f"{path}: expected an .npz archive, found a single array")
            names = [n for n in ("images", "responses", "image_index") if n in archive.files]
            missing = {"images", "responses"} - set(names)
            if missing:
                raise ConfigError(
                    f"{path}: array {sorted(missing)[0]!r} is missing; "
                    f"found: {', '.join(archive.files) or 'none'}"
                )
            return {name: archive[name] for name in names}
    except ConfigError:
        raise
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as err:
        reason = getattr(err, "strerror", None) or str(err)
        raise ConfigError(
            f"{path}: not a readable .npz file or Parquet folder: {' '.join(reason.split())}"
        ) from err


def _images(array: NDArray[Any], where: str) -> Tensor:
    allowed = "uint8 (I, H, W), (I, C, H, W) or (I, H, W, C) with C = 1 or 3"
    found = f"{array.dtype} {array.shape}"
    if array.dtype != np.uint8 or array.ndim not in (3, 4) or 0 in array.shape:
        raise ConfigError(f"{where}: expected {allowed}, found {found}")
    if array.ndim == 3:
        array = array[:, None]
    elif array.shape[1] not in (1, 3):
        if array.shape[3] not in (1, 3):
            raise ConfigError(f"{where}: expected {allowed}, found {found}")
        array = array.transpose(0, 3, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(array))


def _trials(
    arrays: Mapping[str, NDArray[Any]], num_images: int, path: Path
) -> tuple[NDArray[Any], NDArray[Any]]:
    responses, index = arrays["responses"], arrays.get("image_index")
    if responses.ndim == 3:
        if index is not None:
            raise ConfigError(
                f"{path}: image_index: only for responses of (trials, neurons); "
                f"responses are (repeats, images, neurons), {responses.shape}"
            )
        if responses.shape[1] != num_images:
            raise ConfigError(
                f"{path}: responses: expected (repeats, {num_images} images, neurons), "
                f"found {responses.shape}"
            )
        index = np.tile(np.arange(num_images), len(responses))
        return responses.reshape(len(index), responses.shape[2]), index
    if responses.ndim != 2:
        raise ConfigError(
            f"{path}: responses: expected (repeats, images, neurons) or (trials, neurons), "
            f"found {responses.shape}"
        )
    if index is None:
        raise ConfigError(
            f"{path}: image_index: missing; responses of (trials, neurons), {responses.shape}, "
            "need the image of each trial"
        )
    return responses, index


def _checked(
    images: Tensor,
    responses: NDArray[Any],
    index: NDArray[Any],
    path: Path,
    neurons: tuple[str, ...] | None = None,
) -> Recordings:
    if responses.dtype.kind not in "fiu" or 0 in responses.shape:
        raise ConfigError(
            f"{path}: responses: expected numbers for at least one trial and one neuron, "
            f"found {responses.dtype} {responses.shape}"
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite and is refused
        trials = responses.astype(np.float32)
    if not np.isfinite(trials).all():
        trial, neuron = np.argwhere(~np.isfinite(trials))[0]
        raise ConfigError(
            f"{path}: responses: expected finite numbers, "
            f"found {responses[trial, neuron]} (trial {trial}, neuron {neuron})"
        )
    _check_index(index, len(trials), len(images), path)
    return Recordings(
        images=images,
        trials=torch.from_numpy(trials),
        image_index=torch.from_numpy(index.astype(np.int64)),
        neurons=neurons or tuple(str(number) for number in range(trials.shape[1])),
    )


def _check_index(index: NDArray[Any], num_trials: int, num_images: int, path: Path) -> None:
    where = f"{path}: image_index"
    if index.dtype.kind not in "iu" or index.shape != (num_trials,):
        raise ConfigError(
            f"{where}: expected integers ({num_trials},), one per row of responses, "
            f"found {index.dtype} {index.shape}"
        )
    wrong = index[(index < 0) | (index >= num_images)]
    if len(wrong):
        raise ConfigError(
            f"{where}: expected 0 to {num_images - 1} ({num_images} images), found {wrong[0]}"
        )
    unseen = np.flatnonzero(np.bincount(index.astype(np.int64), minlength=num_images) == 0)
    if len(unseen):
        raise ConfigError(f"{where}: every image needs a trial, image {unseen[0]} has none")


def _read_folder(folder: Path) -> Recordings:
    images = load_dataset(
        f"parquet:{folder}", color=True, size=None, key=f"{folder}: images"
    ).images
    if torch.equal(images[:, :1].expand_as(images), images):
        images = images[:, :1].contiguous()
    path = folder / "responses.parquet"
    _require_file(path)
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as err:
        reason = " ".join(str(err).split())
        raise ConfigError(f"{path}: not a readable Parquet file: {reason}") from err
    if "image" not in table.column_names:
        raise ConfigError(
            f"{path}: column 'image' is missing; found: {', '.join(table.column_names)}"
        )
    neurons = tuple(name for name in table.column_names if name not in _NOT_NEURONS)
    if neurons == ("response",) and _is_list(table.schema.field("response").type):
        responses, names = _list_column(table.column("response"), path), None
    else:
        responses, names = _number_columns(table, neurons, path), neurons
    index = _column_array(table.column("image"), "image", path)
    return _checked(images, responses, index, path, names)


def _is_list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _list_column(column: pa.ChunkedArray, path: Path) -> NDArray[Any]:
    rows = column.to_pylist()
    lengths = {len(row) if row is not None else 0 for row in rows}
    if len(lengths) > 1:
        raise ConfigError(
            f"{path}: response: expected lists of one length, found {min(lengths)} "
            f"to {max(lengths)} numbers"
        )
    if not _is_number(column.type.value_type):
        raise ConfigError(f"{path}: response: expected lists of numbers, found {column.type}")
    return np.array(rows, dtype=np.float64)  # a null becomes NaN, which is refused with the others


def _number_columns(table: pa.Table, neurons: tuple[str, ...], path: Path) -> NDArray[Any]:
    if not neurons:
        raise ConfigError(
            f"{path}: responses: expected a column 'response' of lists or one number column per "
            f"neuron, found: {', '.join(table.column_names)}"
        )
    columns = [_column_array(table.column(name), name, path) for name in neurons]
    return np.stack([column.astype(np.float64) for column in columns], axis=1)


def _column_array(column: pa.ChunkedArray, name: str, path: Path) -> NDArray[Any]:
    if not _is_number(column.type) or column.null_count:
        raise ConfigError(
            f"{path}: {name}: expected numbers without nulls, found {column.type} "
            f"with {column.null_count} nulls"
        )
    array: NDArray[Any] = column.to_numpy()
    return array


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))
