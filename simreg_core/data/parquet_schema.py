"""Which columns of a Parquet file hold images and labels, and the names of the classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from simreg_core.errors import ConfigError

_IMAGE_NAMES = ("image", "img", "images", "picture", "photo", "jpg", "png", "webp")
_LABEL_NAMES = ("label", "labels", "fine_label", "coarse_label", "target", "class", "cls")
_REQUIRED_INTEGERS = ("label", "labels")  # others may be texts or numbers that are no labels
_BINARY = (pa.binary(), pa.large_binary())


class Columns(NamedTuple):
    """Names of the columns to read."""

    image: str
    label: str | None
    others: tuple[str, ...] = ()
    """Further columns that could be the labels."""

    def __str__(self) -> str:
        """The choice among several columns of labels; empty if there is one."""
        return f"column {self.label} (not {', '.join(self.others)})" if self.others else ""


def choose_columns(schema: pa.Schema, path: Path, key: str) -> Columns:
    """The columns of images and labels.

    Known names come first, in this order: image, img, ...; label, labels, fine_label, coarse_label,
    ... Without one, the only column of images, and the only class label of Hugging Face's metadata.

    Raises:
        ConfigError: there is no column of images, or there are several of unknown names.
    """
    holding = [field.name for field in schema if _holds_images(field.type)]
    known = [name for name in _IMAGE_NAMES if name in holding]
    if not known and len(holding) != 1:
        named = [name for name in _IMAGE_NAMES if name in schema.names]
        found = f"{schema.field(named[0]).type}" if named else ", ".join(schema.names)
        raise ConfigError(
            f"{key}: {path} needs a column 'image' or 'img' (struct of bytes and path, or bytes), "
            f"found {found}"
        )
    labels = [name for name in _LABEL_NAMES if name in schema.names and _may_be_label(schema, name)]
    labels += [name for name in _hub_class_names(schema) if name not in labels]
    return Columns((known or holding)[0], labels[0] if labels else None, tuple(labels[1:]))


def check_columns(schema: pa.Schema, columns: Columns, path: Path, key: str) -> None:
    """Check that a further file has the column of images."""
    name = columns.image
    if name not in schema.names or not _holds_images(schema.field(name).type):
        found = schema.field(name).type if name in schema.names else ", ".join(schema.names)
        raise ConfigError(
            f"{key}: {path} needs a column {name!r} (struct of bytes and path, or bytes), "
            f"found {found}"
        )


def labels_of(column: pa.ChunkedArray, name: str, path: Path, key: str) -> Tensor:
    """The labels int64 (N,)."""
    if not pa.types.is_integer(column.type) or column.null_count:
        raise ConfigError(
            f"{key}: {path}: column {name!r} must hold integers, found {column.type} "
            f"with {column.null_count} nulls"
        )
    labels = column.to_numpy().astype(np.int64)
    if labels.min() < 0:
        raise ConfigError(f"{key}: {path}: labels start at 0, found {labels.min()} in {name!r}")
    return torch.from_numpy(labels)


def class_names_of(schema: pa.Schema, label: str | None, path: Path, key: str) -> list[str]:
    """Names by label: the JSON list ``class_names`` of the metadata, or those of Hugging Face."""
    text = (schema.metadata or {}).get(b"class_names")
    if text is None:
        return _hub_class_names(schema).get(label or "", [])
    try:
        names = json.loads(text)
    except ValueError:
        names = None
    if not isinstance(names, list):
        raise ConfigError(f"{key}: {path}: class_names is not a JSON list: {text!r}")
    return [str(name) for name in names]


def _holds_images(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and field.type in _BINARY for field in kind)
    return kind in _BINARY


def _may_be_label(schema: pa.Schema, name: str) -> bool:
    return name in _REQUIRED_INTEGERS or bool(pa.types.is_integer(schema.field(name).type))


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
