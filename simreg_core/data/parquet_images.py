"""Datasets in Parquet files, in the image layout of Hugging Face datasets.

A file has a column ``image``, a struct with the encoded ``bytes``, and optionally an integer column
``label``.
"""

from __future__ import annotations

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
    EncodedSplit,
    ImagePool,
    ImageRequest,
    Split,
    decode_splits,
)
from simreg_core.errors import ConfigError, one_line
from simreg_core.registry import dataset
from simreg_core.storage.array_cache import file_stamp


class _ParquetFile(NamedTuple):
    """A file whose layout has been checked."""

    path: Path
    num_images: int
    labels: Tensor | None


@dataset("parquet", takes_path=True)
def load_parquet(request: ImageRequest) -> ImagePool:
    """``PATH/train.parquet`` with, if it exists, ``PATH/test.parquet`` as test set.

    Without labels in one of the files, the dataset has no labels.
    """
    key, root = request.key, Path(request.path)
    train_path, test_path = root / "train.parquet", root / "test.parquet"
    if not train_path.is_file():
        raise ConfigError(
            f"{key}: {train_path} does not exist (expected a folder with train.parquet)"
        )
    train = _open(train_path, key)
    test = _open(test_path, key) if request.limit is None and test_path.is_file() else None
    chosen = request.choose(train.num_images)
    encoded = [_encoded(train, chosen, key)]
    if test is not None:
        encoded.append(_encoded(test, np.arange(test.num_images), key))
    images, *test_images = decode_splits(encoded, request)
    if train.labels is None or (test is not None and test.labels is None):
        return ImagePool(images, None, None, num_classes=0)
    split = None if test is None or test.labels is None else Split(test_images[0], test.labels)
    labels = train.labels if split is None else torch.cat([train.labels, split.labels])
    return ImagePool(images, train.labels[chosen], split, num_classes=int(labels.max()) + 1)


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
    return _ParquetFile(path, num_images, labels)


def _unreadable(path: Path, err: Exception, key: str) -> ConfigError:
    return ConfigError(f"{key}: {path} is not a readable Parquet file: {one_line(err)}")


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


def _encoded(file: _ParquetFile, rows: NDArray[np.int64], key: str) -> EncodedSplit:
    """The images in ``rows``, read by row groups to limit memory."""

    def batches() -> Iterator[list[EncodedImage]]:
        try:
            with pq.ParquetFile(file.path) as reader:
                first = 0
                for group in range(reader.num_row_groups):
                    end = first + reader.metadata.row_group(group).num_rows
                    positions = np.flatnonzero((rows >= first) & (rows < end))
                    if len(positions):
                        column = reader.read_row_group(group, columns=["image"]).column("image")
                        taken = column.take(pa.array(rows[positions] - first)).to_pylist()
                        yield [image(*found) for found in zip(taken, positions, strict=True)]
                    first = end
        except (pa.ArrowException, OSError) as err:
            raise _unreadable(file.path, err, key) from err

    def image(value: object, position: np.intp) -> EncodedImage:
        where = f"{file.path}: row {rows[position]}"
        data = value["bytes"] if isinstance(value, dict) else None
        if data is None:
            raise ConfigError(f"{key}: {where} holds no image bytes")
        return EncodedImage(int(position), where, data)

    return EncodedSplit(file.path, len(rows), batches, [file_stamp(file.path, key)])
