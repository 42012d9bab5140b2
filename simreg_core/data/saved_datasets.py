"""Folders that ``save_to_disk`` of Hugging Face's ``datasets`` writes, read without this library.

A dataset is a folder with a file ``state.json``, which lists Arrow files in the streaming format.
Several splits are folders of this kind in one folder, whose file ``dataset_dict.json`` lists them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from simreg_core.data.encoded import Indices
from simreg_core.data.image_tables import ImageTable, load_tables, rows_at_once
from simreg_core.data.images import ImagePool, ImageRequest
from simreg_core.data.listing import Listing
from simreg_core.data.split_names import Role, one_per_role, split_of
from simreg_core.errors import ConfigError, one_line
from simreg_core.registry import dataset
from simreg_core.storage.array_cache import file_stamp

_STATE, _SPLITS = "state.json", "dataset_dict.json"


@dataset("arrow", argument="PATH")
def load_saved(request: ImageRequest) -> ImagePool:
    """The folder that ``Dataset.save_to_disk`` or ``DatasetDict.save_to_disk`` wrote."""
    listing = Listing(Path(request.path))
    return load_tables(_find_files(listing), _reading, listing, request)


def _find_files(listing: Listing) -> dict[Role, list[Path]]:
    """The files of every split, in order; a dataset without splits is a training set."""
    root = listing.root
    if (root / _STATE).exists():
        return {"train": _data_files(root)}
    if (root / _SPLITS).exists():
        names = _listed(root / _SPLITS, "splits")
    else:
        names = [name for name in listing.folders(root) if (root / name / _STATE).exists()]
    found = one_per_role({str(root / name): split_of(name) for name in names})
    if "train" not in found:
        raise ConfigError(
            f"{root} holds no training set of save_to_disk (expected {_STATE}, or {_SPLITS} and "
            f"train/{_STATE}; found: {', '.join(names) or 'neither'})"
        )
    for name in names:
        if split_of(name) is None:
            listing.leave_out(root / name, f"in {name}, next to the splits")
    return {role: _data_files(Path(folder)) for role, folder in found.items()}


def _data_files(folder: Path) -> list[Path]:
    return [folder / name for name in _listed(folder / _STATE, "_data_files", "filename")]


def _listed(path: Path, key: str, inner: str | None = None) -> list[str]:
    """The texts, one or more, that a JSON file lists."""
    file_stamp(path)
    try:
        entries: Any = json.loads(path.read_text(encoding="utf-8"))[key]
        names = [entry if inner is None else entry[inner] for entry in entries]
    except (OSError, ValueError, LookupError, TypeError):
        names = []
    if not names or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{path} is not of save_to_disk: expected a list {key!r} of names")
    for name in names:
        if name in ("", "..") or Path(name).name != name:  # would lead out of the folder
            raise ConfigError(f"{path}: {key}: expected names without folders, found {name!r}")
    return names


@contextmanager
def _reading(path: Path) -> Iterator[ImageTable]:
    file_stamp(path)
    try:
        with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as stream:
            table = stream.read_all()  # reads no image: the values stay in the file
            yield ImageTable(
                table.schema, table.num_rows, partial(_column, table), partial(_batches, table)
            )
    except (pa.ArrowException, OSError, UnicodeError) as err:
        raise ConfigError(f"{path} is not a readable Arrow stream: {one_line(err)}") from err


def _column(table: pa.Table, name: str) -> pa.ChunkedArray:
    column = table.column(name)
    column.validate(full=True)  # a damaged file could point outside of its values
    return column


def _batches(table: pa.Table, name: str, rows: Indices) -> Iterator[tuple[int, pa.Array]]:
    first = 0
    for chunk in _column(table, name).chunks:
        size = rows_at_once(chunk.nbytes, len(chunk))
        for start in range(0, len(chunk), size):
            yield first + start, chunk[start : start + size]
        first += len(chunk)
