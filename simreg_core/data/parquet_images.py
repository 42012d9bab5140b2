"""Datasets in Parquet files, in the image layouts of Hugging Face datasets.

A file has a column of images, a struct with the encoded ``bytes`` or the bytes themselves, and
optionally an integer column of labels. :mod:`simreg_core.data.parquet_schema` says which columns
these are, :mod:`simreg_core.data.parquet_files` which files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from simreg_core.data.encoded import EncodedDataset, EncodedImage, EncodedSplit, decode_splits
from simreg_core.data.images import ImagePool, ImageRequest, PoolInfo, Split
from simreg_core.data.listing import LeftOut
from simreg_core.data.parquet_files import find_files
from simreg_core.data.parquet_schema import (
    Columns,
    check_columns,
    choose_columns,
    class_names_of,
    labels_of,
)
from simreg_core.data.split_names import Role
from simreg_core.errors import ConfigError, one_line
from simreg_core.registry import dataset
from simreg_core.storage.array_cache import file_stamp

_BYTES_AT_ONCE = 2**26
_ROWS_AT_ONCE = 64
_BUFFER = 2**20


class _Shard(NamedTuple):
    """A file whose layout has been checked."""

    path: Path
    num_images: int
    labels: Tensor | None


class _Shards(NamedTuple):
    """The files of one split."""

    files: list[_Shard]
    column: str
    """Name of the column of images."""

    @property
    def num_images(self) -> int:
        """Number of images in all files."""
        return sum(file.num_images for file in self.files)

    def labels(self) -> Tensor | None:
        """Labels in all files; None if there are none."""
        found = [file.labels for file in self.files if file.labels is not None]
        return torch.cat(found) if found else None


@dataset("parquet", takes_path=True)
def load_parquet(request: ImageRequest) -> ImagePool:
    """``PATH/train.parquet`` or its shards, with, if they exist, ``test`` and ``validation``.

    Without labels in one of the splits, the dataset has no labels.
    """
    key, left_out = request.key, LeftOut()
    files = find_files(Path(request.path), left_out, key)
    schema = _schema(files["train"][0], key)
    columns = choose_columns(schema, files["train"][0], key)
    names = class_names_of(schema, columns.label, files["train"][0], key)
    read: list[Role] = [role for role in files if role == "train" or request.limit is None]
    splits = {role: _open(files[role], columns, key) for role in read}
    chosen = request.choose(splits["train"].num_images)
    encoded = [_encoded(splits[r], chosen if r == "train" else None, key) for r in read]

    def whole() -> list[EncodedSplit]:
        if request.limit is None:
            return encoded
        return [_encoded(_open(paths, columns, key), None, key) for paths in files.values()]

    images = dict(zip(read, decode_splits(EncodedDataset(encoded, whole), request), strict=True))
    info = PoolInfo(tuple(names), str(left_out), str(columns))
    labels = {
        role: labels for role, split in splits.items() if (labels := split.labels()) is not None
    }
    if len(labels) < len(read):
        return ImagePool(images["train"], None, None, num_classes=0, info=info)
    num_classes = max(len(names), *(int(found.max()) + 1 for found in labels.values()))
    held_out = {role: Split(images[role], labels[role]) for role in read if role != "train"}
    return ImagePool(
        images["train"],
        labels["train"][chosen],
        held_out.get("test"),
        num_classes,
        held_out.get("validation"),
        info,
    )


def _schema(path: Path, key: str) -> pa.Schema:
    try:
        with pq.ParquetFile(path) as file:
            return file.schema_arrow
    except (pa.ArrowException, OSError) as err:
        raise _unreadable(path, err, key) from err


def _open(paths: Sequence[Path], columns: Columns, key: str) -> _Shards:
    files = [_open_file(path, columns, key) for path in paths]
    labelled = [file.labels is not None for file in files]
    if len(set(labelled)) > 1:
        path = files[labelled.index(False)].path
        raise ConfigError(f"{key}: {path} has no column {columns.label!r}, other shards have it")
    return _Shards(files, columns.image)


def _open_file(path: Path, columns: Columns, key: str) -> _Shard:
    schema = _schema(path, key)
    check_columns(schema, columns, path, key)
    try:
        with pq.ParquetFile(path) as file:
            num_images = file.metadata.num_rows
            has_labels = columns.label in schema.names
            column = file.read([columns.label]).column(columns.label) if has_labels else None
    except (pa.ArrowException, OSError) as err:
        raise _unreadable(path, err, key) from err
    if not num_images:
        raise ConfigError(f"{key}: {path} holds no images")
    labels = None if column is None else labels_of(column, str(columns.label), path, key)
    return _Shard(path, num_images, labels)


def _unreadable(path: Path, err: Exception, key: str) -> ConfigError:
    return ConfigError(f"{key}: {path} is not a readable Parquet file: {one_line(err)}")


def _encoded(shards: _Shards, rows: NDArray[np.int64] | None, key: str) -> EncodedSplit:
    """The images in ``rows`` of all files together; None: all."""
    if rows is None:
        rows = np.arange(shards.num_images)
    order = np.argsort(rows)
    in_order = rows[order]

    def batches() -> Iterator[list[EncodedImage]]:
        first = 0
        for file in shards.files:
            for start, values in _read(file.path, shards.column, in_order - first, key):
                begin, end = np.searchsorted(in_order - first, (start, start + len(values)))
                taken = values.take(pa.array(in_order[begin:end] - first - start)).to_pylist()
                found = zip(taken, in_order[begin:end] - first, order[begin:end], strict=True)
                yield [_image(value, file.path, row, n, key) for value, row, n in found]
            first += file.num_images

    stamps = [file_stamp(file.path, key) for file in shards.files]
    return EncodedSplit(shards.files[0].path, len(rows), batches, stamps)


def _read(
    path: Path, column: str, rows: NDArray[np.int64], key: str
) -> Iterator[tuple[int, pa.Array]]:
    """Batches of the column that hold any of the sorted rows, each with its first row.

    Only a few images are in memory at a time, however large the row groups are.
    """
    try:
        with pq.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False) as reader:
            end = 0
            for number in range(reader.num_row_groups):
                group = reader.metadata.row_group(number)
                first, end = end, end + group.num_rows
                if not _any_between(rows, first, end):
                    continue
                options = {"row_groups": [number], "columns": [column]}
                for batch in reader.iter_batches(_num_rows_at_once(group, column), **options):
                    if _any_between(rows, first, first + len(batch)):
                        yield first, batch.column(0)
                    first += len(batch)
                    if not _any_between(rows, first, end):
                        break
    except (pa.ArrowException, OSError) as err:
        raise _unreadable(path, err, key) from err


def _any_between(rows: NDArray[np.int64], first: int, end: int) -> bool:
    begin, stop = np.searchsorted(rows, (first, end))
    return bool(begin < stop)


def _num_rows_at_once(group: pq.RowGroupMetaData, column: str) -> int:
    """Number of rows with about ``_BYTES_AT_ONCE`` of encoded images, at most a few dozen."""
    chunks = (group.column(n) for n in range(group.num_columns))
    size = sum(
        c.total_uncompressed_size for c in chunks if c.path_in_schema.split(".")[0] == column
    )
    mean = max(1, size // group.num_rows)
    return int(max(1, min(_ROWS_AT_ONCE, _BYTES_AT_ONCE // mean)))


def _image(value: object, path: Path, row: int, position: int, key: str) -> EncodedImage:
    where = f"{path}: row {row}"
    data = value["bytes"] if isinstance(value, dict) else value
    if not isinstance(data, bytes):
        raise ConfigError(f"{key}: {where} holds no image bytes")
    return EncodedImage(int(position), where, data)
