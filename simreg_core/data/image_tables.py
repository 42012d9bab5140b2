"""Datasets in tables of encoded images, in the layouts of Hugging Face datasets.

A table has a column of images, a struct with the encoded ``bytes`` or the bytes themselves, and
optionally an integer column of labels. What a file of tables is, its reader says.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from simreg_core.data.encoded import EncodedImage, EncodedSplit, Indices, load_encoded
from simreg_core.data.images import ImagePool, ImageRequest, PoolInfo
from simreg_core.data.listing import Listing
from simreg_core.data.split_names import Role
from simreg_core.errors import ConfigError, counted

_IMAGE_NAMES = ("image", "img", "images", "picture", "photo", "jpg", "png", "webp")
_LABEL_NAMES = ("label", "labels", "fine_label", "coarse_label", "target", "class", "cls")
_REQUIRED_INTEGERS = ("label", "labels")  # others may be texts or numbers that are no labels
_BINARY = (pa.binary(), pa.large_binary())
_BYTES_AT_ONCE = 2**26
_ROWS_AT_ONCE = 64


class ImageTable(NamedTuple):
    """One open file."""

    schema: pa.Schema
    num_rows: int
    column: Callable[[str], pa.ChunkedArray]
    """Returns all values of a column."""
    batches: Callable[[str, Indices], Iterator[tuple[int, pa.Array]]]
    """Yields the first row and the values of parts of a column, in order. They contain at least
    the given rows, and have :func:`rows_at_once`."""


Reading = Callable[[Path], AbstractContextManager[ImageTable]]


class _Columns(NamedTuple):
    """Names of the columns to read."""

    image: str
    label: str | None
    others: Sequence[str]
    """Further columns that could be the labels."""


def load_tables(
    files: Mapping[Role, Sequence[Path]], reading: Reading, listing: Listing, request: ImageRequest
) -> ImagePool:
    """The requested images in the files of every split, which ``reading`` opens.

    Raises:
        ConfigError: a file or an image is damaged, or has no column of images.
    """
    first = files["train"][0]
    with reading(first) as table:
        columns = _choose_columns(table.schema, first)
        names = _class_names(table.schema, columns.label, first)
    pool = load_encoded(files, lambda role: _open(files[role], reading, columns), names, request)
    chosen = f"column {columns.label} (not {', '.join(columns.others)})" if columns.others else ""
    info = PoolInfo(tuple(names), listing.left_out_text(), chosen, pool.info.no_labels)
    return pool._replace(info=info)


def rows_at_once(num_bytes: int, num_rows: int) -> int:
    """Number of rows with about ``_BYTES_AT_ONCE`` of encoded images, at most a few dozen."""
    return int(max(1, min(_ROWS_AT_ONCE, _BYTES_AT_ONCE * num_rows // max(1, num_bytes))))


def _choose_columns(schema: pa.Schema, path: Path) -> _Columns:
    """The columns of images and labels.

    Known names come first, in their order above. Without one, the only column of images, and the
    only class label of Hugging Face's metadata.
    """
    holding = [field.name for field in schema if _holds_images(field.type)]
    known = [name for name in _IMAGE_NAMES if name in holding]
    if not known and len(holding) != 1:
        raise _no_images(schema, _IMAGE_NAMES, path)
    labels = [
        name
        for name in _LABEL_NAMES
        if name in schema.names
        and (name in _REQUIRED_INTEGERS or pa.types.is_integer(schema.field(name).type))
    ]
    labels += [name for name in _hub_class_names(schema) if name not in labels]
    return _Columns((known or holding)[0], labels[0] if labels else None, labels[1:])


def _holds_images(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and field.type in _BINARY for field in kind)
    return kind in _BINARY


def _no_images(schema: pa.Schema, names: Sequence[str], path: Path) -> ConfigError:
    present = [str(schema.field(name).type) for name in names if name in schema.names]
    return ConfigError(
        f"{path} needs a column {' or '.join(map(repr, names[:2]))} (struct of bytes and "
        f"path, or bytes), found {present[0] if present else ', '.join(schema.names)}"
    )


def _class_names(schema: pa.Schema, label: str | None, path: Path) -> list[str]:
    """Names by label: the JSON list ``class_names`` of the metadata, or those of Hugging Face."""
    text = (schema.metadata or {}).get(b"class_names")
    if text is None:
        return _hub_class_names(schema).get(label or "", [])
    try:
        names = json.loads(text)
    except ValueError:
        names = None
    if not isinstance(names, list):
        raise ConfigError(f"{path}: class_names is not a JSON list: {text!r}")
    return [str(name) for name in names]


def _hub_class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Column to the names of its classes, from the metadata of the ``datasets`` library."""
    try:
        features: Any = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {
            column: [str(name) for name in feature["names"]]
            for column, feature in features.items()
            if column in schema.names and feature.get("_type") == "ClassLabel"
        }
    except (KeyError, ValueError, TypeError, AttributeError):  # of another version, or damaged
        return {}


def _open(paths: Sequence[Path], reading: Reading, columns: _Columns) -> EncodedSplit:
    """The images in the files of a split, whose layout is checked."""
    labels: list[Indices] = []
    num_images = 0
    for path in paths:
        with reading(path) as table:
            schema, num_rows = table.schema, table.num_rows
            name = columns.label if columns.label in schema.names else None
            column = None if name is None else table.column(name)
        if columns.image not in schema.names or not _holds_images(schema.field(columns.image).type):
            raise _no_images(schema, [columns.image], path)
        if not num_rows:
            raise ConfigError(f"{path} holds no images")
        if bool(name) != bool(labels) and path != paths[0]:
            raise ConfigError(
                f"{path} is one of several shards; only some have a column {columns.label!r}"
            )
        if column is not None:
            labels.append(_labels(column, f"{path}: column {columns.label!r}"))
        num_images += num_rows
    return EncodedSplit(
        np.concatenate(labels)
        if labels
        else f"{paths[0]} has no column of labels (found: {', '.join(schema.names)}; allowed: "
        f"{', '.join(_LABEL_NAMES)})",
        np.arange(num_images),
        partial(_batches, paths, reading, columns.image),
        lambda rows: paths,
    )


def _labels(column: pa.ChunkedArray, where: str) -> Indices:
    found = f"a column of type {column.type}"
    if pa.types.is_integer(column.type):
        found = counted(column.null_count, "row") + " without a value"
        if not column.null_count:
            labels: Indices = column.to_numpy().astype(np.int64)
            if labels.min() >= 0:
                return labels
            found = f"{labels.min()}"
    raise ConfigError(f"{where} must hold integers from 0, found {found}")


def _batches(
    paths: Sequence[Path], reading: Reading, column: str, rows: Indices
) -> Iterator[list[EncodedImage]]:
    """The images in some rows of all files together, in the order of the files.

    Only a few images are in memory at a time.
    """
    order = np.argsort(rows)
    wanted = rows[order]
    start = 0  # of the rows of a file, among those of all files
    for path in paths:
        with reading(path) as table:
            for first, values in table.batches(column, wanted - start):
                begin, end = np.searchsorted(wanted - start, (first, first + len(values)))
                yield [
                    _image(values[row - first].as_py(), f"{path}: row {row}", n)
                    for row, n in zip(
                        (wanted[begin:end] - start).tolist(), order[begin:end].tolist(), strict=True
                    )
                ]
            start += table.num_rows


def _image(value: object, where: str, position: int) -> EncodedImage:
    data = value["bytes"] if isinstance(value, dict) else value
    if not isinstance(data, bytes):
        path = value.get("path") if isinstance(value, dict) else None
        only = f", only the path {path!r}; allowed: files that embed their images" if path else ""
        raise ConfigError(f"{where} holds no image bytes{only}")
    return EncodedImage(position, where, data)
