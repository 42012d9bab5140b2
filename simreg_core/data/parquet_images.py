"""Datasets in Parquet files, in the image layout of Hugging Face datasets.

A file has a column ``image``, a struct with the encoded ``bytes``, and maybe an integer column
``label``. The schema's metadata may hold ``class_names``, a JSON list.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from simreg_core.data.images import (
    EncodedImage,
    ImagePool,
    ImageRequest,
    Split,
    decode_images,
    require_one_shape,
)
from simreg_core.errors import ConfigError
from simreg_core.registry import dataset
from simreg_core.storage.array_cache import Arrays, cached_arrays, file_stamp


class _ParquetFile(NamedTuple):
    """A file that has been checked, all but its images."""

    path: Path
    num_images: int
    labels: Tensor | None
    class_names: list[str]


@dataset("parquet", takes_path=True)
def load_parquet(request: ImageRequest) -> ImagePool:
    """``PATH/train.parquet`` and, as test set, maybe ``PATH/test.parquet``.

    Labels are None where one of the two has none.

    Raises:
        ConfigError: a file is missing, damaged or not of the expected layout, or an image is
            damaged; or the images differ in size and the request names none.
    """
    key, root = request.key, Path(request.path)
    train_path, test_path = root / "train.parquet", root / "test.parquet"
    if not train_path.is_file():
        raise ConfigError(
            f"{key}: {train_path} does not exist (a folder with train.parquet is needed)"
        )
    train = _open(train_path, key)
    test = _open(test_path, key) if request.limit is None and test_path.is_file() else None
    chosen = request.choose(train.num_images)

    def build() -> Arrays:
        arrays = {"images": _decode(train, chosen, request)}
        if test is not None:
            arrays["test_images"] = _decode(test, np.arange(test.num_images), request)
        return arrays

    stamps = [file_stamp(file.path, key) for file in (train, test) if file is not None]
    arrays = cached_arrays([request.identity(), *stamps], build, key)
    return _pool(train, test, chosen, arrays, key)


def _pool(
    train: _ParquetFile,
    test: _ParquetFile | None,
    chosen: NDArray[np.int64],
    arrays: Arrays,
    key: str,
) -> ImagePool:
    images = torch.from_numpy(arrays["images"])
    if train.labels is None or (test is not None and test.labels is None):
        return ImagePool(images, None, None, num_classes=0)
    largest = int(train.labels.max())
    test_split = None
    if test is not None and test.labels is not None:
        require_one_shape(arrays["images"], arrays["test_images"], train.path, test.path, key)
        test_split = Split(torch.from_numpy(arrays["test_images"]), test.labels)
        largest = max(largest, int(test.labels.max()))
    num_classes = max(largest + 1, len(train.class_names))
    return ImagePool(images, train.labels[chosen], test_split, num_classes)


def _open(path: Path, key: str) -> _ParquetFile:
    try:
        with pq.ParquetFile(path) as file:
            schema, num_images = file.schema_arrow, file.metadata.num_rows
            has_labels = "label" in schema.names
            column = file.read(["label"]).column("label") if has_labels else None
    except (pa.ArrowException, OSError) as err:
        raise _unreadable(path, err, key) from err
    if not _holds_images(schema):
        has_column = "image" in schema.names
        raise ConfigError(
            f"{key}: {path} needs a column 'image' (struct of bytes and path), found "
            + (f"{schema.field('image').type}" if has_column else ", ".join(schema.names))
        )
    if not num_images:
        raise ConfigError(f"{key}: {path} holds no images")
    labels = None if column is None else _labels(column, path, key)
    return _ParquetFile(path, num_images, labels, _class_names(schema, path, key))


def _unreadable(path: Path, err: Exception, key: str) -> ConfigError:
    problem = " ".join(str(err).split())
    return ConfigError(f"{key}: {path} is not a readable Parquet file: {problem}")


def _holds_images(schema: pa.Schema) -> bool:
    if "image" not in schema.names:
        return False
    kind = schema.field("image").type
    return pa.types.is_struct(kind) and any(
        field.name == "bytes" and field.type in (pa.binary(), pa.large_binary()) for field in kind
    )


def _labels(column: pa.ChunkedArray, path: Path, key: str) -> Tensor:
    if not pa.types.is_integer(column.type) or column.null_count:
        raise ConfigError(
            f"{key}: {path}: column 'label' must hold integers, found {column.type} "
            f"with {column.null_count} nulls"
        )
    labels = column.to_numpy().astype(np.int64)
    if labels.min() < 0:
        raise ConfigError(f"{key}: {path}: labels start at 0, found {labels.min()}")
    return torch.from_numpy(labels)


def _class_names(schema: pa.Schema, path: Path, key: str) -> list[str]:
    text = (schema.metadata or {}).get(b"class_names", b"[]")
    try:
        names = json.loads(text)
    except ValueError as err:
        raise ConfigError(f"{key}: {path}: class_names is not a JSON list: {text!r}") from err
    if not isinstance(names, list):
        raise ConfigError(f"{key}: {path}: class_names is not a JSON list: {text!r}")
    return [str(name) for name in names]


def _decode(
    file: _ParquetFile, rows: NDArray[np.int64], request: ImageRequest
) -> NDArray[np.uint8]:
    try:
        return decode_images(_batches(file.path, rows, request.key), len(rows), request, file.path)
    except (pa.ArrowException, OSError) as err:
        raise _unreadable(file.path, err, request.key) from err


def _batches(path: Path, rows: NDArray[np.int64], key: str) -> Iterator[list[EncodedImage]]:
    """The images in ``rows``, one row group at a time: a large file never lies in memory whole."""
    with pq.ParquetFile(path) as file:
        first = 0
        for group in range(file.num_row_groups):
            end = first + file.metadata.row_group(group).num_rows
            positions = np.flatnonzero((rows >= first) & (rows < end))
            if len(positions):
                column = file.read_row_group(group, columns=["image"]).column("image")
                taken = column.take(pa.array(rows[positions] - first)).to_pylist()
                yield [
                    _encoded(value, int(position), path, int(rows[position]), key)
                    for value, position in zip(taken, positions, strict=True)
                ]
            first = end


def _encoded(value: object, position: int, path: Path, row: int, key: str) -> EncodedImage:
    data = value["bytes"] if isinstance(value, dict) else None
    if data is None:
        raise ConfigError(f"{key}: {path}: row {row} holds no image bytes")
    return EncodedImage(position, f"{path}: row {row}", data)
